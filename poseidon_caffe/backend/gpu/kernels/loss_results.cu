// From the blocks' sums of a loss to its mean, and from its gradient to a weight.
#include "common.cuh"

// One block: sums = the blocks' (total, places counted) added up.
KERNEL(add_sums)(const double* parts, long long blocks, double* sums) {
  double total = 0, counted = 0;
  for (long long i = threadIdx.x; i < blocks; i += blockDim.x) {
    total += parts[2 * i];
    counted += parts[2 * i + 1];
  }
  total = block_sum(total);
  counted = block_sum(counted);
  if (threadIdx.x == 0) {
    sums[0] = total;
    sums[1] = counted;
  }
}

// A negative divisor stands for the places counted.
DEVICE double divisor_of(const double* sums, double divisor) {
  return max(1.0, divisor < 0 ? sums[1] : divisor);
}

KERNEL(write_mean)(const double* sums, double divisor, double factor, T* top) {
  if (threadIdx.x == 0) top[0] = T(A(factor * sums[0] / divisor_of(sums, divisor)));
}

KERNEL(loss_weight)(const T* diff, const double* sums, double divisor, double factor,
                    double* weight) {
  if (threadIdx.x == 0)
    weight[0] = factor * (double)A(diff[0]) / divisor_of(sums, divisor);
}
