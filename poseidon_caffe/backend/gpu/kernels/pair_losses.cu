// Losses of pairs of numbers and of pairs of rows.
#include "common.cuh"

DEVICE void put_sums(double total, double counted, double* sums) {
  total = block_sum(total);
  counted = block_sum(counted);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = total;
    sums[2 * blockIdx.x + 1] = counted;
  }
}

// ---------------------------------------------------------------- cross entropy

// Cross entropy of sigmoid(x) and the target; the exponent is never positive.
KERNEL(sigmoid_loss)(const T* x, const P* target, long long ignores, double ignored,
                     double* sums, long long count) {
  double total = 0, counted = 0;
  FOR_EACH(i, count) {
    const A value = A(x[i]), want = A(target[i]);
    if (ignores && (double)trunc(want) == ignored) continue;
    total += (double)(maximum(value, A(0)) - value * want + log1p(exp(-fabs(value))));
    counted += 1;
  }
  put_sums(total, counted, sums);
}

// dx = weight * (sigmoid(x) - target), 0 where ignored
KERNEL(sigmoid_loss_backward)(const T* x, const P* target, long long ignores,
                              double ignored, const double* weight, T* dx,
                              long long count) {
  const A factor = A(weight[0]);
  FOR_EACH(i, count) {
    const A value = A(x[i]), want = A(target[i]), small = exp(-fabs(value));
    const A sigmoid = (value >= A(0) ? A(1) : small) / (A(1) + small);
    const bool out = ignores && (double)trunc(want) == ignored;
    dx[i] = T(out ? A(0) : factor * (sigmoid - want));
  }
}

// ------------------------------------------------------------------ differences

KERNEL(squared_difference)(const T* a, const T* b, T* difference, double* sums,
                           long long count) {
  double total = 0, counted = 0;
  FOR_EACH(i, count) {
    const A apart = A(a[i]) - A(b[i]);
    difference[i] = T(apart);
    total += (double)(apart * apart);
    counted += 1;
  }
  put_sums(total, counted, sums);
}

KERNEL(weigh)(const T* x, const double* weight, double factor, T* y, long long count) {
  const A times = A(factor * weight[0]);
  FOR_EACH(i, count) y[i] = T(A(x[i]) * times);
}

// A block a row: squares[row] = sum of (a - b)^2
KERNEL(row_distances)(const T* a, const T* b, P* squares, long long rows,
                      long long length) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    A sum = 0;
    for (long long c = threadIdx.x; c < length; c += blockDim.x) {
      const A apart = A(a[row * length + c]) - A(b[row * length + c]);
      sum += apart * apart;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) squares[row] = P(sum);
  }
}

// A block a row: da = factor * (a - b), db = -da
KERNEL(pull_rows)(const T* a, const T* b, const P* factor, T* da, T* db, long long rows,
                  long long length) {
  for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
    const A times = A(factor[row]);
    for (long long c = threadIdx.x; c < length; c += blockDim.x) {
      const long long i = row * length + c;
      const A pull = (A(a[i]) - A(b[i])) * times;
      if (da) da[i] = T(pull);
      if (db) db[i] = T(-pull);
    }
  }
}

// ------------------------------------------------------------------ contrastive

// The whole part of the label is not 0 (a NaN counts as not 0).
DEVICE bool similar(P label) { return !(fabs(label) < P(1)); }

KERNEL(contrastive_loss)(const P* squares, const P* label, double margin,
                         long long legacy, double* sums, long long count) {
  double total = 0, counted = 0;
  FOR_EACH(i, count) {
    const A square = A(squares[i]);
    A each = square;
    if (!similar(label[i])) {
      each = maximum(A(margin) - (legacy ? square : sqrt(square)), A(0));
      if (!legacy) each *= each;
    }
    total += (double)each;
    counted += 1;
  }
  put_sums(total, counted, sums);
}

KERNEL(contrastive_factors)(const P* squares, const P* label, double margin,
                            long long legacy, const double* weight, P* factors,
                            long long count) {
  const A times = A(weight[0]);
  FOR_EACH(i, count) {
    const A distance = legacy ? A(squares[i]) : sqrt(A(squares[i]));
    const A gap = A(margin) - distance;
    A push = gap > A(0) ? (legacy ? A(-1) : -gap / (distance + A(1e-4))) : A(0);
    if (similar(label[i])) push = A(1);
    factors[i] = P(push * times);
  }
}
