// What convolutions need besides matrix products and columns.  Arrays (N, C, *spatial)
// are addressed by three steps: image, channel, place.
#include "common.cuh"

DEVICE A rectified(A value, bool relu, A slope) {
  return relu && value < A(0) ? value * slope : value;
}

// The sum of the block's threads that share `lane`, in those of part 0; thread
// part * lanes + lane, both powers of two.
DEVICE A lane_sum(A value, int lanes) {
  __shared__ A shared[1024];
  const int rank = block_rank();
  __syncthreads();
  shared[rank] = value;
  for (int half = static_cast<int>(blockDim.x) / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (rank < half) shared[rank] += shared[rank + half];
  }
  return shared[rank];
}

// sums[i] (+)= the splits' sums, one after the other
KERNEL(add_splits)(const P* partial, P* sums, long long count, long long splits,
                   long long accumulate) {
  FOR_EACH(i, count) {
    A sum = accumulate ? sums[i] : A(0);
    for (long long split = 0; split < splits; ++split)
      sum += partial[split * count + i];
    sums[i] = sum;
  }
}

// dw[row, c, t] += product[row, t, c]
KERNEL(add_taps)(const P* product, P* dw, long long count, long long channels,
                 long long taps) {
  FOR_EACH(i, count) {
    const long long rest = i / taps, row = rest / channels;
    dw[i] += product[(row * taps + (i - rest * taps)) * channels + rest -
                     row * channels];
  }
}

// ---------------------------------------------- one input channel a group: directly

// Window `w` as a place of every axis, before the first tap
template <int AXES>
DEVICE void window_start(long long w, int (&first)[AXES], const Axis (&axis)[AXES]) {
  for (int a = AXES - 1; a >= 0; --a) {
    const long long up = w / axis[a].windows;
    first[a] =
        static_cast<int>(w - up * axis[a].windows) * axis[a].stride - axis[a].pad;
    w = up;
  }
}

// Whether a window's tap is on the image, and at which element of its plane
template <int AXES>
DEVICE bool on_image(const int (&first)[AXES], const int (&tap)[AXES],
                     const Axis (&axis)[AXES], long long& at) {
  bool inside = true;
  at = 0;
  for (int a = 0; a < AXES; ++a) {
    const int place = first[a] + tap[a] * axis[a].dilation;
    inside = inside && place >= 0 && place < axis[a].size;
    at += place * axis[a].step;
  }
  return inside;
}

struct Steps {
  long long image, channel, place;
};

template <int AXES>
static __device__ void depthwise_forward(
    const T* x, const P* w, const P* b, T* y, bool relu, A slope, long long count,
    long long channels, long long windows, long long each, long long taps,
    bool channels_last, const Steps& sx, const Steps& sy, const Axis (&axis)[AXES]) {
  FOR_EACH(i, count) {
    long long n, o, p;
    place_of(i, channels * each, windows, channels_last, n, o, p);
    const T* from = x + n * sx.image + (o / each) * sx.channel;
    int first[AXES], tap[AXES] = {0};
    window_start<AXES>(p, first, axis);
    A sum = b ? static_cast<A>(b[o]) : A(0);
    for (long long t = 0; t < taps; ++t) {
      long long at;
      if (on_image<AXES>(first, tap, axis, at))
        sum += static_cast<A>(w[o * taps + t]) * A(from[at]);
      next_tap<AXES>(tap, axis);
    }
    y[n * sy.image + o * sy.channel + p * sy.place] = T(rectified(sum, relu, slope));
  }
}

template <int AXES>
static __device__ void depthwise_data(const T* dy, const P* w, T* dx,
                                      long long count, long long channels,
                                      long long places, long long each,
                                      long long taps, bool channels_last,
                                      const Steps& sx, const Steps& sy,
                                      const Axis (&axis)[AXES]) {
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, places, channels_last, n, c, p);
    int place[AXES], tap[AXES] = {0};
    long long put = n * sx.image + c * sx.channel;
    for (int a = AXES - 1; a >= 0; --a) {
      const long long up = p / axis[a].size;
      const int here = static_cast<int>(p - up * axis[a].size);
      place[a] = here + axis[a].pad;
      put += here * axis[a].step;
      p = up;
    }
    const T* from = dy + n * sy.image + c * each * sy.channel;
    A sum = A(0);
    for (long long t = 0; t < taps; ++t) {
      bool inside = true;
      long long window = 0;
      for (int a = 0; a < AXES; ++a) {
        const int apart = place[a] - tap[a] * axis[a].dilation;
        const int q = axis[a].stride == 1 ? apart : apart / axis[a].stride;
        inside = inside && apart >= 0 && q * axis[a].stride == apart &&
                 q < axis[a].windows;
        window = window * axis[a].windows + q;
      }
      if (inside)
        for (long long o = 0; o < each; ++o)
          sum += static_cast<A>(w[(c * each + o) * taps + t]) *
                 A(from[o * sy.channel + window * sy.place]);
      next_tap<AXES>(tap, axis);
    }
    dx[put] = T(sum);
  }
}

