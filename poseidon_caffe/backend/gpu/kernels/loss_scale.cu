// The loss scale: where gradients start from it, and how it follows them.
#include "common.cuh"

// Every element of diff = weight [* *factor].
KERNEL(weigh)(T* diff, double weight, const float* factor, long long n) {
  const double by = factor ? double(*factor) : 1.0;
  FOR_EACH(i, n) diff[i] = T(A(weight * by));
}

// One block, given the gradients' squares: decides on this update and the next factor.
// factors: the next one, and the inverse of this one.
// counts: skip this update?, good steps in a row, updates skipped so far.
KERNEL(judge)(const double* parts, long long count, float* factors, int* counts,
              long long good_steps, double most) {
  double squares = 0;
  for (long long i = threadIdx.x; i < count; i += blockDim.x) squares += parts[i];
  squares = block_sum(squares);
  if (threadIdx.x != 0) return;
  const float factor = factors[0];
  factors[1] = 1.0f / factor;
  const bool bad = isnan(squares) || isinf(squares);
  counts[0] = bad;
  counts[1] = bad ? 0 : counts[1] + 1;
  counts[2] += bad;
  if (bad) {
    factors[0] = max(1.0f, factor / 2);
  } else if (counts[1] >= good_steps) {
    factors[0] = minimum(static_cast<float>(most), factor * 2);
    counts[1] = 0;
  }
}
