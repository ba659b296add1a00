// Copies between any two layouts of up to six axes, and between number types.  Axes go
// from the slowest to the fastest in the target's memory; strides count items.
#include "common.cuh"

// `count` numbers that move at once.
template <class S, int COUNT>
struct alignas(COUNT * sizeof(S)) Bunch {
  S item[COUNT];
};

struct Axes {
  long long length[6], from[6], to[6];
};

// Where item i lies on both sides.  A 64-bit division takes several times as long, so
// there are less than 2^31 items: more are copied by parts.
DEVICE void find(unsigned int i, const Axes& axes, long long& at, long long& put) {
  at = put = 0;
  for (int axis = 5; axis >= 0; --axis) {
    const unsigned int length = static_cast<unsigned int>(axes.length[axis]);
    if (length == 1) continue;
    const unsigned int rest = axis > 0 ? i / length : 0;
    const long long place = i - rest * length;
    i = rest;
    at += place * axes.from[axis];
    put += place * axes.to[axis];
  }
}

#define AT_ONCE 4  // items that a thread has under way

template <class From, class To, int COUNT>
DEVICE void copy_strided(const void* source, void* target, long long count,
                         const Axes& axes) {
  const Bunch<From, COUNT>* from = static_cast<const Bunch<From, COUNT>*>(source);
  Bunch<To, COUNT>* to = static_cast<Bunch<To, COUNT>*>(target);
  const long long step = blockDim.x;
  for (long long start = blockIdx.x * step * AT_ONCE + threadIdx.x; start < count;
       start += gridDim.x * step * AT_ONCE) {
    Bunch<From, COUNT> items[AT_ONCE];
    long long put[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      if (start + k * step < count) {
        long long at;
        find(static_cast<unsigned int>(start + k * step), axes, at, put[k]);
        items[k] = from[at];
      }
    }
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      if (start + k * step < count) {
        Bunch<To, COUNT> made;
        for (int j = 0; j < COUNT; ++j) made.item[j] = To(items[k].item[j]);
        to[put[k]] = made;
      }
    }
  }
}

#define AXES                                                                          \
  long long l0, long long l1, long long l2, long long l3, long long l4, long long l5, \
      long long f0, long long f1, long long f2, long long f3, long long f4,           \
      long long f5, long long t0, long long t1, long long t2, long long t3,           \
      long long t4, long long t5
#define AXES_ARGS \
  { {l0, l1, l2, l3, l4, l5}, {f0, f1, f2, f3, f4, f5}, {t0, t1, t2, t3, t4, t5} }

#define COPY(name, From, To, bunch)                                             \
  KERNEL(name)(const void* source, void* target, long long count, AXES) {       \
    const Axes axes = AXES_ARGS;                                                \
    copy_strided<From, To, bunch>(source, target, count, axes);                 \
  }

// Items of so many bytes, whatever they are.
COPY(copy_1, unsigned char, unsigned char, 1)
COPY(copy_2, unsigned short, unsigned short, 1)
COPY(copy_4, unsigned int, unsigned int, 1)
COPY(copy_8, unsigned long long, unsigned long long, 1)
COPY(copy_16, unsigned long long, unsigned long long, 2)

// Numbers one by one, and four neighbours at once.
#define CONVERT(name, From, To) \
  COPY(name, From, To, 1)       \
  COPY(name##_by_4, From, To, 4)

CONVERT(convert_float_double, float, double)
CONVERT(convert_double_float, double, float)
CONVERT(convert_float_half, float, half16)
CONVERT(convert_half_float, half16, float)
CONVERT(convert_float_bfloat, float, bfloat16)
CONVERT(convert_bfloat_float, bfloat16, float)
CONVERT(convert_byte_float, unsigned char, float)

// A copy whose neighbours in the source (along x) are not those in the target (along
// y), by tiles of 32 x 32: both sides are passed over in runs of 32 items.
template <class S>
DEVICE void turn(const void* source, void* target, long long width, long long height,
                 long long source_step, long long target_step, const Axes& axes) {
  __shared__ S tile[32][33];
  const S* from = static_cast<const S*>(source);
  S* to = static_cast<S*>(target);
  const unsigned int across = static_cast<unsigned int>((width + 31) / 32);
  const unsigned int down = static_cast<unsigned int>((height + 31) / 32);
  const unsigned int tiles = static_cast<unsigned int>(
      across * down * axes.length[2] * axes.length[3] * axes.length[4] * axes.length[5]);
  const unsigned int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (unsigned int number = blockIdx.x; number < tiles; number += gridDim.x) {
    const unsigned int image = number / (across * down);
    const unsigned int place = number - image * (across * down);
    const long long x = place % across * 32ll, y = place / across * 32ll;
    long long at, put;
    find(image, axes, at, put);
    for (unsigned int row = threadIdx.x / 32; row < 32; row += warps) {
      if (y + row < height && x + lane < width) {
        tile[row][lane] = from[at + (y + row) * source_step + x + lane];
      }
    }
    __syncthreads();
    for (unsigned int row = threadIdx.x / 32; row < 32; row += warps) {
      if (x + row < width && y + lane < height) {
        to[put + (x + row) * target_step + y + lane] = tile[lane][row];
      }
    }
    __syncthreads();
  }
}

#define TURN(name, S)                                                                \
  KERNEL(name)(const void* source, void* target, long long width, long long height,  \
               long long source_step, long long target_step, AXES) {                 \
    const Axes axes = AXES_ARGS;                                                     \
    turn<S>(source, target, width, height, source_step, target_step, axes);          \
  }

TURN(turn_1, unsigned char)
TURN(turn_2, unsigned short)
TURN(turn_4, unsigned int)
TURN(turn_8, unsigned long long)
