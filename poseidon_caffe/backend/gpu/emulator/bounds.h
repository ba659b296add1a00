// Which memory kernels may touch: what a device has allocated, and their own.
//
// With checks (compiler.py) g++ calls a function here before each load and store of a
// kernel, by the interface of its thread sanitizer.  Part of runtime.cpp, which
// holds a lock around all of it.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <map>

#include "races.h"

// Ends the running kernel with a message.
[[noreturn]] static void refuse_access(const char* what);
// Who runs, and when.
static Access this_moment();

namespace {

struct Range {
  uintptr_t begin, end;

  bool holds(uintptr_t first, uintptr_t last) const {
    return first >= begin && last <= end;
  }
};

enum Owned { kRuntime, kLibrary, kStacks, kShared, kOwned };
Range own[kOwned];

std::map<uintptr_t, uintptr_t> allocations;
constexpr unsigned int kRecent = 4;
Range recent[kRecent];
unsigned int recent_turn;

// Memory that belongs to the emulator itself, not to a device.
void set_own(Owned which, const char* begin, const char* end) {
  own[which] = Range{reinterpret_cast<uintptr_t>(begin),
                     reinterpret_cast<uintptr_t>(end)};
}

bool allocated(uintptr_t first, uintptr_t last) {
  auto after = allocations.upper_bound(first);
  if (after == allocations.begin()) return false;
  --after;
  const Range range = {after->first, after->second};
  if (!range.holds(first, last)) return false;
  recent[recent_turn++ % kRecent] = range;
  return true;
}

void check_race(bool writes, uintptr_t first, uintptr_t size) {
  const uintptr_t last = first + size;
  const bool shared = own[kShared].holds(first, last);
  if (!shared) {
    for (const Range& range : own) {
      if (range.holds(first, last)) return;
    }
  }
  const char* other = race(writes, first, size, shared, this_moment());
  if (other == nullptr) return;
  char text[160];
  snprintf(text, sizeof text,
           "%s %lu bytes of %s memory at %#lx that another thread %s, and no barrier "
           "is between them",
           writes ? "writes" : "reads", static_cast<unsigned long>(size),
           shared ? "shared" : "device", static_cast<unsigned long>(first), other);
  refuse_access(text);
}

void check_access(bool writes, uintptr_t first, uintptr_t size) {
  const uintptr_t last = first + size;
  bool fits = false;
  for (const Range& range : own) fits = fits || range.holds(first, last);
  for (const Range& range : recent) fits = fits || range.holds(first, last);
  // With no allocation known, addresses are the caller's own affair.
  fits = fits || allocations.empty() || allocated(first, last);
  if (fits) return check_race(writes, first, size);
  char text[120];
  snprintf(text, sizeof text, "%s %lu bytes at %#lx, outside of every device array",
           writes ? "writes" : "reads", static_cast<unsigned long>(size), static_cast<unsigned long>(first));
  refuse_access(text);
}

// How every record of g++'s undefined behaviour sanitizer begins.
struct SourcePlace {
  const char* file;
  unsigned int line, column;
};

void refuse_undefined(const void* record, const char* what) {
  const SourcePlace* place = static_cast<const SourcePlace*>(record);
  char text[400];
  snprintf(text, sizeof text, "%s at %s:%u", what, place->file, place->line);
  refuse_access(text);
}

}  // namespace

// What g++ calls before an access of each size that it knows.
#define POSEIDON_ACCESS(size)                                     \
  extern "C" void __tsan_read##size(uintptr_t address) {          \
    check_access(false, address, size);                           \
  }                                                               \
  extern "C" void __tsan_write##size(uintptr_t address) {         \
    check_access(true, address, size);                            \
  }                                                               \
  extern "C" void __tsan_unaligned_read##size(uintptr_t address) { \
    check_access(false, address, size);                           \
  }                                                               \
  extern "C" void __tsan_unaligned_write##size(uintptr_t address) { \
    check_access(true, address, size);                            \
  }
POSEIDON_ACCESS(1)
POSEIDON_ACCESS(2)
POSEIDON_ACCESS(4)
POSEIDON_ACCESS(8)
POSEIDON_ACCESS(16)
#undef POSEIDON_ACCESS

extern "C" void __tsan_read_range(uintptr_t address, uintptr_t size) {
  for (uintptr_t i = 0; i < size; ++i) check_access(false, address + i, 1);
}
extern "C" void __tsan_write_range(uintptr_t address, uintptr_t size) {
  for (uintptr_t i = 0; i < size; ++i) check_access(true, address + i, 1);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(uintptr_t) {}
extern "C" void __tsan_func_exit() {}

// Faults that are always looked for, in place of g++'s own library of them.
extern "C" void __ubsan_handle_type_mismatch_v1(const void* record,
                                                uintptr_t address) {
  refuse_undefined(record, address == 0 ? "uses a null pointer"
                                        : "uses an address that is not aligned");
}
extern "C" void __ubsan_handle_out_of_bounds(const void* record, uintptr_t) {
  refuse_undefined(record, "indexes beyond an array");
}
extern "C" void __ubsan_handle_divrem_overflow(const void* record, uintptr_t,
                                               uintptr_t) {
  refuse_undefined(record, "divides by zero");
}
