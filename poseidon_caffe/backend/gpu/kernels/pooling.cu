// Pooling with Caffe's windows.  Arrays (N, C, H, W) are addressed by three steps:
// image, channel, place of the plane.  Winners are places of the bottom's plane, -1
// where a window has none; they lie dense in the order that forward's threads go.
// A thread has little to compute and to move, so it divides by multiplying.
#include "common.cuh"

struct Pool {
  int height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h,
      pad_w;
  Divisor by_width, by_columns, by_stride_h, by_stride_w;
};

#define POOL_PARAMETERS                                                           \
  long long height, long long width, long long rows, long long columns,           \
      long long kernel_h, long long kernel_w, long long stride_h,                 \
      long long stride_w, long long pad_h, long long pad_w, long long width_code, \
      long long columns_code, long long stride_h_code, long long stride_w_code
#define POOL                                                                      \
  {static_cast<int>(height),   static_cast<int>(width),                           \
   static_cast<int>(rows),     static_cast<int>(columns),                         \
   static_cast<int>(kernel_h), static_cast<int>(kernel_w),                        \
   static_cast<int>(stride_h), static_cast<int>(stride_w),                        \
   static_cast<int>(pad_h),    static_cast<int>(pad_w),                           \
   DIVISOR(width),             DIVISOR(columns),                                  \
   DIVISOR(stride_h),          DIVISOR(stride_w)}

// The part of a window on the image, and what AVE divides by.
struct Window {
  int top, bottom, left, right, divisor;
};

DEVICE int padded_length(int start, int kernel, int end) {
  return max(min(start + kernel, end) - start, 1);
}

DEVICE Window window_at(int p, const Pool& g) {
  const int row = divide(p, g.by_columns);
  const int h = row * g.stride_h - g.pad_h;
  const int w = (p - row * g.columns) * g.stride_w - g.pad_w;
  Window found;
  found.top = max(h, 0);
  found.bottom = min(h + g.kernel_h, g.height);
  found.left = max(w, 0);
  found.right = min(w + g.kernel_w, g.width);
  found.divisor = padded_length(h, g.kernel_h, g.height + g.pad_h) *
                  padded_length(w, g.kernel_w, g.width + g.pad_w);
  return found;
}

#define AT_ONCE 3  // loads of a row of a window that are under way together

// f(place, value, whether it counts) of a window's elements in row-major order.  Loads
// behind a row's end are of its last element, so that none waits for a question.
template <class F>
DEVICE void each_of(const Window& window, const T* from, int step, int width, F f) {
  for (int h = window.top; h < window.bottom; ++h) {
    for (int w = window.left; w < window.right; w += AT_ONCE) {
      A values[AT_ONCE];
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) {
        values[k] = A(from[along(h * width + min(w + k, window.right - 1), step)]);
      }
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) {
        f(h * width + w + k, values[k], w + k < window.right);
      }
    }
  }
}

// ------------------------------------------------------------------------- forward

KERNEL(max_each)(const T* x, T* y, T* mask, int* winners, long long count,
                 ORDER_PARAMETERS, STEPS_PARAMETERS(x), STEPS_PARAMETERS(y),
                 STEPS_PARAMETERS(m), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y), sm = STEPS(m);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    A best = A(-FLT_MAX);
    int winner = -1;
    each_of(window, from, sx.place, g.width, [&](int at, A value, bool counts) {
      const bool wins = counts && value > best;
      best = wins ? value : best;
      winner = wins ? at : winner;
    });
    y[element_at(sy, n, c, p)] = T(best);
    winners[i] = winner;
    if (mask) mask[element_at(sm, n, c, p)] = T(static_cast<A>(winner));
  }
}

KERNEL(average_each)(const T* x, T* y, long long count, ORDER_PARAMETERS,
                     STEPS_PARAMETERS(x), STEPS_PARAMETERS(y), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    A sum = A(0);
    each_of(window, from, sx.place, g.width, [&](int, A value, bool counts) {
      sum += counts ? value : A(0);
    });
    y[element_at(sy, n, c, p)] = T(sum / static_cast<A>(window.divisor));
  }
}

