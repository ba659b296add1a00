// Runs the threads of a block as fibers of one processor thread.
//
// A fiber takes threads one after the other until one waits at a barrier; then
// the next fiber goes on with the threads not yet begun.  A kernel without
// barriers so runs on a single fiber that never switches.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mutex>

#include "bounds.h"
#include "fibers.h"
#include "host.h"
#include "kernel.h"

extern "C" {
uint3 poseidon_thread, poseidon_block;
dim3 poseidon_block_size, poseidon_grid_size;
}

namespace {

constexpr int kWarp = 32;
constexpr int kMaxArguments = 64;
// Blocks of a launch whose shared memory is filled with NaN first.
constexpr unsigned long long kPoisonedBlocks = 8;

struct Warp {
  int live;     // threads that have not exited
  int waiting;  // of them, those at a warp primitive
  unsigned int alive;  // one bit a lane
  Place place;  // of the first that waits
  bool mixed;   // another may wait at another place
  unsigned long long words[2][kWarp];
};

std::mutex running;
Warp warps[kMaxThreads / kWarp];
Fiber* owner[kMaxThreads];  // the fiber on which a waiting thread sleeps

void (*entry)(void**);
void** arguments;
int count, next_rank, live, at_block;
int round_next, round_last;  // ranks of the waiting threads that may go on
Place block_place;           // of the first thread at the block's barrier
bool block_mixed;            // another thread may be at another place
uint3 next_thread;
bool failed;
char failure[512];
unsigned long long values[kMaxArguments];
void* addresses[kMaxArguments];

// Who runs next: threads not begun, then the waiting ones of this round.  Going
// from fiber to fiber keeps the processor's prediction of returns right.
Fiber* next_fiber() {
  if (failed) return nullptr;
  if (next_rank < count) return take_fiber();
  while (round_next < round_last) {
    Fiber* fiber = owner[round_next];
    owner[round_next++] = nullptr;
    if (fiber != nullptr) return fiber;
  }
  return nullptr;
}

void advance() {
  if (++next_thread.x < poseidon_block_size.x) return;
  next_thread.x = 0;
  if (++next_thread.y < poseidon_block_size.y) return;
  next_thread.y = 0;
  ++next_thread.z;
}

// Threads as long as there are, then rest.
void fiber_main() {
  for (;;) {
    Fiber* self = current;
    while (next_rank < count) {
      const int rank = self->rank = next_rank++;
      self->exchanges = 0;
      poseidon_thread = next_thread;
      advance();
      entry(arguments);
      Warp& warp = warps[rank / kWarp];
      --live;
      --warp.live;
      warp.alive &= ~(1u << (rank % kWarp));
      // The other buffer may still be read by lanes that wake later.
      warp.words[self->exchanges & 1u][rank % kWarp] = ~0ull;
    }
    Fiber* next = next_fiber();
    idle[idle_count++] = self;
    leave(self, next);
  }
}

void note_place(int waiting, Place* first, bool* mixed, const Place& place) {
  if (waiting == 0) {
    *first = place;
    *mixed = false;
  } else if (first->line != place.line || first->file != place.file) {
    *mixed = true;
  }
}

void wait(State state, const char* file, int line) {
  Fiber* self = current;
  self->state = state;
  self->place = Place{file, line};
  self->thread = poseidon_thread;
  owner[self->rank] = self;
  leave(self, next_fiber());
  poseidon_thread = self->thread;
}

int describe(char* text, size_t size, const Fiber* fiber) {
  return snprintf(text, size, "thread (%u, %u, %u) waits at %s:%d (%s)",
                  fiber->thread.x, fiber->thread.y, fiber->thread.z,
                  fiber->place.file, fiber->place.line,
                  fiber->state == State::kAtBlock ? "block barrier"
                                                  : "warp primitive");
}

bool same_place(const Fiber* a, const Fiber* b) {
  return a->state == b->state && a->place.line == b->place.line &&
         (a->place.file == b->place.file ||
          strcmp(a->place.file, b->place.file) == 0);
}

// Threads first..last-1 that live all wait at one place, or this is a failure.
bool all_together(int first, int last) {
  const Fiber* leader = nullptr;
  for (int rank = first; rank < last; ++rank) {
    const Fiber* fiber = owner[rank];
    if (fiber == nullptr) continue;
    if (leader == nullptr) leader = fiber;
    if (!same_place(leader, fiber)) {
      char one[200], other[200];
      describe(one, sizeof one, leader);
      describe(other, sizeof other, fiber);
      snprintf(failure, sizeof failure, "divergent barrier: %s, but %s", one,
               other);
      failed = true;
      return false;
    }
  }
  return true;
}

// Lets the waiting threads first..last-1 go on, each until it waits again.
void release(int first, int last, bool mixed) {
  if (mixed && !all_together(first, last)) return;
  round_next = first;
  round_last = last;
  for (;;) {
    Fiber* fiber = next_fiber();
    if (fiber == nullptr) return;
    enter(fiber);
  }
}

// Lets one round of waiting threads go on; false if none can.
bool release_ready() {
  if (at_block == live) {
    at_block = 0;
    ++epoch;
    release(0, count, block_mixed);
    return true;
  }
  bool any = false;
  for (int first = 0; first < count && !failed; first += kWarp) {
    Warp& warp = warps[first / kWarp];
    // Again and again: most reductions are chains of warp primitives.
    while (warp.live > 0 && warp.waiting == warp.live && !failed) {
      warp.waiting = 0;
      release(first, first + kWarp < count ? first + kWarp : count, warp.mixed);
      any = true;
    }
  }
  return any;
}

void run_block() {
  block_epoch_begin = ++epoch;
  next_rank = 0;
  next_thread = uint3{0, 0, 0};
  live = count;
  at_block = 0;
  for (int w = 0; w * kWarp < count; ++w) {
    const int size = count - w * kWarp < kWarp ? count - w * kWarp : kWarp;
    warps[w].live = size;
    warps[w].waiting = 0;
    warps[w].alive = size == kWarp ? 0xffffffffu : (1u << size) - 1u;
    memset(warps[w].words, 0xff, sizeof warps[w].words);
  }
  round_next = round_last = 0;
  while (next_rank < count && !failed) enter(take_fiber());
  while (live > 0 && !failed) {
    if (!release_ready() && !failed) {
      all_together(0, count);
      failed = true;  // whatever was found: nobody can go on
    }
  }
}

}  // namespace

