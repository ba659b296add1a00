// Normalisation by moments: batch norm and MVN.  What has one mean is a group; memory
// is (batch, rows, groups, inner), C order, and the groups of different batches differ.
//   _planes   inner > 1, batch = 1: a block works on one group
//   _columns  inner = 1: a block works on 32 neighbouring groups of one batch
// Of each, `slots` blocks share the rows.
#include "common.cuh"

enum { PLANES, COLUMNS };

#define CHUNK 512   // elements of a group that a warp takes at a time
#define AT_ONCE 8   // elements that a thread has under way

// A thread's share of a block's elements.
template <int MODE>
struct Share {
  long long group;  // over all batches
  long long slot, first, step;
  long long rows_before, rows, groups, inner, column;

  __device__ __forceinline__ Share(long long rows, long long groups, long long inner,
                                   long long slots)
      : rows(rows), groups(groups), inner(inner) {
    const long long warps = blockDim.x / 32, warp = threadIdx.x / 32;
    long long block = blockIdx.x;
    slot = block % slots;
    block /= slots;
    first = slot * warps + warp;
    step = slots * warps;
    if (MODE == PLANES) {
      column = group = block;
      rows_before = 0;
    } else {
      const long long tiles = (groups + 31) / 32, batch = block / tiles;
      column = block % tiles * 32 + threadIdx.x % 32;
      group = batch * groups + column;
      rows_before = batch * rows;
    }
  }
  // Whether this thread has a group, and whether it speaks for it.
  __device__ __forceinline__ bool live() const { return MODE == PLANES || column < groups; }
  __device__ __forceinline__ bool speaks() const {
    return threadIdx.x < (MODE == PLANES ? 1 : 32) && live();
  }

  // f(places of up to AT_ONCE elements, how many) until the share is done.
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    if constexpr (MODE == PLANES) {
      each_of_plane(f);
    } else {
      each_of_column(f);
    }
  }

 private:
  template <class F>
  __device__ __forceinline__ void each_of_column(F f) const {
    if (!live()) return;
    long long at[AT_ONCE], here = (rows_before + first) * groups + column;
    for (long long row = first; row < rows; row += AT_ONCE * step) {
      int count = 0;
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k, here += step * groups) {
        at[k] = here;
        count += row + k * step < rows;
      }
      f(at, count);
    }
  }
  // The rows of a group one after the other, by chunks; no division in the loop.
  template <class F>
  __device__ __forceinline__ void each_of_plane(F f) const {
    const long long leap = (groups - 1) * inner, members = rows * inner;
    const long long turns = inner > 32 ? 0 : 32 / inner;
    const long long further = 32 + turns * leap, rest = 32 - turns * inner;
    for (long long chunk = first; chunk * CHUNK < members; chunk += step) {
      const long long stop = (chunk + 1) * CHUNK, end = stop < members ? stop : members;
      long long item = chunk * CHUNK + threadIdx.x % 32;
      const long long row = rows == 1 ? 0 : item / inner;
      long long place = item - row * inner;
      long long at[AT_ONCE], here = (row * groups + column) * inner + place;
      for (; item < end; item += AT_ONCE * 32) {
        int count = 0;
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
          at[k] = here;
          count += item + k * 32 < end;
          here += further;
          place += rest;
          if (place >= inner) {
            place -= inner;
            here += leap;
          }
        }
        f(at, count);
      }
    }
  }
};

typedef long long Places[AT_ONCE];

// The elements at these places; 0 behind the first `count`.  No x is 0.  All of them
// are under way before the first is waited for: nothing is asked between whole loads.
DEVICE void load(const T* x, const Places& at, int count, T (&values)[AT_ONCE]) {
  if (x && count == AT_ONCE) {
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) values[k] = x[at[k]];
  } else {
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) values[k] = x && k < count ? x[at[k]] : T(A(0));
  }
}

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

// parts[group, slot] = (count, mean, sum of squares about it): the moments of the few
// elements under way are joined to a thread's own (Chan's formula), so that a large
// mean cancels nothing.
template <int MODE>
DEVICE void moments_share(const T* x, double* parts, long long rows, long long groups,
                          long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  A mean = 0, squares = 0, number = 0;
  share.each([&](const Places& at, int count) {
    T values[AT_ONCE];
    load(x, at, count, values);
    A sum = 0, spread = 0;
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) sum += A(values[k]);
    const A middle = count == AT_ONCE ? sum * A(1.0 / AT_ONCE) : sum / A(count);
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const A off = k < count ? A(values[k]) - middle : A(0);
      spread += off * off;
    }
    const A total = number + A(count), off = middle - mean, part = A(count) / total;
    mean += off * part;
    squares += spread + off * off * number * part;
    number = total;
  });
  const double count = together<MODE>((double)number);
  const double middle = together<MODE>((double)number * (double)mean) / max(count, 1.0);
  const double apart = (double)mean - middle;
  const double spread = together<MODE>((double)squares + (double)number * apart * apart);
  if (share.speaks()) {
    double* part = parts + (share.group * slots + share.slot) * 3;
    part[0] = count;
    part[1] = middle;
    part[2] = spread;
  }
}
FORMS(moments,
      (const T* x, double* parts, long long rows, long long groups, long long inner,
       long long slots),
      (x, parts, rows, groups, inner, slots))

