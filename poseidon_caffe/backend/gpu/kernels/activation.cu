// Elementwise non-linearities over flat arrays; in place is allowed.
#include "common.cuh"

// y = max(x, 0) + slope * min(x, 0); NaN stays NaN
KERNEL(relu)(const T* x, T* y, double slope, long long n) {
  const A factor = static_cast<A>(slope);
  map(x, y, n, [=](A value) {
    return value > A(0) ? value
                        : (factor == A(0) ? maximum(value, A(0)) : factor * value);
  });
}

// dx = dy where y > 0, slope * dy elsewhere; y may be x
KERNEL(relu_backward)(const T* y, const T* dy, T* dx, double slope, long long n) {
  const A factor = static_cast<A>(slope);
  map(y, dy, dx, n,
      [=](A value, A step) { return value > A(0) ? step : factor * step; });
}

// The same into two arrays; dx may be dy or y
KERNEL(relu_backward_twice)(const T* y, const T* dy, T* dx, T* also, double slope,
                            long long n) {
  const A factor = static_cast<A>(slope);
  const bool aligned = pack_aligned(y) && pack_aligned(dy) && pack_aligned(dx) &&
                       pack_aligned(also);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    const Pack seen = load_pack(y, pack);
    Pack values = load_pack(dy, pack);
    for (int k = 0; k < PACK_ITEMS; ++k) {
      const A step = A(values.item[k]);
      values.item[k] = T(A(seen.item[k]) > A(0) ? step : factor * step);
    }
    store_pack(dx, pack, values);
    store_pack(also, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    const A step = A(dy[i]);
    dx[i] = also[i] = T(A(y[i]) > A(0) ? step : factor * step);
  }
}

// y = 1 / (1 + exp(-x)); exp of -|x| only, which cannot overflow
KERNEL(sigmoid)(const T* x, T* y, long long n) {
  map(x, y, n, [](A value) {
    const A small = exp(-fabs(value));
    return (value >= A(0) ? A(1) : small) / (A(1) + small);
  });
}

// dx = dy * y * (1 - y)
KERNEL(sigmoid_backward)(const T* y, const T* dy, T* dx, long long n) {
  map(y, dy, dx, n, [](A value, A step) { return step * ((A(1) - value) * value); });
}

KERNEL(tanh_forward)(const T* x, T* y, long long n) {
  map(x, y, n, [](A value) { return tanh(value); });
}

// dx = dy * (1 - y^2)
KERNEL(tanh_backward)(const T* y, const T* dy, T* dx, long long n) {
  map(y, dy, dx, n, [](A value, A step) { return step * (A(1) - value * value); });
}

// y = x * mask * scale; mask is 0 or 1
KERNEL(dropout)(const T* x, const unsigned char* mask, T* y, double scale,
                long long n) {
  const A factor = static_cast<A>(scale);
  const bool aligned = pack_aligned(x) && pack_aligned(y);
  const long long packs = aligned ? n / PACK_ITEMS : 0;
  FOR_EACH(pack, packs) {
    Pack values = load_pack(x, pack);
    const unsigned char* kept = mask + pack * PACK_ITEMS;
    for (int k = 0; k < PACK_ITEMS; ++k) {
      values.item[k] = T(A(values.item[k]) * static_cast<A>(kept[k]) * factor);
    }
    store_pack(y, pack, values);
  }
  FOR_EACH(rest, n - packs * PACK_ITEMS) {
    const long long i = packs * PACK_ITEMS + rest;
    y[i] = T(A(x[i]) * static_cast<A>(mask[i]) * factor);
  }
}

// base ** power, with no pow for small whole powers
DEVICE A power_of(A base, A power) {
  if (power == A(0)) return A(1);
  if (power == A(1)) return base;
  if (power == A(2)) return base * base;
  if (power == A(3)) return base * base * base;
  return pow(base, power);
}

// y = (shift + scale * x) ** power; x is not looked at if power * scale = 0
KERNEL(power_forward)(const T* x, T* y, double power, double scale, double shift,
                      long long n) {
  const bool constant = power * scale == 0.0;
  const A exponent = static_cast<A>(power), factor = static_cast<A>(scale),
          start = static_cast<A>(shift);
  map(x, y, n, [=](A value) {
    return power_of(constant ? start : value * factor + start, exponent);
  });
}

// dx = dy * power * scale * (shift + scale * x) ** (power - 1)
KERNEL(power_backward)(const T* x, const T* dy, T* dx, double power, double scale,
                       double shift, long long n) {
  const A outer = static_cast<A>(power * scale), exponent = static_cast<A>(power - 1.0);
  const A factor = static_cast<A>(scale), start = static_cast<A>(shift);
  map(x, dy, dx, n, [=](A value, A step) {
    if (outer == A(0)) return A(0);
    return step * (power_of(value * factor + start, exponent) * outer);
  });
}
