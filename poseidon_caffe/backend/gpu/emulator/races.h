// Races between the threads of a launch: accesses that no barrier puts in order.
//
// The emulator runs threads one after the other, so a missing barrier may go unseen
// there while a GPU gives other numbers.  With checks (compiler.py) each byte that
// kernels touch keeps its last write and the reads since.  Two accesses by different
// threads, one of them a write and not both atomic, must have a barrier of their
// block between them, or a warp primitive if one warp has both; nothing puts blocks
// in order.  (What CUDA's racecheck looks for, in device memory as well.)
// Part of runtime.cpp, which holds a lock around all of it.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <memory>
#include <unordered_map>

// Set by host.h while an atomic operation's load and store are under way.
extern "C" {
int poseidon_atomic;
}

namespace {

// Barriers of all blocks of all launches are counted through: an access is known by
// how many had been passed before it.
uint64_t epoch = 1, block_epoch_begin, launch_epoch_begin;
uint64_t since;  // what was before no longer counts for the byte in hand

struct Access {
  uint64_t epoch;       // 0: none yet
  int rank;             // of the thread in its block
  unsigned int exchanges;  // warp primitives the thread had passed
};

struct Byte {
  Access write, read;    // the last ones
  uint64_t read_launch;  // its first epoch, if an earlier block of it has read
  bool atomic;           // the write is
  bool many_lanes;       // lanes of one warp read at one time
  bool many_warps;       // warps do
};

constexpr uintptr_t kPage = 4096;
constexpr size_t kPages = 1000;  // kept from launch to launch: 200 MB of notes
std::unordered_map<uintptr_t, std::unique_ptr<Byte[]>> shadow;
uintptr_t last_page;
Byte* last_bytes;

bool same_warp(const Access& a, const Access& b) { return a.rank / 32 == b.rank / 32; }

// Whether `before` has an end that `now` waited for.
bool ordered(const Access& before, const Access& now) {
  if (before.epoch < since) return true;
  if (before.epoch < block_epoch_begin) return false;
  return before.epoch < now.epoch || before.rank == now.rank ||
         (same_warp(before, now) && before.exchanges < now.exchanges);
}

// Whether all reads of a byte have.
bool reads_ordered(const Byte& byte, const Access& now) {
  if (byte.read_launch >= since) return false;
  if (byte.read.epoch != now.epoch) return ordered(byte.read, now);
  if (byte.many_warps) return false;
  const bool later =
      same_warp(byte.read, now) && byte.read.exchanges < now.exchanges;
  return byte.many_lanes ? later : ordered(byte.read, now);
}

void note_read(Byte* byte, const Access& now) {
  const Access before = byte->read;
  if (before.epoch >= since && before.epoch < block_epoch_begin) {
    byte->read_launch = launch_epoch_begin;
  }
  byte->read = now;
  if (before.epoch != now.epoch) {
    byte->many_lanes = byte->many_warps = false;
  } else if (!same_warp(before, now)) {
    byte->many_warps = true;
  } else if (before.exchanges < now.exchanges) {
    byte->many_lanes = false;
  } else if (before.rank != now.rank) {
    byte->many_lanes = true;
  }
}

Byte& shadow_of(uintptr_t address) {
  const uintptr_t page = address / kPage;
  if (last_bytes == nullptr || page != last_page) {
    std::unique_ptr<Byte[]>& bytes = shadow[page];
    if (bytes == nullptr) bytes = std::make_unique<Byte[]>(kPage);
    last_page = page;
    last_bytes = bytes.get();
  }
  return last_bytes[address % kPage];
}

// What an access collides with; null if with nothing.  Each block has the memory it
// shares for itself: what earlier blocks did there does not count.
const char* race(bool writes, uintptr_t first, uintptr_t size, bool shared,
                 const Access& now) {
  const bool atomic = poseidon_atomic != 0;
  if (atomic && !writes) return nullptr;  // the store that follows stands for both
  since = shared ? block_epoch_begin : launch_epoch_begin;
  for (uintptr_t at = first; at < first + size; ++at) {
    Byte& byte = shadow_of(at);
    if (!(atomic && byte.atomic) && !ordered(byte.write, now)) return "has written";
    if (!writes) {
      note_read(&byte, now);
      continue;
    }
    if (!reads_ordered(byte, now)) return "has read";
    byte.write = now;
    byte.atomic = atomic;
  }
  return nullptr;
}

void begin_launch() {
  launch_epoch_begin = ++epoch;
  if (shadow.size() < kPages) return;
  shadow.clear();
  last_bytes = nullptr;
}

}  // namespace
