// Pooling with Caffe's windows.  Arrays (N, C, H, W) are addressed by three steps:
// image, channel, place of the plane.  Winners are places of the bottom's plane, -1
// where a window has none; they lie dense in the order that forward's threads go.
#include "common.cuh"

struct Pool {
  int height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h,
      pad_w;
};

#define POOL_PARAMETERS                                                           \
  long long height, long long width, long long rows, long long columns,           \
      long long kernel_h, long long kernel_w, long long stride_h,                 \
      long long stride_w, long long pad_h, long long pad_w
#define POOL                                                                      \
  {static_cast<int>(height),   static_cast<int>(width),                           \
   static_cast<int>(rows),     static_cast<int>(columns),                         \
   static_cast<int>(kernel_h), static_cast<int>(kernel_w),                        \
   static_cast<int>(stride_h), static_cast<int>(stride_w),                        \
   static_cast<int>(pad_h),    static_cast<int>(pad_w)}

// The part of a window on the image, and what AVE divides by.
struct Window {
  int top, bottom, left, right, divisor;
};

DEVICE int padded_length(int start, int kernel, int end) {
  return max(min(start + kernel, end) - start, 1);
}

DEVICE Window window_at(long long p, const Pool& g) {
  const int row = static_cast<int>(p / g.columns);
  const int h = row * g.stride_h - g.pad_h;
  const int w = (static_cast<int>(p) - row * g.columns) * g.stride_w - g.pad_w;
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
DEVICE void each_of(const Window& window, const T* from, long long step, int width,
                    F f) {
  for (int h = window.top; h < window.bottom; ++h) {
    for (int w = window.left; w < window.right; w += AT_ONCE) {
      A values[AT_ONCE];
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) {
        values[k] = A(from[(h * width + min(w + k, window.right - 1)) * step]);
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
                 long long channels, long long channels_last, long long nx,
                 long long cx, long long px, long long ny, long long cy,
                 long long py, long long nm, long long cm, long long pm,
                 POOL_PARAMETERS) {
  const Pool g = POOL;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, rows * columns, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
    A best = A(-FLT_MAX);
    int winner = -1;
    each_of(window, from, px, g.width, [&](int at, A value, bool counts) {
      const bool wins = counts && value > best;
      best = wins ? value : best;
      winner = wins ? at : winner;
    });
    y[n * ny + c * cy + p * py] = T(best);
    winners[i] = winner;
    if (mask) mask[n * nm + c * cm + p * pm] = T(static_cast<A>(winner));
  }
}

KERNEL(average_each)(const T* x, T* y, long long count, long long channels,
                     long long channels_last, long long nx, long long cx,
                     long long px, long long ny, long long cy, long long py,
                     POOL_PARAMETERS) {
  const Pool g = POOL;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, rows * columns, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
    A sum = A(0);
    each_of(window, from, px, g.width, [&](int, A value, bool counts) {
      sum += counts ? value : A(0);
    });
    y[n * ny + c * cy + p * py] = T(sum / static_cast<A>(window.divisor));
  }
}

// Large windows: a block does `lanes` neighbouring outputs, each by blockDim / lanes
// threads (both powers of two).
KERNEL(max_block)(const T* x, T* y, T* mask, int* winners, long long count,
                  long long channels, long long channels_last, long long nx,
                  long long cx, long long px, long long ny, long long cy,
                  long long py, long long nm, long long cm, long long pm,
                  long long lanes, POOL_PARAMETERS) {
  __shared__ A values[1024];
  __shared__ int places[1024];
  const Pool g = POOL;
  const int rank = block_rank(), parts = static_cast<int>(blockDim.x / lanes);
  const long long i = blockIdx.x * lanes + rank % lanes;
  const int nobody = 0x7fffffff;
  long long n = 0, c = 0, p = 0;
  A best = A(-FLT_MAX);
  int winner = nobody;
  if (i < count) {
    place_of(i, channels, rows * columns, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
    const int wide = max(window.right - window.left, 0);
    const int all = wide * max(window.bottom - window.top, 0);
    for (int k = static_cast<int>(rank / lanes); k < all; k += parts) {
      const int h = k / wide;
      const int at = (window.top + h) * g.width + window.left + k - h * wide;
      const A value = A(from[at * px]);
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
    y[n * ny + c * cy + p * py] = T(values[rank]);
    winners[i] = winner;
    if (mask) mask[n * nm + c * cm + p * pm] = T(static_cast<A>(winner));
  }
}

KERNEL(average_block)(const T* x, T* y, long long count, long long channels,
                      long long channels_last, long long nx, long long cx,
                      long long px, long long ny, long long cy, long long py,
                      long long lanes, POOL_PARAMETERS) {
  __shared__ A values[1024];
  const Pool g = POOL;
  const int rank = block_rank(), parts = static_cast<int>(blockDim.x / lanes);
  const long long i = blockIdx.x * lanes + rank % lanes;
  long long n = 0, c = 0, p = 0;
  int divisor = 1;
  A sum = A(0);
  if (i < count) {
    place_of(i, channels, rows * columns, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
    divisor = window.divisor;
    const int wide = max(window.right - window.left, 0);
    const int all = wide * max(window.bottom - window.top, 0);
    for (int k = static_cast<int>(rank / lanes); k < all; k += parts) {
      const int h = k / wide;
      sum += A(from[((window.top + h) * g.width + window.left + k - h * wide) * px]);
    }
  }
  values[rank] = sum;
  for (int half = static_cast<int>(blockDim.x) / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (rank < half) values[rank] += values[rank + half];
  }
  if (rank < lanes && i < count)
    y[n * ny + c * cy + p * py] = T(values[rank] / static_cast<A>(divisor));
}

// ------------------------------------------------------------------------ backward

// The windows that an element is in: rows and columns of the top.
DEVICE Window windows_of(int h, int w, const Pool& g) {
  h += g.pad_h;
  w += g.pad_w;
  Window found;
  found.top = h < g.kernel_h ? 0 : (h - g.kernel_h) / g.stride_h + 1;
  found.bottom = min(h / g.stride_h + 1, g.rows);
  found.left = w < g.kernel_w ? 0 : (w - g.kernel_w) / g.stride_w + 1;
  found.right = min(w / g.stride_w + 1, g.columns);
  found.divisor = 1;
  return found;
}

// dx = the sum of the gradients of the windows that the element won
KERNEL(max_backward)(const T* dy, const int* winners, T* dx, long long count,
                     long long channels, long long channels_last,
                     long long winners_last, long long nx, long long cx,
                     long long px, long long ny, long long cy, long long py,
                     POOL_PARAMETERS) {
  const Pool g = POOL;
  const long long windows = rows * columns;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, height * width, channels_last, n, c, p);
    const int here = static_cast<int>(p), h = here / g.width;
    const Window window = windows_of(h, here - h * g.width, g);
    const int* won = winners + (winners_last ? n * windows * channels + c
                                             : (n * channels + c) * windows);
    const long long step = winners_last ? channels : 1;
    const T* from = dy + n * ny + c * cy;
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
      for (int column = window.left; column < window.right; column += 2) {
        // Both are read at once, whoever won; behind the last is the last again.
        const int at = row * g.columns + column;
        const bool two = column + 1 < window.right;
        const int other = two ? at + 1 : at;
        const int first = won[at * step], second = won[other * step];
        const A given = A(from[at * py]), next = A(from[other * py]);
        sum += first == here ? given : A(0);
        sum += two && second == here ? next : A(0);
      }
    }
    dx[n * nx + c * cx + p * px] = T(sum);
  }
}

// dx = the sum of the element's shares of its windows' gradients
KERNEL(average_backward)(const T* dy, T* dx, long long count, long long channels,
                         long long channels_last, long long nx, long long cx,
                         long long px, long long ny, long long cy, long long py,
                         POOL_PARAMETERS) {
  const Pool g = POOL;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, height * width, channels_last, n, c, p);
    const int h = static_cast<int>(p) / g.width;
    const Window window = windows_of(h, static_cast<int>(p) - h * g.width, g);
    const T* from = dy + n * ny + c * cy;
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
      const int high =
          padded_length(row * g.stride_h - g.pad_h, g.kernel_h, g.height + g.pad_h);
      for (int column = window.left; column < window.right; ++column) {
        const int wide = padded_length(column * g.stride_w - g.pad_w, g.kernel_w,
                                       g.width + g.pad_w);
        sum += A(from[(row * g.columns + column) * py]) / static_cast<A>(high * wide);
      }
    }
    dx[n * nx + c * cx + p * px] = T(sum);
  }
}

