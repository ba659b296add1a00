// Sums, products and maxima of up to eight arrays at once; the result may be any of
// them.  Sources beyond the first `sources` are null.
#include "common.cuh"

#define MOST 8
#define SOURCES                                                                    \
  const T* s0, const T* s1, const T* s2, const T* s3, const T* s4, const T* s5,    \
      const T* s6, const T* s7
#define GATHERED {s0, s1, s2, s3, s4, s5, s6, s7}

// y = last(next(...next(first(s0), s1, 1)..., s_k, k)) for every element.
template <class First, class Next, class Last>
DEVICE void combine(const T* const (&source)[MOST], long long sources, T* y,
                    long long n, First first, Next next, Last last) {
  bool aligned = pack_aligned(y);
  for (int k = 0; k < MOST; ++k) aligned = aligned && pack_aligned(source[k]);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    A sums[PACK_ITEMS];
    Pack values = load_pack(source[0], pack);
    for (int j = 0; j < PACK_ITEMS; ++j) sums[j] = first(A(values.item[j]));
#pragma unroll
    for (int k = 1; k < MOST; ++k) {
      if (k >= sources) break;
      values = load_pack(source[k], pack);
      for (int j = 0; j < PACK_ITEMS; ++j) {
        sums[j] = next(sums[j], A(values.item[j]), k);
      }
    }
    for (int j = 0; j < PACK_ITEMS; ++j) values.item[j] = T(last(sums[j]));
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    A sum = first(A(source[0][i]));
#pragma unroll
    for (int k = 1; k < MOST; ++k) {
      if (k >= sources) break;
      sum = next(sum, A(source[k][i]), k);
    }
    y[i] = T(last(sum));
  }
}

// y = sum of c_k s_k, then a ReLU of that negative slope if `relu`
KERNEL(add)(SOURCES, T* y, double c0, double c1, double c2, double c3, double c4,
            double c5, double c6, double c7, long long sources, long long relu,
            double slope, long long n) {
  const T* const source[MOST] = GATHERED;
  const A factor[MOST] = {A(c0), A(c1), A(c2), A(c3), A(c4), A(c5), A(c6), A(c7)};
  const A low = static_cast<A>(slope);
  combine(
      source, sources, y, n, [&](A value) { return factor[0] * value; },
      [&](A sum, A value, int k) { return sum + factor[k] * value; },
      [&](A sum) { return relu && sum < A(0) ? sum * low : sum; });
}

KERNEL(multiply)(SOURCES, T* y, long long sources, long long n) {
  const T* const source[MOST] = GATHERED;
  combine(
      source, sources, y, n, [](A value) { return value; },
      [](A product, A value, int) { return product * value; },
      [](A product) { return product; });
}

// Caffe's comparisons, the first a > b and the later ones c > top.  `going_on`: the
// first source is the maximum of earlier ones, so it wins ties.
KERNEL(largest)(SOURCES, T* y, long long sources, long long going_on, long long n) {
  const T* const source[MOST] = GATHERED;
  combine(
      source, sources, y, n, [](A value) { return value; },
      [&](A top, A value, int k) {
        if (k == 1 && !going_on) return top > value ? top : value;
        return value > top ? value : top;
      },
      [](A top) { return top; });
}

// dx = dy where `own` beats all sources, else 0; bit k of `ties`: also if it equals s_k
KERNEL(largest_backward)(const T* own, const T* dy, SOURCES, T* dx, long long sources,
                         long long ties, long long n) {
  const T* const source[MOST] = GATHERED;
  FOR_EACH(i, n) {
    const A mine = A(own[i]);
    bool won = true;
#pragma unroll
    for (int k = 0; k < MOST; ++k) {
      if (k >= sources) break;
      const A other = A(source[k][i]);
      won = won && (mine > other || ((ties >> k & 1) && mine == other));
    }
    dx[i] = won ? dy[i] : T(A(0));
  }
}
