// A CUDA driver with no GPU behind it: device memory is the host's, and a module's PTX is assembled by NVIDIA's assembler, where
// that is there, and translated to C (ptx_to_c.py), whose blocks run one after the other. What CubeCL does with a driver, and what
// its kernels compute, can so be tested on a CPU, slowly. See imitated.sh.
//
// IMITATED_GPUS (1), IMITATED_NAME, IMITATED_SM (80), IMITATED_CORES (8), IMITATED_DRIVER (12080) and IMITATED_MIB (8192) say what is
// imitated.
// IMITATED_KERNELS=none runs no kernel: what the host does in a step, and the memory it asks for, at any size; =own all but products of
// matrices, whose results are then what was there before.
// IMITATED_LOG names a file of all launches, with the bytes of global memory that their threads read and write and the instructions
// that they issue, and of allocations.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ptx.h"

typedef int Result; // CUresult: 0 is success
typedef uint64_t Pointer;
typedef void *Handle;
enum { OUT_OF_MEMORY = 2, INVALID_VALUE = 1, INVALID_PTX = 218, NOT_FOUND = 500 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value ? atol(value) : otherwise;
}

static int kernels_are(const char *which) {
  const char *value = getenv("IMITATED_KERNELS");
  return value && !strcmp(value, which);
}
static int runs_kernels(void) { return !kernels_are("none"); }

static void note(const char *what) {
  static FILE *log;
  const char *path = getenv("IMITATED_LOG");
  if (!path) return;
  pthread_mutex_lock(&lock);
  if (!log) log = fopen(path, "a");
  if (log) fprintf(log, "%s\n", what), fflush(log);
  pthread_mutex_unlock(&lock);
}

// ---- the device