// winners as a mask gives them, in the order of C
KERNEL(mask_winners)(const T* mask, int* winners, long long count,
                     long long channels, long long windows, long long nm,
                     long long cm, long long pm) {
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, windows, 0, n, c, p);
    winners[i] = static_cast<int>(A(mask[n * nm + c * cm + p * pm]));
  }
}

// ---------------------------------------------------------------------- stochastic

// One element of each window, as probable as it is large: the first at which the
// running sum reaches u times the total, u = 1 - a draw.  Draws are given, in the
// order (n, place, channel), or made from the generator's words, in the order of C.
KERNEL(stochastic_sample)(const T* x, T* y, int* winners, const float* draws,
                          const long long* rng, long long count, long long channels,
                          long long channels_last, long long nx, long long cx,
                          long long px, long long ny, long long cy, long long py,
                          POOL_PARAMETERS) {
  const Pool g = POOL;
  const long long windows = rows * columns;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, windows, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
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
        total += A(from[(h * g.width + w) * px]);
    const A threshold = static_cast<A>(1.0f - draw) * total;
    A sum = A(0), value = A(0);
    int winner = -1;
    for (int h = window.top; h < window.bottom; ++h) {
      for (int w = window.left; w < window.right; ++w) {
        const int at = h * g.width + w;
        const A next = A(from[at * px]);
        if (winner < 0 || sum < threshold) {
          winner = at;
          value = next;
          sum += next;
        }
      }
    }
    y[n * ny + c * cy + p * py] = T(value);
    winners[i] = winner;
  }
}

