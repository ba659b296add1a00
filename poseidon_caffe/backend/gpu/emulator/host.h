// CUDA's vocabulary for g++: what `common.cuh` and the kernels name.
//
// Threads are fibers of one processor thread (runtime.cpp), so plain memory
// operations are atomic, and a barrier is a switch to the next fiber.
#pragma once

#include <float.h>
#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
// Gathered in one section so that the runtime can poison it before each block.
#define __shared__ \
  [[gnu::section("poseidon_shared"), gnu::aligned(16)]] static

// The preprocessed source is searched for this result type: compiler.py.
typedef void poseidon_kernel_result;
#define KERNEL(name) static poseidon_kernel_result name

struct uint3 {
  unsigned int x, y, z;
};
typedef uint3 dim3;

extern "C" {
extern uint3 poseidon_thread, poseidon_block;
extern dim3 poseidon_block_size, poseidon_grid_size;
extern int poseidon_atomic;  // an atomic operation is under way
void poseidon_block_barrier(const char* file, int line);
// Waits for the warp; 64 bits of every lane's `word` are then in the result.
const unsigned long long* poseidon_warp_exchange(unsigned long long word,
                                                 const char* file, int line);
unsigned int poseidon_warp_alive();
[[noreturn]] void poseidon_fail(const char* what, const char* file, int line);
}

#define threadIdx poseidon_thread
#define blockIdx poseidon_block
#define blockDim poseidon_block_size
#define gridDim poseidon_grid_size
static const int warpSize = 32;

// Where a barrier stands in the source; divergence is told by it.
#define POSEIDON_AT \
  const char *file = __builtin_FILE(), int line = __builtin_LINE()

#pragma GCC diagnostic ignored "-Wunused-function"

// --------------------------------------------------------------------- barriers

static inline void __syncthreads(POSEIDON_AT) {
  asm volatile("" ::: "memory");
  poseidon_block_barrier(file, line);
  asm volatile("" ::: "memory");
}

static inline void __threadfence() {}
static inline void __threadfence_block() {}

static inline void poseidon_check_mask(unsigned int mask, const char* file,
                                       int line) {
  if (mask != 0xffffffffu) {
    poseidon_fail("a warp primitive's mask must be 0xffffffff", file, line);
  }
}

static inline void __syncwarp(unsigned int mask = 0xffffffffu, POSEIDON_AT) {
  poseidon_check_mask(mask, file, line);
  asm volatile("" ::: "memory");
  poseidon_warp_exchange(0, file, line);
  asm volatile("" ::: "memory");
}

static inline int poseidon_lane() {
  return static_cast<int>((threadIdx.x +
                           blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) &
                          31u);
}

// `from` is in the group of `width` lanes or is replaced by the lane itself; a
// lane that has exited gives a word of ones (NaN), as nothing defines it.
template <class V>
static inline V poseidon_shuffle(unsigned int mask, V value, int from,
                                 const char* file, int line) {
  static_assert(sizeof(V) <= 8, "a shuffle moves at most 8 bytes");
  poseidon_check_mask(mask, file, line);
  unsigned long long word = 0;
  memcpy(&word, &value, sizeof(V));
  word = poseidon_warp_exchange(word, file, line)[from & 31];
  memcpy(&value, &word, sizeof(V));
  return value;
}

template <class V>
static inline V __shfl_sync(unsigned int mask, V value, int from, int width = 32,
                            POSEIDON_AT) {
  const int base = poseidon_lane() & ~(width - 1);
  return poseidon_shuffle(mask, value, base + (from & (width - 1)), file, line);
}
template <class V>
static inline V __shfl_xor_sync(unsigned int mask, V value, int apart,
                                int width = 32, POSEIDON_AT) {
  const int lane = poseidon_lane(), from = lane ^ apart;
  const bool inside = from < (lane & ~(width - 1)) + width;
  return poseidon_shuffle(mask, value, inside ? from : lane, file, line);
}
template <class V>
static inline V __shfl_down_sync(unsigned int mask, V value, int apart,
                                 int width = 32, POSEIDON_AT) {
  const int lane = poseidon_lane(), from = lane + apart;
  const bool inside = from < (lane & ~(width - 1)) + width;
  return poseidon_shuffle(mask, value, inside ? from : lane, file, line);
}
template <class V>
static inline V __shfl_up_sync(unsigned int mask, V value, int apart,
                               int width = 32, POSEIDON_AT) {
  const int lane = poseidon_lane(), from = lane - apart;
  const bool inside = from >= (lane & ~(width - 1));
  return poseidon_shuffle(mask, value, inside ? from : lane, file, line);
}

