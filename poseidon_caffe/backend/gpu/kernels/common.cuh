// What every kernel source begins with: storage types, loops, reductions.
//
// Compiled by NVRTC for a GPU and by g++ (with POSEIDON_HOST) for the emulator.
// STORAGE = float | double | half16 | bfloat16 gives the types
//   T  activations and their gradients, as stored
//   A  what is computed with: float, double for double
//   P  parameters, their gradients, statistics, labels: float, double for double
#pragma once

#ifdef POSEIDON_HOST
#include "host.h"
#else
// A kernel may not be called as a C function is (tanh, exp): say tanh_forward.
#define KERNEL(name) extern "C" __global__ void name
#ifndef FLT_MAX
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define DBL_MAX 1.7976931348623157e+308
#define DBL_MIN 2.2250738585072014e-308
#define DBL_EPSILON 2.2204460492503131e-16
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
#endif

#define DEVICE static __device__ __forceinline__
#define FULL_MASK 0xffffffffu

// ---------------------------------------------------------------- storage types

// IEEE binary16, rounded to nearest even.
struct half16 {
  unsigned short bits;
  half16() = default;
#ifdef POSEIDON_HOST
  explicit half16(float value) : bits(poseidon_float_to_half(value)) {}
  operator float() const { return poseidon_half_to_float(bits); }
#else
  __device__ __forceinline__ explicit half16(float value) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  }
  __device__ __forceinline__ operator float() const {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
#endif
};

// The upper half of a float, rounded to nearest even; NaN stays NaN (made quiet).
struct bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  __device__ __forceinline__ explicit bfloat16(float value) {
    unsigned int word = __float_as_uint(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
      word |= 0x00400000u;
    } else {
      word += 0x7fffu + ((word >> 16) & 1u);
    }
    bits = static_cast<unsigned short>(word >> 16);
  }
  __device__ __forceinline__ operator float() const {
    return __uint_as_float(static_cast<unsigned int>(bits) << 16);
  }
};

template <class S>
struct computed {
  typedef float type;
};
template <>
struct computed<double> {
  typedef double type;
};

typedef STORAGE T;
typedef computed<STORAGE>::type A;
typedef computed<STORAGE>::type P;

// ------------------------------------------------------------------------ loops

// One loop over 0 <= i < n, shared by all threads of the (1-D) grid.
#define FOR_EACH(i, n)                                                          \
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x +          \
                     threadIdx.x,                                               \
                 i##_step = static_cast<long long>(gridDim.x) * blockDim.x,     \
                 i##_end = (n);                                                 \
       i < i##_end; i += i##_step)

// ------------------------------------------------------------------- arithmetic

// The larger and the smaller; NaN if either is NaN (as numpy.maximum).
template <class V>
DEVICE V maximum(V a, V b) {
  return (a >= b || a != a) ? a : b;
}
template <class V>
DEVICE V minimum(V a, V b) {
  return (a <= b || a != a) ? a : b;
}

// ----------------------------------------------------------- elementwise passes

// 16 bytes of T, which move at once.
struct alignas(16) Pack {
  T item[16 / sizeof(T)];
};
#define PACK_ITEMS static_cast<long long>(16 / sizeof(T))

DEVICE bool pack_aligned(const void* pointer) {
  return (reinterpret_cast<unsigned long long>(pointer) & 15) == 0;
}
DEVICE Pack load_pack(const T* from, long long pack) {
  return reinterpret_cast<const Pack*>(from)[pack];
}
DEVICE void store_pack(T* to, long long pack, const Pack& values) {
  reinterpret_cast<Pack*>(to)[pack] = values;
}

// y[i] = f(x[i]) over the grid, by packs; y may be x.  Start one thread a pack.
template <class F>
DEVICE void map(const T* x, T* y, long long n, F f) {
  const bool aligned = pack_aligned(x) && pack_aligned(y);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    Pack values = load_pack(x, pack);
    for (int k = 0; k < PACK_ITEMS; ++k) values.item[k] = T(f(A(values.item[k])));
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    y[i] = T(f(A(x[i])));
  }
}

