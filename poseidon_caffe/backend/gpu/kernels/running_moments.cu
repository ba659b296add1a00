// Moments of batches, kept as decaying sums with one weight.
#include "common.cuh"

KERNEL(load_moments)(const P* total_mean, const P* total_var, const P* weight, P* mean,
                     P* var, long long channels) {
  const double total = (double)weight[0], factor = total == 0 ? 0.0 : 1.0 / total;
  FOR_EACH(c, channels) {
    mean[c] = P((double)total_mean[c] * factor);
    var[c] = P((double)total_var[c] * factor);
  }
}

KERNEL(store_moments)(const P* mean, const P* var, P* total_mean, P* total_var,
                      P* weight, double keep, double unbiased, long long channels) {
  FOR_EACH(c, channels) {
    total_mean[c] = P(keep * (double)total_mean[c] + (double)mean[c]);
    total_var[c] = P(keep * (double)total_var[c] + unbiased * (double)var[c]);
    if (c == 0) weight[0] = P(keep * (double)weight[0] + 1.0);
  }
}
