// Windows of images laid out as columns, and the sums back: one to six spatial axes.
#include "common.cuh"

// Where the columns' elements lie: image n, window w, group g, channel c of a group
// and place t of the kernel at n*image + w*window + g*group + c*channel + t*tap.
struct Columns {
  long long image, window, group, channel, tap, in_group;
};

// One thread a window and channel; the places of the kernel one after the other.
template <int AXES>
static __device__ void unfold(const T* x, T* columns, long long count,
                              long long channels, long long windows,
                              long long taps, long long channels_last,
                              long long image_step, long long channel_step,
                              const Columns& lie, const Axis (&axis)[AXES]) {
  FOR_EACH(i, count) {
    long long n, c, w;
    place_of(i, channels, windows, channels_last, n, c, w);
    const T* from = x + n * image_step + c * channel_step;
    const long long g = c / lie.in_group;
    T* to = columns + n * lie.image + w * lie.window + g * lie.group +
            (c - g * lie.in_group) * lie.channel;
    int first[AXES], tap[AXES];
    long long rest = w;
    for (int a = AXES - 1; a >= 0; --a) {
      const long long up = rest / axis[a].windows;
      first[a] = static_cast<int>(rest - up * axis[a].windows) * axis[a].stride -
                 axis[a].pad;
      rest = up;
      tap[a] = 0;
    }
    for (long long t = 0; t < taps; ++t) {
      bool inside = true;
      long long at = 0;
      for (int a = 0; a < AXES; ++a) {
        const int place = first[a] + tap[a] * axis[a].dilation;
        inside = inside && place >= 0 && place < axis[a].size;
        at += place * axis[a].step;
      }
      A value = A(0);
      if (inside) value = A(from[at]);
      to[t * lie.tap] = T(value);
      next_tap(tap, axis);
    }
  }
}

// One thread an element of the image, which looks for the windows it is in.
template <int AXES>
static __device__ void fold(const T* columns, T* x, long long count,
                            long long channels, long long places, long long taps,
                            long long channels_last, long long image_step,
                            long long channel_step, const Columns& lie,
                            const Axis (&axis)[AXES]) {
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, places, channels_last, n, c, p);
    const long long g = c / lie.in_group;
    const T* from = columns + n * lie.image + g * lie.group +
                    (c - g * lie.in_group) * lie.channel;
    int place[AXES], tap[AXES];
    long long rest = p, put = n * image_step + c * channel_step;
    for (int a = AXES - 1; a >= 0; --a) {
      const long long up = rest / axis[a].size;
      const int here = static_cast<int>(rest - up * axis[a].size);
      place[a] = here + axis[a].pad;
      put += here * axis[a].step;
      rest = up;
      tap[a] = 0;
    }
    A sum = A(0);
    for (long long t = 0; t < taps; ++t) {
      bool inside = true;
      long long w = 0;
      for (int a = 0; a < AXES; ++a) {
        const int apart = place[a] - tap[a] * axis[a].dilation;
        const int q = axis[a].stride == 1 ? apart : apart / axis[a].stride;
        inside = inside && apart >= 0 && q * axis[a].stride == apart &&
                 q < axis[a].windows;
        w = w * axis[a].windows + q;
      }
      if (inside) sum += A(from[w * lie.window + t * lie.tap]);
      next_tap(tap, axis);
    }
    x[put] = T(sum);
  }
}

#define COMMON_PARAMETERS                                                        \
  long long count, long long channels, long long windows, long long taps,        \
      long long channels_last, long long image_step, long long channel_step,     \
      long long image, long long window, long long group, long long channel,     \
      long long tap, long long in_group

#define COLUMN_KERNELS(AXES, PARAMETERS, ...)                                    \
  KERNEL(unfold_##AXES)(const T* x, T* columns, COMMON_PARAMETERS, PARAMETERS) { \
    const Axis axis[AXES] = {__VA_ARGS__};                                       \
    const Columns lie = {image, window, group, channel, tap, in_group};          \
    unfold<AXES>(x, columns, count, channels, windows, taps, channels_last,      \
                 image_step, channel_step, lie, axis);                           \
  }                                                                              \
  KERNEL(fold_##AXES)(const T* columns, T* x, COMMON_PARAMETERS, PARAMETERS) {   \
    const Axis axis[AXES] = {__VA_ARGS__};                                       \
    const Columns lie = {image, window, group, channel, tap, in_group};          \
    fold<AXES>(columns, x, count, channels, windows, taps, channels_last,        \
               image_step, channel_step, lie, axis);                             \
  }

#define TWO AXIS_PARAMETERS(0), AXIS_PARAMETERS(1)
#define THREE TWO, AXIS_PARAMETERS(2)
#define SIX THREE, AXIS_PARAMETERS(3), AXIS_PARAMETERS(4), AXIS_PARAMETERS(5)

COLUMN_KERNELS(2, TWO, AXIS(0), AXIS(1))
COLUMN_KERNELS(3, THREE, AXIS(0), AXIS(1), AXIS(2))
COLUMN_KERNELS(6, SIX, AXIS(0), AXIS(1), AXIS(2), AXIS(3), AXIS(4), AXIS(5))