// y[i] = f(a[i], b[i]); y may be a or b.
template <class F>
DEVICE void map(const T* a, const T* b, T* y, long long n, F f) {
  const bool aligned = pack_aligned(a) && pack_aligned(b) && pack_aligned(y);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    const Pack left = load_pack(a, pack), right = load_pack(b, pack);
    Pack values;
    for (int k = 0; k < PACK_ITEMS; ++k) {
      values.item[k] = T(f(A(left.item[k]), A(right.item[k])));
    }
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    y[i] = T(f(A(a[i]), A(b[i])));
  }
}

// y[i] = f(a[i], b[i], c[i]); y may be any of them.
template <class F>
DEVICE void map(const T* a, const T* b, const T* c, T* y, long long n, F f) {
  const bool aligned = pack_aligned(a) && pack_aligned(b) && pack_aligned(c) &&
                       pack_aligned(y);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    const Pack left = load_pack(a, pack), middle = load_pack(b, pack);
    const Pack right = load_pack(c, pack);
    Pack values;
    for (int k = 0; k < PACK_ITEMS; ++k) {
      values.item[k] =
          T(f(A(left.item[k]), A(middle.item[k]), A(right.item[k])));
    }
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    y[i] = T(f(A(a[i]), A(b[i]), A(c[i])));
  }
}

// -------------------------------------------------------------- block reductions

struct AddOf {
  template <class V>
  static __device__ __forceinline__ V of(V a, V b) {
    return a + b;
  }
};
struct MaxOf {
  template <class V>
  static __device__ __forceinline__ V of(V a, V b) {
    return maximum(a, b);
  }
};
struct MinOf {
  template <class V>
  static __device__ __forceinline__ V of(V a, V b) {
    return minimum(a, b);
  }
};

// This thread's number in its block, 0 to blockDim.x * y * z - 1.
DEVICE int block_rank() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y +
                                                      blockDim.y * threadIdx.z));
}

// Reduced over the 32 lanes of a warp, the same bits in every lane.
template <class Op, class V>
DEVICE V warp_reduce(V value) {
  for (int apart = 16; apart > 0; apart >>= 1) {
    value = Op::of(value, __shfl_xor_sync(FULL_MASK, value, apart));
  }
  return value;
}

// Reduced over the block in a fixed order, the same bits in every thread.  All
// threads must call it, the block being a multiple of 32 threads; it begins with
// a barrier, so it may be called again and again.
template <class Op, class V>
static __device__ V block_reduce(V value) {
  __shared__ V partial[32];
  const int rank = block_rank();
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) >> 5;
  value = warp_reduce<Op>(value);
  __syncthreads();
  if ((rank & 31) == 0) {
    partial[rank >> 5] = value;
  }
  __syncthreads();
  value = partial[0];
  for (int warp = 1; warp < warps; ++warp) {
    value = Op::of(value, partial[warp]);
  }
  return value;
}

// float, double, int, long long (and unsigned): V is deduced.
template <class V>
DEVICE V block_sum(V value) {
  return block_reduce<AddOf>(value);
}
template <class V>
DEVICE V block_max(V value) {
  return block_reduce<MaxOf>(value);
}
template <class V>
DEVICE V block_min(V value) {
  return block_reduce<MinOf>(value);
}

// ----------------------------------------------------------------------- random

