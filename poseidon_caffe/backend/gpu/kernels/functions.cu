// Functions of every element and their gradients; in place is allowed.
#include "common.cuh"

// 1 / (1 + exp(-x)) by exp of -|x| only, which cannot overflow
DEVICE A logistic(A value) {
  const A small = exp(-fabs(value));
  return (value >= A(0) ? A(1) : small) / (A(1) + small);
}

// y = |x|
KERNEL(absolute)(const T* x, T* y, long long n) {
  map(x, y, n, [](A value) { return A(fabs(value)); });
}

// dx = dy sign(x)
KERNEL(absolute_backward)(const T* x, const T* dy, T* dx, long long n) {
  map(x, dy, dx, n, [](A value, A step) {
    return value > A(0) ? step : (value < A(0) ? -step : value * step);
  });
}

// y = log(1 + exp(x))
KERNEL(bnll)(const T* x, T* y, long long n) {
  map(x, y, n, [](A value) {
    return maximum(value, A(0)) + A(log1p(exp(-fabs(value))));
  });
}

// dx = dy / (1 + exp(-x))
KERNEL(bnll_backward)(const T* x, const T* dy, T* dx, long long n) {
  map(x, dy, dx, n, [](A value, A step) { return logistic(value) * step; });
}

// y = x between low and high; NaN stays NaN
KERNEL(clip)(const T* x, T* y, double low, double high, long long n) {
  const A least = static_cast<A>(low), most = static_cast<A>(high);
  map(x, y, n, [=](A value) { return minimum(maximum(value, least), most); });
}

// dx = dy where low <= x <= high, else 0
KERNEL(clip_backward)(const T* x, const T* dy, T* dx, double low, double high,
                      long long n) {
  const A least = static_cast<A>(low), most = static_cast<A>(high);
  map(x, dy, dx, n, [=](A value, A step) {
    return value >= least && value <= most ? step : A(0);
  });
}

// y = x where x > 0, alpha (exp(x) - 1) elsewhere
KERNEL(elu)(const T* x, T* y, double alpha, long long n) {
  const A factor = static_cast<A>(alpha);
  map(x, y, n, [=](A value) {
    return value > A(0) ? value : factor * A(expm1(value));
  });
}

// dx = dy where x > 0, (y + alpha) dy elsewhere
KERNEL(elu_backward)(const T* x, const T* y, const T* dy, T* dx, double alpha,
                     long long n) {
  const A factor = static_cast<A>(alpha);
  map(x, y, dy, dx, n, [=](A value, A result, A step) {
    return value > A(0) ? step : (result + factor) * step;
  });
}

// y = outer exp(inner x)
KERNEL(exponential)(const T* x, T* y, double inner, double outer, long long n) {
  const A rate = static_cast<A>(inner), factor = static_cast<A>(outer);
  map(x, y, n, [=](A value) { return A(exp(rate * value)) * factor; });
}

// dx = dy y inner
KERNEL(exponential_backward)(const T* y, const T* dy, T* dx, double inner,
                             long long n) {
  const A rate = static_cast<A>(inner);
  map(y, dy, dx, n, [=](A result, A step) { return step * result * rate; });
}

// y = factor log(scale x + shift)
KERNEL(logarithm)(const T* x, T* y, double scale, double shift, double factor,
                  long long n) {
  const A rate = static_cast<A>(scale), start = static_cast<A>(shift),
          outer = static_cast<A>(factor);
  map(x, y, n, [=](A value) { return A(log(rate * value + start)) * outer; });
}

// dx = dy factor scale / (scale x + shift)
KERNEL(logarithm_backward)(const T* x, const T* dy, T* dx, double scale, double shift,
                           double factor, long long n) {
  const A rate = static_cast<A>(scale), start = static_cast<A>(shift),
          outer = static_cast<A>(factor * scale);
  map(x, dy, dx, n, [=](A value, A step) {
    return step / (rate * value + start) * outer;
  });
}

// y = x / (1 + exp(-beta x))
KERNEL(swish)(const T* x, T* y, double beta, long long n) {
  const A rate = static_cast<A>(beta);
  map(x, y, n, [=](A value) { return logistic(rate * value) * value; });
}

// dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x))
KERNEL(swish_backward)(const T* x, const T* y, const T* dy, T* dx, double beta,
                       long long n) {
  const A rate = static_cast<A>(beta);
  map(x, y, dy, dx, n, [=](A value, A result, A step) {
    const A rise = rate * result;
    return step * (rise + logistic(rate * value) * (A(1) - rise));
  });
}

// y = 1 where x > threshold, else 0
KERNEL(step_above)(const T* x, T* y, double threshold, long long n) {
  const A bound = static_cast<A>(threshold);
  map(x, y, n, [=](A value) { return value > bound ? A(1) : A(0); });
}