// Large windows: a block does `lanes` neighbouring outputs, each by blockDim / lanes
// threads (both powers of two).
KERNEL(max_block)(const T* x, T* y, T* mask, int* winners, long long count,
                  ORDER_PARAMETERS, STEPS_PARAMETERS(x), STEPS_PARAMETERS(y),
                  STEPS_PARAMETERS(m), long long lanes, POOL_PARAMETERS) {
  __shared__ A values[1024];
  __shared__ int places[1024];
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y), sm = STEPS(m);
  const int rank = block_rank(), parts = static_cast<int>(blockDim.x / lanes);
  const long long i = blockIdx.x * lanes + rank % lanes;
  const int nobody = 0x7fffffff;
  int n = 0, c = 0, p = 0;
  A best = A(-FLT_MAX);
  int winner = nobody;
  if (i < count) {
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    const int wide = max(window.right - window.left, 0);
    const int all = wide * max(window.bottom - window.top, 0);
    for (int k = static_cast<int>(rank / lanes); k < all; k += parts) {
      const int h = k / wide;
      const int at = (window.top + h) * g.width + window.left + k - h * wide;
      const A value = A(from[along(at, sx.place)]);
      if (value > best) {
        best = value;
        winner = at;
      }
    }
  }
  values[rank] = best;
  places[rank] = winner;
  for (int half = static_cast<int>(blockDim.x) / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (rank < half) {
      const A other = values[rank + half];
      const int place = places[rank + half];
      if (other > values[rank] || (other == values[rank] && place < places[rank])) {
        values[rank] = other;
        places[rank] = place;
      }
    }
  }
  if (rank < lanes && i < count) {
    winner = places[rank] == nobody ? -1 : places[rank];
    y[element_at(sy, n, c, p)] = T(values[rank]);
    winners[i] = winner;
    if (mask) mask[element_at(sm, n, c, p)] = T(static_cast<A>(winner));
  }
}

KERNEL(average_block)(const T* x, T* y, long long count, ORDER_PARAMETERS,
                      STEPS_PARAMETERS(x), STEPS_PARAMETERS(y), long long lanes,
                      POOL_PARAMETERS) {
  __shared__ A values[1024];
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y);
  const int rank = block_rank(), parts = static_cast<int>(blockDim.x / lanes);
  const long long i = blockIdx.x * lanes + rank % lanes;
  int n = 0, c = 0, p = 0;
  int divisor = 1;
  A sum = A(0);
  if (i < count) {
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    divisor = window.divisor;
    const int wide = max(window.right - window.left, 0);
    const int all = wide * max(window.bottom - window.top, 0);
    for (int k = static_cast<int>(rank / lanes); k < all; k += parts) {
      const int h = k / wide;
      const int at = (window.top + h) * g.width + window.left + k - h * wide;
      sum += A(from[along(at, sx.place)]);
    }
  }
  values[rank] = sum;
  for (int half = static_cast<int>(blockDim.x) / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (rank < half) values[rank] += values[rank + half];
  }
  if (rank < lanes && i < count)
    y[element_at(sy, n, c, p)] = T(values[rank] / static_cast<A>(divisor));
}

// ------------------------------------------------------------------------ backward

// The windows that an element is in: rows and columns of the top.
DEVICE Window windows_of(int h, int w, const Pool& g) {
  h += g.pad_h;
  w += g.pad_w;
  Window found;
  found.top = h < g.kernel_h ? 0 : divide(h - g.kernel_h, g.by_stride_h) + 1;
  found.bottom = min(divide(h, g.by_stride_h) + 1, g.rows);
  found.left = w < g.kernel_w ? 0 : divide(w - g.kernel_w, g.by_stride_w) + 1;
  found.right = min(divide(w, g.by_stride_w) + 1, g.columns);
  found.divisor = 1;
  return found;
}

// dx = the sum of the gradients of the windows that the element won
KERNEL(max_backward)(const T* dy, const int* winners, T* dx, long long count,
                     ORDER_PARAMETERS, STEPS_PARAMETERS(x), STEPS_PARAMETERS(y),
                     STEPS_PARAMETERS(w), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y), sw = STEPS(w);
  FOR_EACH(i, count) {
    int n, c, here;
    place_of(i, order, n, c, here);
    const int h = divide(here, g.by_width);
    const Window window = windows_of(h, here - h * g.width, g);
    const int* won = winners + element_at(sw, n, c);
    const T* from = dy + element_at(sy, n, c);
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
#pragma unroll 1
      for (int column = window.left; column < window.right; column += 2) {
        // Both are read at once, whoever won; behind the last is the last again.
        const int at = row * g.columns + column;
        const bool two = column + 1 < window.right;
        const int other = two ? at + 1 : at;
        const int first = won[along(at, sw.place)];
        const int second = won[along(other, sw.place)];
        const A given = A(from[along(at, sy.place)]);
        const A next = A(from[along(other, sy.place)]);
        sum += first == here ? given : A(0);
        sum += two && second == here ? next : A(0);
      }
    }
    dx[element_at(sx, n, c, here)] = T(sum);
  }
}

