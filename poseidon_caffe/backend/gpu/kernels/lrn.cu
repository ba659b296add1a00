// Local response normalisation: y = x * scale ** -beta, scale = k + alpha / n * the
// sum of x^2 over the neighbourhood.  Arrays (N, C, H, W) are addressed by three
// steps: image, channel, place; `scale` and `ratio` are dense in the threads' order.
#include "common.cuh"

struct Steps {
  long long image, channel, place;
};

// x ** -beta of positive x; the usual 3/4 by square roots
DEVICE A inverse_power(A x, A beta) {
  if (beta == A(0.75)) {
    const A root = sqrt(x);
    return A(1) / (root * sqrt(root));
  }
  return pow(x, -beta);
}

// Channels one after the other, SIZE of them in registers; a thread does `run`
// channels of one place.  Neighbouring threads have neighbouring places.
template <int SIZE>
static __device__ void walk_forward(const T* x, T* y, P* scale, long long count,
                                    int channels, long long places, int run,
                                    const Steps& sx, const Steps& sy, A k, A alpha,
                                    A beta) {
  const int half = SIZE / 2, pieces = (channels + run - 1) / run;
  FOR_EACH(i, count) {
    const long long rest = i / places, p = i - rest * places, n = rest / pieces;
    const int first = static_cast<int>(rest - n * pieces) * run;
    const int last = min(first + run, channels);
    const T* from = x + n * sx.image + p * sx.place;
    T* to = y + n * sy.image + p * sy.place;
    A value[SIZE];
    for (int j = 1; j < SIZE; ++j) {
      const int c = first - half + j - 1;
      value[j] = c >= 0 && c < channels ? A(from[c * sx.channel]) : A(0);
    }
    for (int c = first; c < last; ++c) {
      for (int j = 1; j < SIZE; ++j) value[j - 1] = value[j];
      value[SIZE - 1] = c + half < channels ? A(from[(c + half) * sx.channel]) : A(0);
      A sum = A(0);
      for (int j = 0; j < SIZE; ++j) sum += value[j] * value[j];
      const A found = k + alpha * sum;
      scale[(n * channels + c) * places + p] = found;
      to[c * sy.channel] = T(value[half] * inverse_power(found, beta));
    }
  }
}

// dx = dy scale^-beta - factor x * windowed sum of dy y / scale; dy may be dx where
// `run` is all channels: a thread then reads what is ahead of what it writes.
template <int SIZE>
static __device__ void walk_backward(const T* x, const T* y, const T* dy, T* dx,
                                     const P* scale, long long count, int channels,
                                     long long places, int run, const Steps& sx,
                                     const Steps& sy, const Steps& st,
                                     const Steps& sd, A factor, A beta) {
  const int half = SIZE / 2, pieces = (channels + run - 1) / run;
  FOR_EACH(i, count) {
    const long long rest = i / places, p = i - rest * places, n = rest / pieces;
    const int first = static_cast<int>(rest - n * pieces) * run;
    const int last = min(first + run, channels);
    const P* sums = scale + n * channels * places + p;
    const T* top = y + n * sy.image + p * sy.place;
    const T* given = dy + n * st.image + p * st.place;
    A ratio[SIZE], step[SIZE];
    for (int j = 1; j < SIZE; ++j) {
      const int c = first - half + j - 1;
      ratio[j] = step[j] = A(0);
      if (c >= 0 && c < channels) {
        step[j] = A(given[c * st.channel]);
        ratio[j] = step[j] * A(top[c * sy.channel]) / sums[c * places];
      }
    }
    for (int c = first; c < last; ++c) {
      for (int j = 1; j < SIZE; ++j) {
        ratio[j - 1] = ratio[j];
        step[j - 1] = step[j];
      }
      const int next = c + half;
      ratio[SIZE - 1] = step[SIZE - 1] = A(0);
      if (next < channels) {
        step[SIZE - 1] = A(given[next * st.channel]);
        ratio[SIZE - 1] =
            step[SIZE - 1] * A(top[next * sy.channel]) / sums[next * places];
      }
      A sum = A(0);
      for (int j = 0; j < SIZE; ++j) sum += ratio[j];
      dx[n * sd.image + c * sd.channel + p * sd.place] =
          T(step[half] * inverse_power(sums[c * places], beta) -
            factor * A(x[n * sx.image + c * sx.channel + p * sx.place]) * sum);
    }
  }
}

