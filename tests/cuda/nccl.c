// An NCCL for the imitated driver. Its ranks are threads or processes of one machine, which share a file that their id names: each
// lays a piece of its numbers there, waits for the others, and adds up the pieces of all in the ranks' order.
//
// IMITATED_NCCL_DIES=RANK:SUM kills that rank once the others wait for it in that sum, counted from 0.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 16, PIECE = 1 << 18, FLOAT32 = 7, BFLOAT16 = 9, SUM = 0 };
typedef struct {
  char bytes[128]; // the file's path
} Id;
typedef struct {
  int arrived, meetings; // Of the ranks now and so far; a new file's zeros are the beginning.
  size_t count[MOST];
  char piece[MOST][PIECE];
} Group;
typedef struct {
  Group *group;
  int rank, ranks, sums;
} Member;

int ncclGetVersion(int *version) { return *version = 22700, 0; }
const char *ncclGetErrorString(int error) { return "an error of the imitated NCCL"; }
const char *ncclGetLastError(void *member) { return "an error of the imitated NCCL"; }
int ncclCommGetAsyncError(Member *member, int *error) { return *error = 0, 0; }
int ncclCommDestroy(Member *member) { return 0; }
int ncclCommAbort(Member *member) { return 0; }
int ncclGroupStart(void) { return 0; }
int ncclGroupEnd(void) { return 0; }

// Waits until all ranks are here.
static void meet(Member *m) {
  Group *group = m->group;
  int before = __atomic_load_n(&group->meetings, __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&group->arrived, 1, __ATOMIC_SEQ_CST) == m->ranks) {
    __atomic_store_n(&group->arrived, 0, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&group->meetings, 1, __ATOMIC_SEQ_CST);
  }
  while (__atomic_load_n(&group->meetings, __ATOMIC_SEQ_CST) == before) usleep(20);
}

int ncclGetUniqueId(Id *id) {
  const char *folder = getenv("IMITATED_FOLDER");
  memset(id, 0, sizeof *id);
  if (snprintf(id->bytes, sizeof id->bytes, "%s/nccl-XXXXXX", folder ? folder : "/tmp") >= (int)sizeof id->bytes) return 4;
  int file = mkstemp(id->bytes);
  if (file < 0 || ftruncate(file, sizeof(Group))) return 2;
  return close(file), 0;
}
int ncclCommInitRank(Member **out, int ranks, Id id, int rank) {
  if (ranks > MOST) return 4;
  int file = open(id.bytes, O_RDWR);
  if (file < 0) return 2;
  void *shared = mmap(0, sizeof(Group), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared == MAP_FAILED) return 2;
  Member *m = *out = malloc(sizeof *m);
  *m = (Member){shared, rank, ranks, 0};
  meet(m);
  // All have it open.
  if (rank == 0) unlink(id.bytes);
  return 0;
}

static float wide(uint16_t number) {
  uint32_t bits = (uint32_t)number << 16;
  float wide;
  return memcpy(&wide, &bits, sizeof wide), wide;
}
static uint16_t narrow(float number) { // to the nearest, of two to the even one
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return number != number ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static void dies_here(Member *m) {
  int rank, sum;
  const char *told = getenv("IMITATED_NCCL_DIES");
  if (!told || sscanf(told, "%d:%d", &rank, &sum) != 2 || rank != m->rank || sum != m->sums) return;
  while (__atomic_load_n(&m->group->arrived, __ATOMIC_SEQ_CST) < m->ranks - 1) usleep(20);
  fprintf(stderr, "imitated NCCL: rank %d dies in sum %d\n", rank, sum);
  kill(getpid(), SIGKILL);
}
int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Member *m, void *stream) {
  if ((type != FLOAT32 && type != BFLOAT16) || operation != SUM) return 4;
  Group *group = m->group;
  size_t size = type == FLOAT32 ? 4 : 2, most = PIECE / size;
  dies_here(m);
  group->count[m->rank] = count;
  meet(m);
  for (int rank = 0; rank < m->ranks; rank++)
    if (group->count[rank] != count) {
      fprintf(stderr, "imitated NCCL: ranks sum %zu and %zu numbers\n", group->count[rank], count);
      abort();
    }
  for (size_t at = 0; at < count; at += most) {
    size_t here = count - at < most ? count - at : most;
    memcpy(group->piece[m->rank], (const char *)from + at * size, here * size);
    meet(m);
    for (size_t i = 0; i < here; i++) {
      if (type == FLOAT32) {
        float sum = 0;
        for (int rank = 0; rank < m->ranks; rank++) sum += ((float *)group->piece[rank])[i];
        ((float *)to)[at + i] = sum;
      } else {
        uint16_t sum = ((uint16_t *)group->piece[0])[i];
        for (int rank = 1; rank < m->ranks; rank++) sum = narrow(wide(sum) + wide(((uint16_t *)group->piece[rank])[i]));
        ((uint16_t *)to)[at + i] = sum;
      }
    }
    meet(m);
  }
  return m->sums++, 0;
}