// Philox4x32-10 (Salmon et al. 2011): four random words for a key and a counter.
DEVICE void philox(const unsigned int key[2], const unsigned int counter[4],
                   unsigned int out[4]) {
  unsigned int k0 = key[0], k1 = key[1];
  unsigned int c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < 10; ++round) {
    const unsigned long long left = 0xD2511F53ull * c0;
    const unsigned long long right = 0xCD9E8D57ull * c2;
    c0 = static_cast<unsigned int>(right >> 32) ^ c1 ^ k0;
    c1 = static_cast<unsigned int>(right);
    c2 = static_cast<unsigned int>(left >> 32) ^ c3 ^ k1;
    c3 = static_cast<unsigned int>(left);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// The same with a 64-bit key and two 64-bit halves of the counter.
DEVICE void philox(long long key, long long stream, long long index,
                   unsigned int out[4]) {
  const unsigned int keys[2] = {static_cast<unsigned int>(key),
                                static_cast<unsigned int>(key >> 32)};
  const unsigned int counter[4] = {static_cast<unsigned int>(index),
                                   static_cast<unsigned int>(index >> 32),
                                   static_cast<unsigned int>(stream),
                                   static_cast<unsigned int>(stream >> 32)};
  philox(keys, counter, out);
}

// A number in [0, 1) from the upper 24 bits of a random word, exact in a float.
DEVICE float uniform(unsigned int word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}

// ------------------------------------------------------------ images and their windows

// Which image, channel and place an index means: the channels or the places of an
// image come first.
DEVICE void place_of(long long index, long long channels, long long places,
                     long long channels_last, long long& n, long long& c,
                     long long& p) {
  const long long inner = channels_last ? channels : places;
  const long long outer = channels_last ? places : channels;
  long long rest = index / inner;
  const long long first = index - rest * inner;
  n = rest / outer;
  rest -= n * outer;
  c = channels_last ? first : rest;
  p = channels_last ? rest : first;
}

// A number to divide by, of 1 to 2^31 - 1, as division.py prepares it: a division then
// takes three instructions instead of dozens.
struct Divisor {
  unsigned int by, factor, shift;
};
#define DIVISOR(a)                                                               \
  {static_cast<unsigned int>(a), static_cast<unsigned int>(a##_code),            \
   static_cast<unsigned int>(a##_code >> 32)}

// The whole part of n / d, n not below 0 (Granlund and Montgomery 1994).
DEVICE int divide(int n, const Divisor& d) {
  const unsigned int whole = static_cast<unsigned int>(n);
  return static_cast<int>((__umulhi(whole, d.factor) + whole) >> d.shift);
}

// How many channels and places an image has, those that lie side by side first.
struct Order {
  Divisor inner, outer;
  bool channels_last;
};
#define ORDER_PARAMETERS                                                         \
  long long inner, long long inner_code, long long outer, long long outer_code,  \
      long long channels_last
#define ORDER {DIVISOR(inner), DIVISOR(outer), channels_last != 0}

// As above, where an image has less than 2^31 places and channels.
DEVICE void place_of(long long index, const Order& order, int& n, int& c, int& p) {
  int first, second;
  if (index < (1ll << 31)) {
    const int i = static_cast<int>(index), rest = divide(i, order.inner);
    n = divide(rest, order.outer);
    first = i - rest * static_cast<int>(order.inner.by);
    second = rest - n * static_cast<int>(order.outer.by);
  } else {
    const long long rest = index / order.inner.by;
    n = static_cast<int>(rest / order.outer.by);
    first = static_cast<int>(index - rest * order.inner.by);
    second = static_cast<int>(rest % order.outer.by);
  }
  c = order.channels_last ? first : second;
  p = order.channels_last ? second : first;
}

// Elements from image to image, channel to channel, place to place of an array.
struct PlaneSteps {
  long long image;
  int channel, place;
};
#define STEPS_PARAMETERS(a) long long n##a, long long c##a, long long p##a
#define STEPS(a) {n##a, static_cast<int>(c##a), static_cast<int>(p##a)}

// Both are of 32 bits, so that no product of 64 bits is needed.
DEVICE long long along(int count, int step) {
  return static_cast<long long>(count) * step;
}
DEVICE long long element_at(const PlaneSteps& steps, int n, int c, int p = 0) {
  return n * steps.image + along(c, steps.channel) + along(p, steps.place);
}

// One spatial axis of a convolution.
struct Axis {
  int kernel, stride, pad, dilation, size, windows;
  long long step;  // elements of the image from place to place
};

#define AXIS_PARAMETERS(a)                                                       \
  long long kernel##a, long long stride##a, long long pad##a, long long dilation##a, \
      long long size##a, long long windows##a, long long step##a
#define AXIS(a)                                                                  \
  {static_cast<int>(kernel##a),  static_cast<int>(stride##a),                    \
   static_cast<int>(pad##a),     static_cast<int>(dilation##a),                  \
   static_cast<int>(size##a),    static_cast<int>(windows##a), step##a}

// From one place of the kernel to the next, the last axis first.
template <int AXES>
DEVICE void next_tap(int (&tap)[AXES], const Axis (&axis)[AXES]) {
  bool carry = true;
  for (int a = AXES - 1; a >= 0; --a) {
    if (carry) {
      carry = ++tap[a] == axis[a].kernel;
      if (carry) tap[a] = 0;
    }
  }
}