#define WALK(SIZE)                                                               \
  KERNEL(walk_forward_##SIZE)                                                    \
  (const T* x, T* y, P* scale, long long count, long long channels,              \
   long long places, long long run, long long nx, long long cx, long long px,    \
   long long ny, long long cy, long long py, double k, double alpha,             \
   double beta) {                                                                \
    const Steps sx = {nx, cx, px}, sy = {ny, cy, py};                            \
    walk_forward<SIZE>(x, y, scale, count, static_cast<int>(channels), places,   \
                       static_cast<int>(run), sx, sy, static_cast<A>(k),         \
                       static_cast<A>(alpha), static_cast<A>(beta));             \
  }                                                                              \
  KERNEL(walk_backward_##SIZE)                                                   \
  (const T* x, const T* y, const T* dy, T* dx, const P* scale, long long count,  \
   long long channels, long long places, long long run, long long nx,            \
   long long cx, long long px, long long ny, long long cy, long long py,         \
   long long nt, long long ct, long long pt, long long nd, long long cd,         \
   long long pd, double factor, double beta) {                                   \
    const Steps sx = {nx, cx, px}, sy = {ny, cy, py}, st = {nt, ct, pt},         \
                sd = {nd, cd, pd};                                               \
    walk_backward<SIZE>(x, y, dy, dx, scale, count, static_cast<int>(channels),  \
                        places, static_cast<int>(run), sx, sy, st, sd,           \
                        static_cast<A>(factor), static_cast<A>(beta));           \
  }

WALK(3)
WALK(5)

// --------------------------------------- any neighbourhood: a thread for each element

struct Element {
  long long n;
  int c, h, w;
};

DEVICE Element element_of(long long index, int channels, int height, int width,
                          bool channels_last) {
  const long long places = static_cast<long long>(height) * width;
  const long long inner = channels_last ? channels : places;
  const long long outer = channels_last ? places : channels;
  long long rest = index / inner;
  const long long first = index - rest * inner;
  Element e;
  e.n = rest / outer;
  rest -= e.n * outer;
  e.c = static_cast<int>(channels_last ? first : rest);
  const int p = static_cast<int>(channels_last ? rest : first);
  e.h = p / width;
  e.w = p - e.h * width;
  return e;
}

// What is within `half` of the element: channels, or places of its plane.
struct Box {
  int c0, c1, h0, h1, w0, w1;
};

DEVICE Box box_of(const Element& e, int channels, int height, int width, int half,
                  bool across) {
  Box box = {e.c, e.c + 1, e.h, e.h + 1, e.w, e.w + 1};
  if (across) {
    box.c0 = max(e.c - half, 0);
    box.c1 = min(e.c + half + 1, channels);
  } else {
    box.h0 = max(e.h - half, 0);
    box.h1 = min(e.h + half + 1, height);
    box.w0 = max(e.w - half, 0);
    box.w1 = min(e.w + half + 1, width);
  }
  return box;
}

#define AT_ONCE 5  // loads that are under way together

// The sum of f over the box, in order.  Loads behind a line's end are of its last
// element, so that none waits for a question.
template <class S, class F>
DEVICE A box_sum(const S* from, const Box& box, bool across, int width,
                 long long channel_step, long long place_step, F f) {
  const int first = across ? box.c0 : box.w0, end = across ? box.c1 : box.w1;
  const long long step = across ? channel_step : place_step;
  A sum = A(0);
  for (int h = box.h0; h < box.h1; ++h) {
    const S* line = from + (across ? (h * width + box.w0) * place_step
                                   : box.c0 * channel_step + h * width * place_step);
    for (int i = first; i < end; i += AT_ONCE) {
      A values[AT_ONCE];
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) values[k] = A(line[min(i + k, end - 1) * step]);
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) sum += i + k < end ? f(values[k]) : A(0);
    }
  }
  return sum;
}

KERNEL(each_forward)(const T* x, T* y, P* scale, long long count,
                     long long channels, long long height, long long width,
                     long long channels_last, long long across, long long half,
                     long long nx, long long cx, long long px, long long ny,
                     long long cy, long long py, double k, double alpha,
                     double beta) {
  const int many = static_cast<int>(channels), high = static_cast<int>(height),
            wide = static_cast<int>(width);
  FOR_EACH(i, count) {
    const Element e = element_of(i, many, high, wide, channels_last != 0);
    const Box box =
        box_of(e, many, high, wide, static_cast<int>(half), across != 0);
    const T* from = x + e.n * nx;
    const A sum = box_sum(from, box, across != 0, wide, cx, px,
                          [](A value) { return value * value; });
    const A found = static_cast<A>(k) + static_cast<A>(alpha) * sum;
    scale[i] = found;
    const long long p = e.h * wide + e.w;
    y[e.n * ny + e.c * cy + p * py] =
        T(A(from[e.c * cx + p * px]) * inverse_power(found, static_cast<A>(beta)));
  }
}

// ratio = dy y / scale, in the order of scale
KERNEL(ratios)(const T* y, const T* dy, const P* scale, P* ratio, long long count,
               long long channels, long long height, long long width,
               long long channels_last, long long ny, long long cy, long long py,
               long long nt, long long ct, long long pt) {
  FOR_EACH(i, count) {
    const Element e =
        element_of(i, static_cast<int>(channels), static_cast<int>(height),
                   static_cast<int>(width), channels_last != 0);
    const long long p = e.h * width + e.w;
    ratio[i] = A(dy[e.n * nt + e.c * ct + p * pt]) *
               A(y[e.n * ny + e.c * cy + p * py]) / scale[i];
  }
}

KERNEL(each_backward)(const T* x, const T* dy, T* dx, const P* scale,
                      const P* ratio, long long count, long long channels,
                      long long height, long long width, long long channels_last,
                      long long across, long long half, long long nx, long long cx,
                      long long px, long long nt, long long ct, long long pt,
                      long long nd, long long cd, long long pd, double factor,
                      double beta) {
  const int many = static_cast<int>(channels), high = static_cast<int>(height),
            wide = static_cast<int>(width);
  const long long nr = channels * height * width,
                  cr = channels_last ? 1 : height * width,
                  pr = channels_last ? channels : 1;
  FOR_EACH(i, count) {
    const Element e = element_of(i, many, high, wide, channels_last != 0);
    const Box box =
        box_of(e, many, high, wide, static_cast<int>(half), across != 0);
    const P* from = ratio + e.n * nr;
    const A sum = box_sum(from, box, across != 0, wide, cr, pr,
                          [](A value) { return value; });
    const long long p = e.h * wide + e.w;
    dx[e.n * nd + e.c * cd + p * pd] =
        T(A(dy[e.n * nt + e.c * ct + p * pt]) *
              inverse_power(scale[i], static_cast<A>(beta)) -
          static_cast<A>(factor) * A(x[e.n * nx + e.c * cx + p * px]) * sum);
  }
}
