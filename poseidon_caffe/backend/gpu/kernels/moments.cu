// Normalisation by moments: batch norm and MVN.  What has one mean is a group; memory
// is (batch, rows, groups, inner), C order, and the groups of different batches differ.
//   _planes   inner > 1, batch = 1: a block works on one group
//   _columns  inner = 1: a block works on 32 neighbouring groups of one batch
// Of each, `slots` blocks share the rows.
#include "common.cuh"

enum { PLANES, COLUMNS };

#define CHUNK 1024  // elements of a row that a warp takes at a time

// A thread's share of a block's elements.
template <int MODE>
struct Share {
  long long group;  // over all batches
  long long slot, first, items, step;
  long long rows_before, groups, inner, column, chunks;

  __device__ __forceinline__ Share(long long rows, long long groups_, long long inner_,
                                   long long slots)
      : groups(groups_), inner(inner_) {
    const long long warps = blockDim.x / 32, warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    long long block = blockIdx.x;
    slot = block % slots;
    block /= slots;
    first = slot * warps + warp;
    step = slots * warps;
    if (MODE == PLANES) {
      column = group = block;
      chunks = (inner + CHUNK - 1) / CHUNK;
      items = rows * chunks;
      rows_before = 0;
    } else {
      const long long tiles = (groups + 31) / 32, batch = block / tiles;
      column = block % tiles * 32 + lane;
      group = batch * groups + column;
      rows_before = batch * rows;
      chunks = 1;
      // Threads without a column stay for the barriers.
      items = column < groups ? rows : 0;
    }
  }
  __device__ __forceinline__ long long begin(long long item) const {
    if (MODE == COLUMNS) return (rows_before + item) * groups + column;
    const long long row = chunks == 1 ? item : item / chunks;
    return (row * groups + column) * inner + (item - row * chunks) * CHUNK +
           threadIdx.x % 32;
  }
  __device__ __forceinline__ long long end(long long item, long long begin) const {
    if (MODE == COLUMNS) return begin + 1;
    const long long row = chunks == 1 ? item : item / chunks;
    const long long last = ((item - row * chunks) + 1) * CHUNK;
    return (row * groups + column) * inner + (last < inner ? last : inner);
  }
  // Whether this thread has a group, and whether it speaks for it.
  __device__ __forceinline__ bool live() const { return MODE == PLANES || column < groups; }
  __device__ __forceinline__ bool speaks() const {
    return threadIdx.x < (MODE == PLANES ? 1 : 32) && live();
  }
};

#define ELEMENTS(i, share)                                                        \
  for (long long item = share.first; item < share.items; item += share.step)      \
    for (long long i = share.begin(item), i_end = share.end(item, i); i < i_end; i += 32)

// The sum over all threads of a block that share a group.
template <int MODE>
static __device__ double together(double value) {
  if constexpr (MODE == PLANES) {
    return block_sum(value);
  } else {
    __shared__ double all[1024];
    __syncthreads();
    all[threadIdx.x] = value;
    __syncthreads();
    value = all[threadIdx.x % 32];
    for (unsigned i = threadIdx.x % 32 + 32; i < blockDim.x; i += 32) value += all[i];
    return value;
  }
}