Result cuInit(unsigned flags) { return 0; }
Result cuGetExportTable(const void **table, const void *id) { return *table = 0, NOT_FOUND; } // NVRTC asks, and does without
Result cuDriverGetVersion(int *version) { return *version = setting("IMITATED_DRIVER", 12080), 0; }
Result cuDeviceGetCount(int *count) { return *count = setting("IMITATED_GPUS", 1), 0; }
Result cuDeviceGet(int *device, int index) { return *device = index, 0; }
Result cuDeviceGetName(char *name, int length, int device) {
  const char *other = getenv("IMITATED_NAME");
  return snprintf(name, length, "%s", other ? other : "imitated NVIDIA GPU"), 0;
}
Result cuDeviceGetPCIBusId(char *id, int length, int device) { return snprintf(id, length, "0000:%02x:00.0", device + 1), 0; }
Result cuDeviceGetUuid_v2(char *id, int device) { return memset(id, device + 1, 16), 0; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)setting("IMITATED_MIB", 8192) << 20, 0; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  long sm = setting("IMITATED_SM", 80);
  switch (attribute) {
  case 1: case 2: case 3: return *value = 1024, 0;                         // threads a block, and along x and y
  case 4: return *value = 64, 0;                                          // along z
  case 5: return *value = 2147483647, 0;                                  // blocks along x
  case 6: case 7: return *value = 65535, 0;                               // along y and z
  case 8: return *value = 49152, 0;                                       // shared memory a block
  case 97: return *value = sm >= 90 ? 232448 : 166912, 0;                 // and where asked for
  case 10: return *value = 32, 0;                                         // threads a warp
  case 16: return *value = setting("IMITATED_CORES", 8), 0;               // multiprocessors
  case 75: return *value = sm / 10, 0;
  case 76: return *value = sm % 10, 0;
  default: return *value = 1, 0;
  }
}
static __thread Handle current;
Result cuDevicePrimaryCtxRetain(Handle *context, int device) { return *context = (Handle)(intptr_t)(device + 1), 0; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
Result cuCtxSetCurrent(Handle context) { return current = context, 0; }
Result cuCtxGetCurrent(Handle *context) { return *context = current, 0; }
Result cuCtxGetDevice(int *device) { return *device = (int)(intptr_t)current - 1, 0; }
Result cuCtxSynchronize(void) { return 0; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, 0; }
Result cuGetErrorName(Result error, const char **name) { return *name = "IMITATED_ERROR", 0; }
Result cuGetErrorString(Result error, const char **text) { return *text = "an error of the imitated driver", 0; }

// ---- memory

typedef struct { Pointer at; size_t bytes; } Allocation;
static Allocation held[1 << 18];
static size_t held_count, held_bytes, peak_bytes;
static long launches;

__attribute__((destructor)) static void summary(void) {
  char line[160];
  snprintf(line, sizeof line, "peak %zu MiB, launches %ld", peak_bytes >> 20, launches);
  note(line);
}
Result cuMemAlloc_v2(Pointer *at, size_t bytes) {
  size_t most = (size_t)setting("IMITATED_MIB", 8192) << 20;
  pthread_mutex_lock(&lock);
  void *memory = MAP_FAILED;
  if (held_bytes + bytes <= most && held_count < sizeof held / sizeof *held)
    memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) {
    held[held_count++] = (Allocation){(Pointer)memory, bytes};
    held_bytes += bytes;
    if (held_bytes > peak_bytes) peak_bytes = held_bytes;
  }
  char line[160];
  snprintf(line, sizeof line, "memory %zu KiB more, %zu MiB held", bytes >> 10, held_bytes >> 20);
  pthread_mutex_unlock(&lock);
  note(line);
  *at = (Pointer)memory;
  return memory == MAP_FAILED ? OUT_OF_MEMORY : 0;
}
Result cuMemFree_v2(Pointer at) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < held_count; i++) {
    if (held[i].at != at) continue;
    munmap((void *)at, held[i].bytes);
    held_bytes -= held[i].bytes;
    held[i] = held[--held_count];
    break;
  }
  pthread_mutex_unlock(&lock);
  return 0;
}
Result cuMemAllocAsync(Pointer *at, size_t bytes, Handle stream) { return cuMemAlloc_v2(at, bytes); }
Result cuMemFreeAsync(Pointer at, Handle stream) { return cuMemFree_v2(at); }
Result cuMemAllocHost_v2(void **at, size_t bytes) { return *at = aligned_alloc(512, (bytes + 511) / 512 * 512), *at ? 0 : OUT_OF_MEMORY; }
Result cuMemFreeHost(void *at) { return free(at), 0; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, Handle stream) { return memcpy((void *)to, from, bytes), 0; }
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Handle stream) { return memcpy((void *)to, (void *)from, bytes), 0; }
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, Handle stream) {
  // Without kernels nothing has a value; losses and norms have to be finite for a run to go on.
  if (!runs_kernels() && bytes <= 8192 && bytes % 4 == 0)
    for (size_t i = 0; i < bytes / 4; i++) ((float *)to)[i] = 0.5f;
  else
    memcpy(to, (void *)from, bytes);
  return 0;
}
typedef struct {
  size_t from_x, from_y;
  int from_type;
  const void *from_host;
  Pointer from_device;
  Handle from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  void *to_host;
  Pointer to_device;
  Handle to_array;
  size_t to_pitch, width, height;
} Copy2d;
Result cuMemcpy2DAsync_v2(const Copy2d *c, Handle stream) {
  enum { HOST = 1 };
  const char *from = c->from_type == HOST ? c->from_host : (void *)c->from_device;
  char *to = c->to_type == HOST ? c->to_host : (void *)c->to_device;
  for (size_t y = 0; y < c->height; y++)
    memcpy(to + c->to_x + (y + c->to_y) * c->to_pitch, from + c->from_x + (y + c->from_y) * c->from_pitch, c->width);
  return 0;
}

// ---- streams and events: everything is done when it is asked for

static intptr_t next_stream = 1000;
Result cuStreamCreate(Handle *stream, unsigned flags) { return *stream = (Handle)next_stream++, 0; }
Result cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { return cuStreamCreate(stream, flags); }
Result cuStreamDestroy_v2(Handle stream) { return 0; }
Result cuStreamSynchronize(Handle stream) { return 0; }
Result cuStreamQuery(Handle stream) { return 0; }
Result cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return 0; }
Result cuEventCreate(Handle *event, unsigned flags) { return *event = calloc(1, sizeof(double)), 0; }
Result cuEventDestroy_v2(Handle event) { return free(event), 0; }
Result cuEventRecord(Handle event, Handle stream) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return *(double *)event = now.tv_sec * 1e3 + now.tv_nsec * 1e-6, 0;
}
Result cuEventSynchronize(Handle event) { return 0; }
Result cuEventQuery(Handle event) { return 0; }
Result cuEventElapsedTime(float *ms, Handle from, Handle to) { return *ms = *(double *)to - *(double *)from, 0; }
Result cuEventElapsedTime_v2(float *ms, Handle from, Handle to) { return cuEventElapsedTime(ms, from, to); }