static inline unsigned int __ballot_sync(unsigned int mask, int predicate,
                                         POSEIDON_AT) {
  poseidon_check_mask(mask, file, line);
  const unsigned long long* words =
      poseidon_warp_exchange(predicate != 0, file, line);
  const unsigned int alive = poseidon_warp_alive();
  unsigned int votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    votes |= (words[lane] == 1 ? 1u : 0u) << lane;
  }
  return votes & alive;
}
static inline int __any_sync(unsigned int mask, int predicate, POSEIDON_AT) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
static inline int __all_sync(unsigned int mask, int predicate, POSEIDON_AT) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}

// ---------------------------------------------------------------------- atomics

// `next` of the old value takes its place; races.h sees one access, and no race with
// others of this kind.
template <class V, class F>
static inline V poseidon_exchange(V* where, F next) {
  poseidon_atomic = 1;
  asm volatile("" ::: "memory");
  const V old = *where;
  *where = next(old);
  asm volatile("" ::: "memory");
  poseidon_atomic = 0;
  return old;
}
template <class V>
static inline V atomicExch(V* where, V value) {
  return poseidon_exchange(where, [=](V) { return value; });
}
template <class V>
static inline V atomicAdd(V* where, V value) {
  return poseidon_exchange(where, [=](V old) { return static_cast<V>(old + value); });
}
template <class V>
static inline V atomicMax(V* where, V value) {
  return poseidon_exchange(where, [=](V old) { return old < value ? value : old; });
}
template <class V>
static inline V atomicMin(V* where, V value) {
  return poseidon_exchange(where, [=](V old) { return value < old ? value : old; });
}
template <class V>
static inline V atomicOr(V* where, V value) {
  return poseidon_exchange(where, [=](V old) { return static_cast<V>(old | value); });
}
template <class V>
static inline V atomicCAS(V* where, V expected, V value) {
  return poseidon_exchange(where,
                           [=](V old) { return old == expected ? value : old; });
}

// ------------------------------------------------------------------- arithmetic

template <class V>
static inline V __ldg(const V* where) {
  return *where;
}

template <class To, class From>
static inline To poseidon_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "as many bits on both sides");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}
static inline unsigned int __float_as_uint(float v) {
  return poseidon_bits<unsigned int>(v);
}
static inline int __float_as_int(float v) { return poseidon_bits<int>(v); }
static inline float __uint_as_float(unsigned int v) {
  return poseidon_bits<float>(v);
}
static inline float __int_as_float(int v) { return poseidon_bits<float>(v); }
static inline long long __double_as_longlong(double v) {
  return poseidon_bits<long long>(v);
}
static inline double __longlong_as_double(long long v) {
  return poseidon_bits<double>(v);
}

// CUDA has these for every arithmetic type, also mixed ones are not asked for.
#define POSEIDON_MIN_MAX(V)                                      \
  static inline V min(V a, V b) { return b < a ? b : a; }        \
  static inline V max(V a, V b) { return a < b ? b : a; }
POSEIDON_MIN_MAX(int)
POSEIDON_MIN_MAX(unsigned int)
POSEIDON_MIN_MAX(long long)
POSEIDON_MIN_MAX(unsigned long long)
#undef POSEIDON_MIN_MAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
static inline float rsqrt(float v) { return 1.0f / sqrtf(v); }
static inline double rsqrt(double v) { return 1.0 / sqrt(v); }
static inline int __popc(unsigned int v) { return __builtin_popcount(v); }
static inline int __clz(int v) {
  return v == 0 ? 32 : __builtin_clz(static_cast<unsigned int>(v));
}
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return static_cast<unsigned int>(
      (static_cast<unsigned long long>(a) * b) >> 32);
}

// ---------------------------------------------------------------- half precision

// Rounded to nearest even; NaN becomes 0x7fff, as PTX's cvt.rn.f16.f32 says.
static inline unsigned short poseidon_float_to_half(float value) {
  const unsigned int word = __float_as_uint(value);
  const unsigned int sign = (word >> 16) & 0x8000u;
  const unsigned int size = word & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7fffu;
  unsigned int bits;
  if (size >= 0x477ff000u) {  // 65520, half way beyond the largest, and more
    bits = 0x7c00u;
  } else if (size >= 0x38800000u) {  // 2^-14, the smallest normal
    bits = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
  } else {
    // Adding 0.5 leaves multiples of 2^-24 in the float's last bits, rounded.
    const float shifted = __uint_as_float(size) + 0.5f;
    bits = __float_as_uint(shifted) - 0x3f000000u;
  }
  return static_cast<unsigned short>(sign | bits);
}

static inline float poseidon_half_to_float(unsigned short half) {
  const unsigned int sign = static_cast<unsigned int>(half & 0x8000u) << 16;
  const unsigned int size = half & 0x7fffu;
  if (size >= 0x7c00u) {
    return __uint_as_float(sign | 0x7f800000u | ((size & 0x3ffu) << 13));
  }
  if (size >= 0x0400u) return __uint_as_float(sign | ((size << 13) + 0x38000000u));
  const float value = static_cast<float>(size) * 5.9604644775390625e-8f;
  return __uint_as_float(sign | __float_as_uint(value));
}