// y = sum of squares / sum; totals keeps the sum, in the order of the threads
KERNEL(stochastic_expect)(const T* x, T* y, P* totals, long long count,
                          long long channels, long long channels_last,
                          long long nx, long long cx, long long px, long long ny,
                          long long cy, long long py, POOL_PARAMETERS) {
  const Pool g = POOL;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, rows * columns, channels_last, n, c, p);
    const Window window = window_at(p, g);
    const T* from = x + n * nx + c * cx;
    A total = A(FLT_MIN), squares = A(0);
    for (int h = window.top; h < window.bottom; ++h) {
      for (int w = window.left; w < window.right; ++w) {
        const A value = A(from[(h * g.width + w) * px]);
        total += value;
        squares += value * value;
      }
    }
    y[n * ny + c * cy + p * py] = T(squares / total);
    totals[i] = total;
  }
}

// dx = sum over the element's windows of dy (2 x - y) / total
KERNEL(stochastic_spread)(const T* x, const T* y, const P* totals, const T* dy,
                          T* dx, long long count, long long channels,
                          long long channels_last, long long totals_last,
                          long long nx, long long cx, long long px, long long ny,
                          long long cy, long long py, long long nt, long long ct,
                          long long pt, long long nd, long long cd, long long pd,
                          POOL_PARAMETERS) {
  const Pool g = POOL;
  const long long windows = rows * columns;
  FOR_EACH(i, count) {
    long long n, c, p;
    place_of(i, channels, height * width, channels_last, n, c, p);
    const int h = static_cast<int>(p) / g.width;
    const Window window = windows_of(h, static_cast<int>(p) - h * g.width, g);
    const P* sums = totals + (totals_last ? n * windows * channels + c
                                          : (n * channels + c) * windows);
    const long long step = totals_last ? channels : 1;
    const A value = A(x[n * nx + c * cx + p * px]);
    A sum = A(0);
    for (int row = window.top; row < window.bottom; ++row) {
      for (int column = window.left; column < window.right; ++column) {
        const int at = row * g.columns + column;
        sum += A(dy[n * nt + c * ct + at * pt]) / sums[at * step] *
               (A(2) * value - A(y[n * ny + c * cy + at * py]));
      }
    }
    dx[n * nd + c * cd + p * pd] = T(sum);
  }
}