// ---- kernels

typedef void (*Launch)(unsigned *blocks, unsigned *threads, unsigned shared_bytes, void **arguments);
typedef struct { void *code; } Module;
typedef struct { char name[200]; Launch launch; } Function;

Result cuModuleLoadData(Handle *out, const char *ptx) {
  Module *module = calloc(1, sizeof *module);
  *out = module;
  if (!runs_kernels() || (kernels_are("own") && strstr(ptx, ".entry matmul"))) return 0;
  pthread_mutex_lock(&lock);
  char path[400], command[1400];
  static int number;
  snprintf(path, sizeof path, "%s/%d-%d.ptx", getenv("IMITATED_FOLDER"), (int)getpid(), number++);
  FILE *file = fopen(path, "w");
  int failed = !file;
  if (file) {
    fputs(ptx, file);
    fclose(file);
    // Tells the path of the translated module.
    snprintf(command, sizeof command, "%s/translate.sh %s %ld", getenv("IMITATED_TOOLS"), path, setting("IMITATED_SM", 80));
    FILE *answer = popen(command, "r");
    char code[400] = "";
    failed = !answer || !fgets(code, sizeof code, answer);
    failed = (answer && pclose(answer)) || failed;
    code[strcspn(code, "\n")] = 0;
    module->code = failed ? 0 : dlopen(code, RTLD_NOW);
    if (!module->code) fprintf(stderr, "imitated driver: %s\n", failed ? command : dlerror());
    failed = !module->code;
  }
  pthread_mutex_unlock(&lock);
  return failed ? INVALID_PTX : 0;
}
Result cuModuleUnload(Handle module) { return 0; }
Result cuModuleGetFunction(Handle *out, Handle module, const char *name) {
  Function *function = calloc(1, sizeof *function);
  snprintf(function->name, sizeof function->name, "%s", name);
  void *code = ((Module *)module)->code;
  function->launch = code ? (Launch)dlsym(code, "launch") : 0;
  // What a device can do at most is measured by kernels that only take time.
  if (strstr(name, "throughput")) function->launch = 0;
  return *out = function, 0;
}
Result cuFuncSetAttribute(Handle function, int attribute, int value) { return 0; }
static __thread uint64_t bytes_moved, issued;

Result cuLaunchKernel(Handle handle, unsigned bx, unsigned by, unsigned bz, unsigned tx, unsigned ty, unsigned tz,
                      unsigned shared_bytes, Handle stream, void **arguments, void **extra) {
  Function *function = handle;
  unsigned blocks[3] = {bx, by, bz}, threads[3] = {tx, ty, tz};
  launches++;
  if (!bx || !by || !bz || by > 65535 || bz > 65535 || tx * ty * tz > 1024 || !tx || !ty || !tz) return INVALID_VALUE;
  if (strstr(function->name, "throughput")) usleep(3000);
  bytes_moved = issued = 0;
  if (function->launch) function->launch(blocks, threads, shared_bytes, arguments);
  char line[400];
  snprintf(line, sizeof line, "%s blocks %u %u %u threads %u %u %u shared %u moved %llu issued %llu", function->name, bx, by, bz, tx, ty,
           tz, shared_bytes, (unsigned long long)bytes_moved, (unsigned long long)issued);
  note(line);
  return 0;
}

// ---- the threads of a block, as fibers

enum { RUNS, AT_BLOCK, AT_WARP, DONE };
enum { STACK_BYTES = 1 << 20, SHARED_BYTES = 256 << 10 };

