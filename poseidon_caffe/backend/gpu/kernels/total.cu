// The weighted sum of a net's losses.
#include "common.cuh"

// One block: total[0] += sum of loss * weight; total[1] = faults met so far.
KERNEL(add_dot)(const T* loss, const T* weight, long long count, double* total,
                const long long* faults) {
  double sum = 0;
  for (long long i = threadIdx.x; i < count; i += blockDim.x)
    sum += double(A(loss[i])) * double(A(weight[i]));
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    total[0] += sum;
    total[1] = faults ? double(*faults) : 0.0;
  }
}