// dx = the sum of the element's shares of its windows' gradients
KERNEL(average_backward)(const T* dy, T* dx, long long count, ORDER_PARAMETERS,
                         STEPS_PARAMETERS(x), STEPS_PARAMETERS(y), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const int h = divide(p, g.by_width);
    const Window window = windows_of(h, p - h * g.width, g);
    const T* from = dy + element_at(sy, n, c);
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
      const int high =
          padded_length(row * g.stride_h - g.pad_h, g.kernel_h, g.height + g.pad_h);
      for (int column = window.left; column < window.right; ++column) {
        const int wide = padded_length(column * g.stride_w - g.pad_w, g.kernel_w,
                                       g.width + g.pad_w);
        sum += A(from[along(row * g.columns + column, sy.place)]) /
               static_cast<A>(high * wide);
      }
    }
    dx[element_at(sx, n, c, p)] = T(sum);
  }
}

// winners as a mask gives them, in the order of C
KERNEL(mask_winners)(const T* mask, int* winners, long long count,
                     ORDER_PARAMETERS, STEPS_PARAMETERS(m)) {
  const Order order = ORDER;
  const PlaneSteps sm = STEPS(m);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    winners[i] = static_cast<int>(A(mask[element_at(sm, n, c, p)]));
  }
}

// ---------------------------------------------------------------------- stochastic

// One element of each window, as probable as it is large: the first at which the
// running sum reaches u times the total, u = 1 - a draw.  Draws are given, in the
// order (n, place, channel), or made from the generator's words, in the order of C.
KERNEL(stochastic_sample)(const T* x, T* y, int* winners, const float* draws,
                          const long long* rng, long long count, ORDER_PARAMETERS,
                          STEPS_PARAMETERS(x), STEPS_PARAMETERS(y), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y);
  const long long windows = rows * columns, channels = channels_last ? inner : outer;
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    float draw;
    if (draws) {
      draw = draws[(n * windows + p) * channels + c];
    } else {
      const long long index = (n * channels + c) * windows + p;
      unsigned int words[4];
      philox(rng[0], rng[1], index / 4, words);
      draw = uniform(words[index % 4]);
    }
    A total = A(0);
    for (int h = window.top; h < window.bottom; ++h)
      for (int w = window.left; w < window.right; ++w)
        total += A(from[along(h * g.width + w, sx.place)]);
    const A threshold = static_cast<A>(1.0f - draw) * total;
    A sum = A(0), value = A(0);
    int winner = -1;
    for (int h = window.top; h < window.bottom; ++h) {
      for (int w = window.left; w < window.right; ++w) {
        const int at = h * g.width + w;
        const A next = A(from[along(at, sx.place)]);
        if (winner < 0 || sum < threshold) {
          winner = at;
          value = next;
          sum += next;
        }
      }
    }
    y[element_at(sy, n, c, p)] = T(value);
    winners[i] = winner;
  }
}

// y = sum of squares / sum; totals keeps the sum, in the order of the threads
KERNEL(stochastic_expect)(const T* x, T* y, P* totals, long long count,
                          ORDER_PARAMETERS, STEPS_PARAMETERS(x), STEPS_PARAMETERS(y),
                          POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + element_at(sx, n, c);
    A total = A(FLT_MIN), squares = A(0);
    for (int h = window.top; h < window.bottom; ++h) {
      for (int w = window.left; w < window.right; ++w) {
        const A value = A(from[along(h * g.width + w, sx.place)]);
        total += value;
        squares += value * value;
      }
    }
    y[element_at(sy, n, c, p)] = T(squares / total);
    totals[i] = total;
  }
}

// dx = sum over the element's windows of dy (2 x - y) / total
KERNEL(stochastic_spread)(const T* x, const T* y, const P* totals, const T* dy,
                          T* dx, long long count, ORDER_PARAMETERS,
                          STEPS_PARAMETERS(x), STEPS_PARAMETERS(y),
                          STEPS_PARAMETERS(t), STEPS_PARAMETERS(d),
                          STEPS_PARAMETERS(s), POOL_PARAMETERS) {
  const Pool g = POOL;
  const Order order = ORDER;
  const PlaneSteps sx = STEPS(x), sy = STEPS(y), st = STEPS(t), sd = STEPS(d),
                   ss = STEPS(s);
  FOR_EACH(i, count) {
    int n, c, p;
    place_of(i, order, n, c, p);
    const int h = divide(p, g.by_width);
    const Window window = windows_of(h, p - h * g.width, g);
    const T* given = dy + element_at(st, n, c);
    const T* made = y + element_at(sy, n, c);
    const P* sums = totals + element_at(ss, n, c);
    const A value = A(x[element_at(sx, n, c, p)]);
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
      for (int column = window.left; column < window.right; ++column) {
        const int at = row * g.columns + column;
        sum += A(given[along(at, st.place)]) / sums[along(at, ss.place)] *
               (A(2) * value - A(made[along(at, sy.place)]));
      }
    }
    dx[element_at(sd, n, c, p)] = T(sum);
  }
}
