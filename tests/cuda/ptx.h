// What translated kernels are made of: their threads, and the instructions that C has no operator for. Registers are unsigned
// integers of 16, 32 or 64 bits; f32, f64, f16 and bf16 are read out of them.
#include <math.h>
#include <stdint.h>
#include <string.h>

// What lanes of a warp give each other: two sets, so that one exchange may begin before all have read the last.
typedef struct {
  uint32_t words[2][32][24];
} Warp;
typedef struct Thread {
  unsigned tid[3], ctaid[3], ntid[3], nctaid[3], lane;
  char *shared;
  void **arguments;
  Warp *warp;
  unsigned exchanges;
  // Bytes of global memory, asked for and given.
  uint64_t moved;
  // Instructions, about.
  uint64_t issued;
  // The scheduler's.
  int state;
  unsigned mask;
  void *stack;
} Thread;
typedef void (*Kernel)(Thread *);
void ptx_run(Kernel kernel, unsigned *blocks, unsigned *shape, unsigned shared_bytes, void **arguments, int meets);
// Waits for all threads of the block, for those of the warp in `mask`.
void ptx_block(Thread *t);
void ptx_warp(Thread *t, unsigned mask);

#define INLINE static inline __attribute__((always_inline))

// ---- numbers

INLINE float f32(uint32_t x) { float f; memcpy(&f, &x, 4); return f; }
INLINE uint32_t of_f32(float f) { uint32_t x; memcpy(&x, &f, 4); return x; }
INLINE double f64(uint64_t x) { double f; memcpy(&f, &x, 8); return f; }
INLINE uint64_t of_f64(double f) { uint64_t x; memcpy(&x, &f, 8); return x; }
INLINE float f16(uint16_t x) { _Float16 f; memcpy(&f, &x, 2); return f; }
INLINE uint16_t of_f16(double f) { _Float16 h = f; uint16_t x; memcpy(&x, &h, 2); return x; }
INLINE float bf16(uint16_t x) { return f32((uint32_t)x << 16); }
INLINE uint16_t of_bf16(double d) {
  float f = d;
  uint32_t x = of_f32(f);
  if (d != d) return 0x7fff;
  // To odd first, so that two roundings come to one.
  if ((double)f != d) x = (fabs((double)f) > fabs(d) ? x - 1 : x) | 1;
  return (x + 0x7fff + ((x >> 16) & 1)) >> 16;
}
INLINE uint16_t of_bf16_cut(float f) { return of_f32(f) >> 16; }
// Ties away from zero.
INLINE uint32_t tf32(float f) { return (of_f32(f) + 0x1000) & ~0x1fffu; }
INLINE double larger(double a, double b) { return a != a ? b : b != b ? a : a > b || (a == b && signbit(b)) ? a : b; }
INLINE double smaller(double a, double b) { return a != a ? b : b != b ? a : a < b || (a == b && signbit(a)) ? a : b; }
INLINE int64_t to_signed(double v, double low, double high) {
  if (v != v) return 0;
  return v <= low ? (int64_t)low : v >= high ? (high > 9e18 ? INT64_MAX : (int64_t)high) : (int64_t)v;
}
INLINE uint64_t to_unsigned(double v, double high) {
  if (!(v > 0)) return 0;
  return v >= high ? (high > 1.8e19 ? UINT64_MAX : (uint64_t)high) : (uint64_t)v;
}

// ---- bits

INLINE uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint64_t bytes = (uint64_t)b << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; i++) {
    unsigned which = selector >> (4 * i) & 15;
    uint8_t byte = bytes >> (8 * (which & 7));
    if (which & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= (uint32_t)byte << (8 * i);
  }
  return out;
}
INLINE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, int table) {
  uint32_t out = 0;
  for (int i = 0; i < 8; i++)
    if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return out;
}

// ---- between the lanes of a warp

typedef uint32_t (*Given)[24];
INLINE Given give(Thread *t, unsigned mask, int count, const uint32_t *words) {
  Given given = t->warp->words[t->exchanges++ & 1];
  memcpy(given[t->lane], words, 4 * count);
  ptx_warp(t, mask);
  return given;
}
enum { SHFL_IDX, SHFL_UP, SHFL_DOWN, SHFL_BFLY };
INLINE uint32_t shfl(Thread *t, int kind, uint32_t a, uint32_t b, uint32_t c, unsigned mask, int *in_range) {
  Given given = give(t, mask, 1, &a);
  int lane = t->lane, segment = c >> 8 & 31, clamp = c & 31, by = b & 31;
  int least = lane & segment, most = least | (clamp & ~segment);
  int from = kind == SHFL_IDX ? least | (by & ~segment) : kind == SHFL_UP ? lane - by : kind == SHFL_DOWN ? lane + by : lane ^ by;
  int ok = kind == SHFL_UP ? from >= most : from <= most;
  if (in_range) *in_range = ok;
  return given[ok ? from : lane][0];
}
INLINE uint32_t ballot(Thread *t, uint32_t holds, unsigned mask) {
  Given given = give(t, mask, 1, &holds);
  uint32_t out = 0;
  for (int i = 0; i < 32; i++)
    if (mask >> i & 1 && given[i][0]) out |= 1u << i;
  return out;
}