// A warp a group: its moments, and the factor that elements are multiplied by.  Without
// parts mean and var are given.  With a deviation that is wanted (MVN), else var.
KERNEL(finish_moments)(const double* parts, P* mean, P* var, P* deviation,
                       const P* scale, double eps, P* factor, long long groups,
                       long long slots) {
  const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  double variance = var && group < groups ? (double)var[group] : 0.0;
  if (parts) {
    double count = 0, sum = 0, spread = 0;
    const double* part = parts + group * slots * 3;
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

// What forward makes of an element before a ReLU; backward asks for its sign.
struct Normal {
  A middle, times, plus;

  __device__ __forceinline__ Normal(const P* mean, const P* factor, const P* shift,
                                    long long group, bool live)
      : middle(mean && live ? A(mean[group]) : A(0)),
        times(factor && live ? A(factor[group]) : A(0)),
        plus(shift && live ? A(shift[group]) : A(0)) {}
  __device__ __forceinline__ A of(T value) const {
    return fma(A(value) - middle, times, plus);
  }
  __device__ __forceinline__ bool positive(T value) const {
    return A(T(of(value))) > A(0);
  }
};

// y = (x - mean) * factor + shift, max(0, .) of it with relu; kept = x.  y may be x.
template <int MODE>
DEVICE void normalise_share(const T* x, T* y, T* kept, const P* mean, const P* factor,
                            const P* shift, long long relu, long long rows,
                            long long groups, long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  const Normal normal(mean, factor, shift, share.group, share.live());
  share.each([&](const Places& at, int count) {
    T values[AT_ONCE];
    load(x, at, count, values);
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      if (k < count) {
        const A made = normal.of(values[k]);
        if (kept) kept[at[k]] = values[k];
        y[at[k]] = T(relu ? maximum(made, A(0)) : made);
      }
    }
  });
}
FORMS(normalise,
      (const T* x, T* y, T* kept, const P* mean, const P* factor, const P* shift,
       long long relu, long long rows, long long groups, long long inner,
       long long slots),
      (x, y, kept, mean, factor, shift, relu, rows, groups, inner, slots))

// --------------------------------------------------------------------- backward
// With a factor forward ended in a ReLU: dy counts where its input was positive, which
// is computed again, as z is read anyway.

// parts[group, slot] = (sum of dy, sum of dy * (z - mean)); no mean is 0
template <int MODE>
DEVICE void products_share(const T* z, const T* dy, const P* mean, const P* factor,
                           const P* shift, double* parts, long long rows,
                           long long groups, long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  const Normal normal(mean, factor, shift, share.group, share.live());
  A sum = 0, product = 0;
  share.each([&](const Places& at, int count) {
    T values[AT_ONCE], slopes[AT_ONCE];
    load(dy, at, count, slopes);
    load(z, at, count, values);
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const A slope = factor && !normal.positive(values[k]) ? A(0) : A(slopes[k]);
      sum += slope;
      // What lies behind the last is 0; a value of infinity is not to come from it.
      if (k < count) product += slope * (A(values[k]) - normal.middle);
    }
  });
  const double sums = together<MODE>((double)sum);
  const double products = together<MODE>(z ? (double)product : 0.0);
  if (share.speaks()) {
    double* part = parts + (share.group * slots + share.slot) * 2;
    part[0] = sums;
    part[1] = products;
  }
}
FORMS(products,
      (const T* z, const T* dy, const P* mean, const P* factor, const P* shift,
       double* parts, long long rows, long long groups, long long inner,
       long long slots),
      (z, dy, mean, factor, shift, parts, rows, groups, inner, slots))

// A warp a group: coefficients (factor, of 1, of z - mean), each for all groups, and
// the gradients of scale and shift.  With `stored` the moments are constants.
KERNEL(finish_products)(const double* parts, const P* var, const P* deviation,
                        const P* scale, double eps, double count, long long stored,
                        P* coefficients, P* dscale, P* dshift, long long groups,
                        long long slots) {
  const long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  double sum = 0, product = 0;
  if (parts) {
    const double* part = parts + group * slots * 2;
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

// dx = times * (dy - c0 - (z - mean) * c1); no z is 0.  dx may be dy.
template <int MODE>
DEVICE void correct_share(const T* z, const T* dy, T* dx, const P* mean,
                          const P* coefficients, const P* factor, const P* shift,
                          long long all, long long rows, long long groups,
                          long long inner, long long slots) {
  const Share<MODE> share(rows, groups, inner, slots);
  const bool live = share.live();
  const Normal normal(mean, factor, shift, share.group, live);
  const A times = live ? A(coefficients[share.group]) : A(0);
  const A c0 = live ? A(coefficients[all + share.group]) : A(0);
  const A c1 = live ? A(coefficients[2 * all + share.group]) : A(0);
  share.each([&](const Places& at, int count) {
    T values[AT_ONCE], slopes[AT_ONCE];
    load(dy, at, count, slopes);
    load(z, at, count, values);
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      if (k < count) {
        A slope = factor && !normal.positive(values[k]) ? A(0) : A(slopes[k]);
        slope -= c0;
        if (z) slope -= (A(values[k]) - normal.middle) * c1;
        dx[at[k]] = T(slope * times);
      }
    }
  });
}
FORMS(correct,
      (const T* z, const T* dy, T* dx, const P* mean, const P* coefficients,
       const P* factor, const P* shift, long long all, long long rows, long long groups,
       long long inner, long long slots),
      (z, dy, dx, mean, coefficients, factor, shift, all, rows, groups, inner, slots))
