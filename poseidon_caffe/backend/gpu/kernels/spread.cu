// Parameters spread over activations whose memory is (a, b, c), c the fastest axis:
// element (i, j, k) takes parameter i step_a + j step_b + k step_c.
#include "common.cuh"

#define SPREAD \
  long long b, long long c, long long step_a, long long step_b, long long step_c
#define SPREAD_ARGS b, c, step_a, step_b, step_c

// Which parameter an element takes; goes on to the next element without division.
struct Place {
  long long j, k, at, b, c, step_a, step_b, step_c;

  __device__ __forceinline__ Place(long long i, SPREAD)
      : b(b), c(c), step_a(step_a), step_b(step_b), step_c(step_c) {
    long long outer;
    place_of(i, c, b, 1, outer, k, j);
    at = outer * step_a + j * step_b + k * step_c;
  }
  __device__ __forceinline__ void next() {
    at += step_c;
    if (++k < c) return;
    k = 0;
    at += step_b - c * step_c;
    if (++j < b) return;
    j = 0;
    at += step_a - b * step_b;
  }
};

// y = f(x, z, place of the parameter) by packs; y may be x or z; z may be x.
template <class F>
DEVICE void spread(const T* x, const T* z, T* y, SPREAD, long long n, F f) {
  const bool aligned = pack_aligned(x) && pack_aligned(z) && pack_aligned(y);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    const Pack first = load_pack(x, pack), second = load_pack(z, pack);
    Pack values;
    Place place{pack * PACK_ITEMS, SPREAD_ARGS};
    for (int k = 0; k < PACK_ITEMS; ++k, place.next()) {
      values.item[k] = T(f(A(first.item[k]), A(second.item[k]), place.at));
    }
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    const Place place{i, SPREAD_ARGS};
    y[i] = T(f(A(x[i]), A(z[i]), place.at));
  }
}

// y = x where x > 0, else slope * x
KERNEL(prelu)(const T* x, const P* slope, T* y, SPREAD, long long n) {
  spread(x, x, y, SPREAD_ARGS, n, [=](A value, A, long long at) {
    return value > A(0) ? value : slope[at] * value;
  });
}

// dx = dy where x > 0, else slope * dy
KERNEL(prelu_backward)(const T* x, const T* dy, const P* slope, T* dx, SPREAD,
                       long long n) {
  spread(x, dy, dx, SPREAD_ARGS, n, [=](A value, A step, long long at) {
    return value > A(0) ? step : slope[at] * step;
  });
}

// y = x * scale
KERNEL(scale_only)(const T* x, const P* scale, T* y, SPREAD, long long n) {
  spread(x, x, y, SPREAD_ARGS, n,
         [=](A value, A, long long at) { return value * scale[at]; });
}

// y = x + shift
KERNEL(shift_only)(const T* x, const P* shift, T* y, SPREAD, long long n) {
  spread(x, x, y, SPREAD_ARGS, n,
         [=](A value, A, long long at) { return value + shift[at]; });
}

// y = x * scale + shift
KERNEL(scale_and_shift)(const T* x, const P* scale, const P* shift, T* y, SPREAD,
                        long long n) {
  spread(x, x, y, SPREAD_ARGS, n, [=](A value, A, long long at) {
    return value * scale[at] + shift[at];
  });
}

// y = z where z = x + shift > 0, else slope * z
KERNEL(shift_and_relu)(const T* x, const P* shift, T* y, double slope, SPREAD,
                       long long n) {
  const A factor = static_cast<A>(slope);
  spread(x, x, y, SPREAD_ARGS, n, [=](A value, A, long long at) {
    const A made = value + shift[at];
    return made < A(0) ? made * factor : made;
  });
}
