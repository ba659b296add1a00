// Fibers: stacks of their own within one processor thread, and how to go from one to
// another.  Part of runtime.cpp, which says what they run.
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "bounds.h"
#include "host.h"

// How fibers switch: a few instructions of our own, or ucontext's functions (which
// also save the signal mask, by a system call each time).
#if defined(__x86_64__) && !defined(POSEIDON_UCONTEXT)
#define POSEIDON_OWN_SWITCH 1
#else
#define POSEIDON_OWN_SWITCH 0
#endif
#if !POSEIDON_OWN_SWITCH
#include <ucontext.h>
#endif

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 4096;

enum class State : unsigned char { kFree, kAtBlock, kAtWarp };

struct Place {
  const char* file;
  int line;
};

struct Fiber {
#if POSEIDON_OWN_SWITCH
  void* stack_pointer;
#else
  ucontext_t context;
#endif
  char* stack;
  uint3 thread;    // of the waiting thread
  int rank;        // its number in the block
  unsigned int exchanges;  // warp primitives it has passed
  State state;
  Place place;  // of the barrier
};

Fiber fibers[kMaxThreads];
Fiber* current;
Fiber* idle[kMaxThreads];
int idle_count;
int made;      // fibers that have a stack
char* stacks;  // of all of them

#if POSEIDON_OWN_SWITCH
void* scheduler_pointer;
extern "C" void poseidon_switch(void** from, void* to);
asm(R"(
.text
.globl poseidon_switch
.hidden poseidon_switch
.type poseidon_switch, @function
poseidon_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size poseidon_switch, .-poseidon_switch
)");
#else
ucontext_t scheduler_context;
#endif

// From a fiber to another, or to the scheduler (null).
void leave(Fiber* fiber, Fiber* next) {
  current = next;
#if POSEIDON_OWN_SWITCH
  poseidon_switch(&fiber->stack_pointer,
                  next == nullptr ? scheduler_pointer : next->stack_pointer);
#else
  swapcontext(&fiber->context,
              next == nullptr ? &scheduler_context : &next->context);
#endif
}

// From the scheduler to a fiber; returns when some fiber has none to go on with.
void enter(Fiber* fiber) {
  current = fiber;
#if POSEIDON_OWN_SWITCH
  poseidon_switch(&scheduler_pointer, fiber->stack_pointer);
#else
  swapcontext(&scheduler_context, &fiber->context);
#endif
}

// The life of a fiber.
void fiber_main();

// Ready to enter fiber_main on an empty stack.
void prepare(Fiber* fiber) {
  // Staggered: stacks that all end at the same offset of a page would share a few
  // lines of the processor's caches.
  char* top = fiber->stack + kStackBytes - (fiber - fibers) % 64 * 256;
#if POSEIDON_OWN_SWITCH
  // Popped by poseidon_switch: six registers, then fiber_main's address; the
  // word above it stands for the return address of a call.
  void** words = reinterpret_cast<void**>(top) - 8;
  memset(words, 0, 8 * sizeof(void*));
  words[6] = reinterpret_cast<void*>(&fiber_main);
  fiber->stack_pointer = words;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = static_cast<size_t>(top - fiber->stack);
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, fiber_main, 0);
#endif
}

bool map_stacks() {
  if (stacks != nullptr) return true;
  const size_t size = kMaxThreads * (kStackBytes + kGuardBytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  stacks = static_cast<char*>(memory);
  set_own(kStacks, stacks, stacks + size);
  return true;
}

Fiber* take_fiber() {
  if (idle_count > 0) return idle[--idle_count];
  Fiber* fiber = &fibers[made];
  char* memory = stacks + made * (kStackBytes + kGuardBytes);
  mprotect(memory, kGuardBytes, PROT_NONE);
  fiber->stack = memory + kGuardBytes;
  prepare(fiber);
  ++made;
  return fiber;
}

// After a failure fibers are stuck in mid-kernel; they all begin anew.
void forget_fibers() {
  idle_count = 0;
  for (int i = 0; i < made; ++i) {
    prepare(&fibers[i]);
    idle[idle_count++] = &fibers[i];
  }
}

}  // namespace