// sums[split, o, t]: blocks (outputs / lanes) x taps x splits
template <int AXES>
static __device__ void depthwise_weights(
    const T* x, const T* dy, P* sums, long long images, long long outputs,
    long long windows, long long each, long long taps, const Steps& sx,
    const Steps& sy, long long lanes, long long splits, bool accumulate,
    const Axis (&axis)[AXES]) {
  const long long tiles = (outputs + lanes - 1) / lanes;
  const long long job = blockIdx.x / tiles, split = job / taps, t = job % taps;
  const int lane = static_cast<int>(threadIdx.x % lanes);
  const long long o = (blockIdx.x % tiles) * lanes + lane;
  const long long parts = blockDim.x / lanes;
  int first[AXES], tap[AXES];
  long long rest = t;
  for (int a = AXES - 1; a >= 0; --a) {
    tap[a] = static_cast<int>(rest % axis[a].kernel);
    rest /= axis[a].kernel;
  }
  A sum = A(0);
  if (o < outputs) {
    for (long long i = split * parts + threadIdx.x / lanes; i < images * windows;
         i += parts * splits) {
      const long long n = i / windows, p = i - n * windows;
      long long at;
      window_start<AXES>(p, first, axis);
      if (on_image<AXES>(first, tap, axis, at))
        sum += A(x[n * sx.image + (o / each) * sx.channel + at]) *
               A(dy[n * sy.image + o * sy.channel + p * sy.place]);
    }
  }
  sum = lane_sum(sum, static_cast<int>(lanes));
  if (threadIdx.x < lanes && o < outputs) {
    P* to = sums + (split * outputs + o) * taps + t;
    *to = (accumulate ? *to : P(0)) + sum;
  }
}

#define STEP_PARAMETERS                                                          \
  long long nx, long long cx, long long px, long long ny, long long cy, long long py

#define DEPTHWISE_KERNELS(AXES, PARAMETERS, ...)                                 \
  KERNEL(depthwise_forward_##AXES)                                               \
  (const T* x, const P* w, const P* b, T* y, long long relu, double slope,       \
   long long count, long long channels, long long windows, long long each,       \
   long long taps, long long channels_last, STEP_PARAMETERS, PARAMETERS) {       \
    const Axis axis[AXES] = {__VA_ARGS__};                                       \
    const Steps sx = {nx, cx, px}, sy = {ny, cy, py};                            \
    depthwise_forward<AXES>(x, w, b, y, relu != 0, static_cast<A>(slope), count, \
                            channels, windows, each, taps, channels_last != 0,   \
                            sx, sy, axis);                                       \
  }                                                                              \
  KERNEL(depthwise_data_##AXES)                                                  \
  (const T* dy, const P* w, T* dx, long long count, long long channels,          \
   long long places, long long each, long long taps, long long channels_last,    \
   STEP_PARAMETERS, PARAMETERS) {                                                \
    const Axis axis[AXES] = {__VA_ARGS__};                                       \
    const Steps sx = {nx, cx, px}, sy = {ny, cy, py};                            \
    depthwise_data<AXES>(dy, w, dx, count, channels, places, each, taps,         \
                         channels_last != 0, sx, sy, axis);                      \
  }                                                                              \
  KERNEL(depthwise_weights_##AXES)                                               \
  (const T* x, const T* dy, P* sums, long long images, long long outputs,        \
   long long windows, long long each, long long taps, long long lanes,           \
   long long splits, long long accumulate, STEP_PARAMETERS, PARAMETERS) {        \
    const Axis axis[AXES] = {__VA_ARGS__};                                       \
    const Steps sx = {nx, cx, px}, sy = {ny, cy, py};                            \
    depthwise_weights<AXES>(x, dy, sums, images, outputs, windows, each, taps,   \
                            sx, sy, lanes, splits, accumulate != 0, axis);       \
  }

#define TWO AXIS_PARAMETERS(0), AXIS_PARAMETERS(1)
#define THREE TWO, AXIS_PARAMETERS(2)
#define SIX THREE, AXIS_PARAMETERS(3), AXIS_PARAMETERS(4), AXIS_PARAMETERS(5)

DEPTHWISE_KERNELS(2, TWO, AXIS(0), AXIS(1))
DEPTHWISE_KERNELS(3, THREE, AXIS(0), AXIS(1), AXIS(2))
DEPTHWISE_KERNELS(6, SIX, AXIS(0), AXIS(1), AXIS(2), AXIS(3), AXIS(4), AXIS(5))
