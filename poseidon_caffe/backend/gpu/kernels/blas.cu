// What inner products need besides cuBLAS.
#include "common.cuh"

KERNEL(scale)(T* c, long long count, double beta) {
  FOR_EACH(i, count) c[i] = T(A(c[i]) * A(beta));
}

// A block adds up 32 columns: each warp every blockDim/32-th row, then the warps' sums.
KERNEL(column_sums)(const T* x, P* sums, long long rows, long long columns,
                    long long accumulate) {
  __shared__ A part[1024];
  const long long column = (long long)blockIdx.x * 32 + threadIdx.x % 32;
  A sum = 0;
  if (column < columns)
    for (long long row = threadIdx.x / 32; row < rows; row += blockDim.x / 32)
      sum += A(x[row * columns + column]);
  part[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x < 32 && column < columns) {
    for (unsigned i = threadIdx.x + 32; i < blockDim.x; i += 32) sum += part[i];
    sums[column] = P((accumulate ? A(sums[column]) : A(0)) + sum);
  }
}

KERNEL(fill)(T* c, long long count, double value) {
  FOR_EACH(i, count) c[i] = T(A(value));
}