#define FORMS(name, parameters, arguments)                              \
  KERNEL(name##_planes) parameters { name##_share<PLANES> arguments; }  \
  KERNEL(name##_columns) parameters { name##_share<COLUMNS> arguments; }

// ---------------------------------------------------------------------- forward

// parts[group, slot] = (count, mean, sum of squares about it), by Welford's recurrence
// in each thread, so that a large mean cancels nothing.
template <int MODE>
DEVICE void moments_share(const T *x, double *parts, long long rows, long long groups,
                          long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  A mean = 0, squares = 0, number = 0;
  ELEMENTS(i, share) {
    const A value = A(x[i]);
    number += A(1);
    const A off = value - mean;
    mean += off / number;
    squares += off * (value - mean);
  }
  const double count = together<MODE>((double)number);
  const double middle = together<MODE>((double)number * (double)mean) / max(count, 1.0);
  const double apart = (double)mean - middle;
  const double spread = together<MODE>((double)squares + (double)number * apart * apart);
  if (share.speaks()) {
    double *part = parts + (share.group * slots + share.slot) * 3;
    part[0] = count;
    part[1] = middle;
    part[2] = spread;
  }
}
FORMS(moments,
      (const T *x, double *parts, long long rows, long long groups, long long inner,
       long long slots),
      (x, parts, rows, groups, inner, slots))

// A warp a group: its moments, and the factor that elements are multiplied by.  Without
// parts mean and var are given.  With a deviation that is wanted (MVN), else var.
KERNEL(finish_moments)(const double *parts, P *mean, P *var, P *deviation,
                       const P *scale, double eps, P *factor, long long groups,
                       long long slots) {
  const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  double variance = var && group < groups ? (double)var[group] : 0.0;
  if (parts) {
    double count = 0, sum = 0, spread = 0;
    const double *part = parts + group * slots * 3;
    const long long end = group < groups ? slots : 0;
    for (long long s = lane; s < end; s += 32) {
      count += part[3 * s];
      sum += part[3 * s] * part[3 * s + 1];
    }
    count = max(warp_reduce<AddOf>(count), 1.0);
    const double middle = warp_reduce<AddOf>(sum) / count;
    for (long long s = lane; s < end; s += 32) {
      const double apart = part[3 * s + 1] - middle;
      spread += part[3 * s + 2] + part[3 * s] * apart * apart;
    }
    variance = warp_reduce<AddOf>(spread) / count;
    if (lane == 0 && group < groups) {
      mean[group] = P(middle);
      if (var) var[group] = P(variance);
    }
  }
  if (lane != 0 || group >= groups) return;
  if (deviation) {
    const double spread = sqrt(variance) + eps;
    deviation[group] = P(spread);
    factor[group] = P(1.0 / spread);
  } else {
    const double times = scale ? (double)scale[group] : 1.0;
    factor[group] = var ? P(times / sqrt(variance + eps)) : P(1);
  }
}

// y = (x - mean) * factor + shift, max(0, .) of it with relu; kept = x.  y may be x.
template <int MODE>
DEVICE void normalise_share(const T *x, T *y, T *kept, const P *mean, const P *factor,
                            const P *shift, long long relu, long long rows,
                            long long groups, long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  if (!share.live()) return;
  const A middle = A(mean[share.group]), times = A(factor[share.group]);
  const A plus = shift ? A(shift[share.group]) : A(0);
  ELEMENTS(i, share) {
    const T value = x[i];
    if (kept) kept[i] = value;
    A made = (A(value) - middle) * times + plus;
    if (relu) made = maximum(made, A(0));
    y[i] = T(made);
  }
}
FORMS(normalise,
      (const T *x, T *y, T *kept, const P *mean, const P *factor, const P *shift,
       long long relu, long long rows, long long groups, long long inner,
       long long slots),
      (x, y, kept, mean, factor, shift, relu, rows, groups, inner, slots))

// --------------------------------------------------------------------- backward

// parts[group, slot] = (sum of dy, sum of dy * (z - mean)); no mean is 0
template <int MODE>
DEVICE void products_share(const T *z, const T *dy, const P *mean, double *parts,
                           long long rows, long long groups, long long inner,
                           long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  const A middle = mean && share.live() ? A(mean[share.group]) : A(0);
  A sum = 0, product = 0;
  ELEMENTS(i, share) {
    const A slope = A(dy[i]);
    sum += slope;
    if (z) product += slope * (A(z[i]) - middle);
  }
  const double sums = together<MODE>((double)sum);
  const double products = together<MODE>((double)product);
  if (share.speaks()) {
    double *part = parts + (share.group * slots + share.slot) * 2;
    part[0] = sums;
    part[1] = products;
  }
}
FORMS(products,
      (const T *z, const T *dy, const P *mean, double *parts, long long rows,
       long long groups, long long inner, long long slots),
      (z, dy, mean, parts, rows, groups, inner, slots))

// A warp a group: coefficients (factor, of 1, of z - mean), each for all groups, and
// the gradients of scale and shift.  With `stored` the moments are constants.
KERNEL(finish_products)(const double *parts, const P *var, const P *deviation,
                        const P *scale, double eps, double count, long long stored,
                        P *coefficients, P *dscale, P *dshift, long long groups,
                        long long slots) {
  const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  double sum = 0, product = 0;
  if (parts) {
    const double *part = parts + group * slots * 2;
    for (long long s = lane; s < (group < groups ? slots : 0); s += 32) {
      sum += part[2 * s];
      product += part[2 * s + 1];
    }
    sum = warp_reduce<AddOf>(sum);
    product = warp_reduce<AddOf>(product);
  }
  if (lane != 0 || group >= groups) return;
  const double inverse = var ? 1.0 / sqrt((double)var[group] + eps) : 1.0;
  if (dscale) dscale[group] = P(product * inverse);
  if (dshift) dshift[group] = P(sum);
  double factor = scale ? inverse * (double)scale[group] : inverse;
  if (deviation) factor = 1.0 / (double)deviation[group];
  coefficients[group] = P(factor);
  coefficients[groups + group] = P(stored ? 0.0 : sum / count);
  coefficients[2 * groups + group] =
      P(stored ? 0.0 : product * inverse * inverse / count);
}

// dx = factor * (dy - c0 - (z - mean) * c1); no z is 0.  dx may be dy.
template <int MODE>
DEVICE void correct_share(const T *z, const T *dy, T *dx, const P *mean,
                          const P *coefficients, long long all, long long rows,
                          long long groups, long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  if (!share.live()) return;
  const A middle = mean ? A(mean[share.group]) : A(0);
  const A factor = A(coefficients[share.group]);
  const A c0 = A(coefficients[all + share.group]);
  const A c1 = A(coefficients[2 * all + share.group]);
  ELEMENTS(i, share) {
    A slope = A(dy[i]) - c0;
    if (z) slope -= (A(z[i]) - middle) * c1;
    dx[i] = T(slope * factor);
  }
}
FORMS(correct,
      (const T *z, const T *dy, T *dx, const P *mean, const P *coefficients,
       long long all, long long rows, long long groups, long long inner,
       long long slots),
      (z, dy, dx, mean, coefficients, all, rows, groups, inner, slots))