// ---- products of small matrices: sums in f32, in order

enum { OF_BF16, OF_F16, OF_TF32 };
INLINE float half_of(int kind, uint32_t word, int high) {
  uint16_t x = high ? word >> 16 : word;
  return kind == OF_F16 ? f16(x) : bf16(x);
}
// mma.sync m16n8kK, by the layouts of the PTX manual.
INLINE void mma(Thread *t, int kind, int k, uint32_t *d, const uint32_t *a, const uint32_t *b, const uint32_t *c) {
  int two = kind == OF_TF32 ? 1 : 2, count_a = k / 2 / two, count_b = k / 4 / two;
  uint32_t words[12];
  memcpy(words, a, 4 * count_a);
  memcpy(words + count_a, b, 4 * count_b);
  Given given = give(t, ~0u, count_a + count_b, words);
  int group = t->lane >> 2, place = t->lane & 3, half_k = 4 * two;
  for (int i = 0; i < 4; i++) {
    int row = group + (i >= 2 ? 8 : 0), column = place * 2 + (i & 1);
    float sum = 0;
    for (int at = 0; at < k; at++) {
      int lane = (at % half_k) / two, upper = at >= half_k;
      uint32_t x = given[(row & 7) * 4 + lane][(row >= 8) + 2 * upper], y = given[column * 4 + lane][count_a + upper];
      sum = kind == OF_TF32 ? fmaf(f32(x & ~0x1fffu), f32(y & ~0x1fffu), sum) : fmaf(half_of(kind, x, at & 1), half_of(kind, y, at & 1), sum);
    }
    d[i] = of_f32(sum + f32(c[i]));
  }
}
INLINE void ldmatrix(Thread *t, int count, int transposed, uint32_t *d, uint64_t address) {
  uint32_t words[2] = {address, address >> 32};
  Given given = give(t, ~0u, 2, words);
  for (int m = 0; m < count; m++) {
    int row = t->lane >> 2, column = (t->lane & 3) * 2;
    uint16_t pair[2];
    for (int e = 0; e < 2; e++) {
      uint32_t *from = given[m * 8 + (transposed ? column + e : row)];
      pair[e] = ((uint16_t *)((uint64_t)from[1] << 32 | from[0]))[transposed ? row : column + e];
    }
    d[m] = pair[0] | (uint32_t)pair[1] << 16;
  }
}
// wmma's fragments have a layout that programs may not know. Ours: a lane has so many elements in a row of the row-major tile.
INLINE void wmma_load16(Thread *t, uint32_t *d, int words, int rows, int columns, int by_rows, uint64_t address, uint32_t stride) {
  int each = rows * columns / 32;
  memset(d, 0, 4 * words);
  for (int i = 0; i < each; i++) {
    int row = (t->lane * each + i) / columns, column = (t->lane * each + i) % columns;
    d[i / 2] |= (uint32_t)((uint16_t *)address)[by_rows ? row * stride + column : column * stride + row] << (16 * (i & 1));
  }
}
INLINE void wmma_load32(Thread *t, uint32_t *d, int words, int rows, int columns, int by_rows, uint64_t address, uint32_t stride) {
  for (int i = 0; i < words; i++) {
    int row = (t->lane * words + i) / columns, column = (t->lane * words + i) % columns;
    d[i] = ((uint32_t *)address)[by_rows ? row * stride + column : column * stride + row];
  }
}
INLINE void wmma_store32(Thread *t, const uint32_t *d, int words, int columns, int by_rows, uint64_t address, uint32_t stride) {
  for (int i = 0; i < words; i++) {
    int row = (t->lane * words + i) / columns, column = (t->lane * words + i) % columns;
    ((uint32_t *)address)[by_rows ? row * stride + column : column * stride + row] = d[i];
  }
}
INLINE float wmma_element(int kind, Given given, int first, int element, int each) {
  uint32_t *words = given[element / each] + first;
  int i = element % each;
  return kind == OF_TF32 ? f32(words[i] & ~0x1fffu) : half_of(kind, words[i / 2], i & 1);
}
INLINE void wmma_mma(Thread *t, int kind, int m, int n, int k, uint32_t *d, const uint32_t *a, const uint32_t *b, const uint32_t *c) {
  int each_a = m * k / 32, each_b = n * k / 32, two = kind == OF_TF32 ? 1 : 2, each = m * n / 32;
  uint32_t words[24];
  memcpy(words, a, 4 * each_a / two);
  memcpy(words + each_a / two, b, 4 * each_b / two);
  Given given = give(t, ~0u, (each_a + each_b) / two, words);
  for (int i = 0; i < each; i++) {
    int row = (t->lane * each + i) / n, column = (t->lane * each + i) % n;
    float sum = 0;
    for (int at = 0; at < k; at++)
      sum = fmaf(wmma_element(kind, given, 0, row * k + at, each_a), wmma_element(kind, given, each_a / two, at * n + column, each_b), sum);
    d[i] = of_f32(sum + f32(c[i]));
  }
}
