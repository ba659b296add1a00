// One number a row, rows contiguous; `slots` blocks share a row.
#include "common.cuh"

enum { SUM, ASUM, SUMSQ };

// parts[row, slot] = the sum of a share of the row
KERNEL(reduce_rows)(const T* x, double* parts, long long kind, long long length,
                    long long slots) {
  const long long row = blockIdx.x / slots, slot = blockIdx.x % slots;
  A sum = 0;
  for (long long k = slot * blockDim.x + threadIdx.x; k < length;
       k += slots * blockDim.x) {
    const A value = A(x[row * length + k]);
    sum += kind == SUM ? value : kind == ASUM ? fabs(value) : value * value;
  }
  const double total = block_sum((double)sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

// A warp a row: y = coeff * the sum of its parts
KERNEL(finish_rows)(const double* parts, T* y, double coeff, long long rows,
                    long long slots) {
  const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  double sum = 0;
  for (long long s = threadIdx.x % 32; s < (row < rows ? slots : 0); s += 32)
    sum += parts[row * slots + s];
  sum = warp_reduce<AddOf>(sum);
  if (threadIdx.x % 32 == 0 && row < rows) y[row] = T(A(coeff * sum));
}

// dx = coeff * dy, times the sign of x, or 2 x, where that was summed
KERNEL(spread_rows)(const T* x, const T* dy, T* dx, long long kind, double coeff,
                    long long length, long long slots) {
  const long long row = blockIdx.x / slots, slot = blockIdx.x % slots;
  const A slope = A(dy[row]) * A(kind == SUMSQ ? 2 * coeff : coeff);
  for (long long k = slot * blockDim.x + threadIdx.x; k < length;
       k += slots * blockDim.x) {
    const long long i = row * length + k;
    A factor = A(1);
    if (kind != SUM) factor = A(x[i]);
    if (kind == ASUM) {
      // A NaN stays one.
      factor = factor > A(0) ? A(1) : factor < A(0) ? A(-1) : factor == A(0) ? A(0) : factor;
    }
    dx[i] = T(slope * factor);
  }
}
