// Copies between any two layouts of up to six axes, and between number types.
#include "common.cuh"

// The axes come last to first in the target's memory; the fastest is the last.
template <class From, class To>
static __device__ void copy_strided(const From *source, To *target, long long count,
                                    const long long (&length)[6], const long long (&from)[6],
                                    const long long (&to)[6]) {
  FOR_EACH(i, count) {
    long long rest = i, at = 0, put = 0;
    for (int axis = 5; axis > 0; --axis) {
      long long place = rest;
      if (length[axis] > 1) {
        rest = place / length[axis];
        place -= rest * length[axis];
      } else {
        place = 0;
      }
      at += place * from[axis];
      put += place * to[axis];
    }
    at += rest * from[0];
    put += rest * to[0];
    target[put] = To(source[at]);
  }
}

#define COPY(name, From, To)                                                                  \
  KERNEL(name)(const From *source, To *target, long long count, long long l0, long long l1,   \
               long long l2, long long l3, long long l4, long long l5, long long f0,          \
               long long f1, long long f2, long long f3, long long f4, long long f5,          \
               long long t0, long long t1, long long t2, long long t3, long long t4,          \
               long long t5) {                                                                \
    const long long length[6] = {l0, l1, l2, l3, l4, l5};                                     \
    const long long from[6] = {f0, f1, f2, f3, f4, f5};                                       \
    const long long to[6] = {t0, t1, t2, t3, t4, t5};                                         \
    copy_strided(source, target, count, length, from, to);                                    \
  }

COPY(copy_float_float, float, float)
COPY(copy_double_double, double, double)
COPY(copy_float_double, float, double)
COPY(copy_double_float, double, float)
COPY(copy_half_half, half16, half16)
COPY(copy_bfloat_bfloat, bfloat16, bfloat16)
COPY(copy_float_half, float, half16)
COPY(copy_half_float, half16, float)
COPY(copy_float_bfloat, float, bfloat16)
COPY(copy_bfloat_float, bfloat16, float)
COPY(copy_byte_byte, unsigned char, unsigned char)
COPY(copy_byte_float, unsigned char, float)