// Saves what a call must keep and goes on where `to` left off.
void ptx_switch(void **from, void *to);
__asm__(".globl ptx_switch\nptx_switch:\npush %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp,(%rdi)\n"
        "mov %rsi,%rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static __thread void *scheduler;
static __thread Kernel running;
static __thread Thread *entered;

static void enter(void) {
  Thread *t = entered;
  running(t);
  t->state = DONE;
  ptx_switch(&t->stack, scheduler);
  abort();
}
static void resume(Thread *t) {
  entered = t;
  t->state = RUNS;
  ptx_switch(&scheduler, t->stack);
}
static void wait_at(Thread *t, int state) {
  t->state = state;
  ptx_switch(&t->stack, scheduler);
}
void ptx_block(Thread *t) { wait_at(t, AT_BLOCK); }
void ptx_warp(Thread *t, unsigned mask) {
  t->mask = mask;
  wait_at(t, AT_WARP);
}

// Lets lanes pass for as long as all of the mask of one are at a meeting of their warp, or gone.
static int pass_warp(Thread *lanes, int count) {
  int moved = 0;
  for (;;) {
    unsigned here = 0, gone = count < 32 ? ~0u << count : 0, go = 0;
    for (int i = 0; i < count; i++) {
      if (lanes[i].state == AT_WARP) here |= 1u << i;
      if (lanes[i].state == DONE) gone |= 1u << i;
    }
    for (int i = 0; i < count; i++)
      if (here >> i & 1 && ((here | gone) & lanes[i].mask) == lanes[i].mask) go |= 1u << i;
    if (!go) return moved;
    for (int i = 0; i < count; i++)
      if (go >> i & 1) resume(&lanes[i]);
    moved = 1;
  }
}
static void run_block(Thread *threads, int count) {
  for (int i = 0; i < count; i++) resume(&threads[i]);
  for (;;) {
    int moved = 0, at_block = 0, done = 0;
    for (int i = 0; i < count; i += 32) moved |= pass_warp(threads + i, count - i < 32 ? count - i : 32);
    for (int i = 0; i < count; i++) at_block += threads[i].state == AT_BLOCK, done += threads[i].state == DONE;
    if (done == count) return;
    if (at_block + done == count) {
      for (int i = 0; i < count; i++)
        if (threads[i].state == AT_BLOCK) resume(&threads[i]);
    } else if (!moved) {
      fprintf(stderr, "imitated driver: a block that can't go on: %d of %d threads at its barrier, %d gone\n", at_block, count, done);
      abort();
    }
  }
}
void ptx_run(Kernel kernel, unsigned *blocks, unsigned *shape, unsigned shared_bytes, void **arguments, int meets) {
  static __thread char *stacks, *shared;
  static __thread Thread *threads;
  static __thread Warp *warps;
  if (!stacks) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stacks = mmap(0, 1024ull * STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    // Addresses of shared memory fit into 32 bits.
    shared = mmap(0, SHARED_BYTES, PROT_READ | PROT_WRITE, flags | MAP_32BIT, -1, 0);
    threads = calloc(1024, sizeof *threads);
    warps = calloc(32, sizeof *warps);
  }
  if (shared_bytes > SHARED_BYTES) abort();
  int count = shape[0] * shape[1] * shape[2];
  for (unsigned z = 0; z < blocks[2]; z++)
    for (unsigned y = 0; y < blocks[1]; y++)
      for (unsigned x = 0; x < blocks[0]; x++) {
        // What nobody wrote is not a number.
        memset(shared, 0xff, shared_bytes);
        for (int i = 0; i < count; i++) {
          Thread *t = &threads[i];
          *t = (Thread){.tid = {i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]},
                        .ctaid = {x, y, z}, .ntid = {shape[0], shape[1], shape[2]}, .nctaid = {blocks[0], blocks[1], blocks[2]},
                        .lane = i & 31, .shared = shared, .arguments = arguments, .warp = &warps[i >> 5]};
          if (!meets) {
            kernel(t);
            bytes_moved += t->moved, issued += t->issued;
            continue;
          }
          void **top = (void **)(stacks + (size_t)(i + 1) * STACK_BYTES - 64);
          *--top = 0;
          *--top = (void *)enter;
          t->stack = top - 6;
        }
        running = kernel;
        if (!meets) continue;
        run_block(threads, count);
        for (int i = 0; i < count; i++) bytes_moved += threads[i].moved, issued += threads[i].issued;
      }
}