extern "C" {

void poseidon_block_barrier(const char* file, int line) {
  note_place(at_block++, &block_place, &block_mixed, Place{file, line});
  wait(State::kAtBlock, file, line);
}

const unsigned long long* poseidon_warp_exchange(unsigned long long word,
                                                 const char* file, int line) {
  Fiber* self = current;
  Warp& warp = warps[self->rank / kWarp];
  // Two buffers in turn: who reads one cannot be overtaken by two exchanges.
  unsigned long long* words = warp.words[self->exchanges++ & 1u];
  if (warp.waiting == 0) {
    for (int lane = 0; lane < kWarp; ++lane) {
      if (!(warp.alive >> lane & 1u)) words[lane] = ~0ull;
    }
  }
  words[self->rank % kWarp] = word;
  note_place(warp.waiting++, &warp.place, &warp.mixed, Place{file, line});
  wait(State::kAtWarp, file, line);
  return words;
}

unsigned int poseidon_warp_alive() { return warps[current->rank / kWarp].alive; }

void poseidon_fail(const char* what, const char* file, int line) {
  snprintf(failure, sizeof failure, "%s (%s:%d)", what, file, line);
  failed = true;
  leave(current, nullptr);
  abort();
}

// Memory that kernels may use from now on, and no more.
void poseidon_allow(const char* begin, long bytes) {
  const std::lock_guard<std::mutex> lock(running);
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin);
  allocations[first] = first + static_cast<uintptr_t>(bytes);
}
void poseidon_forbid(const char* begin) {
  const std::lock_guard<std::mutex> lock(running);
  allocations.erase(reinterpret_cast<uintptr_t>(begin));
  memset(recent, 0, sizeof recent);
}

// Every thread of every block; 0, or 1 and a message.
int poseidon_run(const Kernel* kernel, void** args, const unsigned int* grid,
                 const unsigned int* block, char* message, long message_bytes) {
  const std::lock_guard<std::mutex> lock(running);
  if (!map_stacks() || kernel->arguments > kMaxArguments) {
    snprintf(message, static_cast<size_t>(message_bytes),
             "no memory for stacks, or more than %d arguments", kMaxArguments);
    return 1;
  }
  for (int i = 0; i < kernel->arguments; ++i) {
    memcpy(&values[i], args[i], sizeof values[i]);
    addresses[i] = &values[i];
  }
  entry = kernel->thread;
  arguments = addresses;
  set_own(kRuntime, &__ehdr_start, &_end);
  set_own(kLibrary, kernel->image_begin, kernel->image_end);
  set_own(kShared, kernel->shared_begin, kernel->shared_end);
  const size_t shared_bytes =
      static_cast<size_t>(kernel->shared_end - kernel->shared_begin);
  poseidon_grid_size = dim3{grid[0], grid[1], grid[2]};
  poseidon_block_size = dim3{block[0], block[1], block[2]};
  count = static_cast<int>(block[0] * block[1] * block[2]);
  failed = false;
  begin_launch();
  unsigned long long done = 0;
  for (unsigned int z = 0; z < grid[2] && !failed; ++z) {
    for (unsigned int y = 0; y < grid[1] && !failed; ++y) {
      for (unsigned int x = 0; x < grid[0] && !failed; ++x) {
        poseidon_block = uint3{x, y, z};
        if (done++ < kPoisonedBlocks && shared_bytes > 0) {
          memset(kernel->shared_begin, 0xff, shared_bytes);
        }
        run_block();
      }
    }
  }
  if (!failed) return 0;
  forget_fibers();
  memset(owner, 0, sizeof owner);
  snprintf(message, static_cast<size_t>(message_bytes),
           "block (%u, %u, %u): %s", poseidon_block.x, poseidon_block.y,
           poseidon_block.z, failure);
  return 1;
}

}  // extern "C"

static Access this_moment() {
  return Access{epoch, current->rank, current->exchanges};
}

static void refuse_access(const char* what) {
  const uint3& at = poseidon_thread;
  snprintf(failure, sizeof failure, "thread (%u, %u, %u) %s", at.x, at.y, at.z,
           what);
  failed = true;
  leave(current, nullptr);
  abort();
}
