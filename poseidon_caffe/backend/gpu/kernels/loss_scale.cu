// The loss scale: where gradients start from it, and how it follows them.
#include "common.cuh"

// Every element of diff = weight [* *factor].
KERNEL(weigh)(T* diff, double weight, const float* factor, long long n) {
  const double by = factor ? double(*factor) : 1.0;
  FOR_EACH(i, n) diff[i] = T(A(weight * by));
}

// The factor that follows, and counts: good steps in a row, updates skipped so far.
// `used`: the factor in the gradients, not above the present one unless that was
// lowered since: then the overflow has been answered.
DEVICE void follow_one(float* factors, int* counts, bool bad, float used,
                       long long good_steps, double most) {
  const float factor = factors[0];
  counts[1] = bad ? 0 : counts[1] + 1;
  counts[2] += bad;
  if (bad) {
    factors[0] = max(1.0f, minimum(factor, used / 2));
  } else if (counts[1] >= good_steps) {
    factors[0] = minimum(static_cast<float>(most), factor * 2);
    counts[1] = 0;
  }
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
  const bool bad = isnan(squares) || isinf(squares);
  const float used = factors[0];
  factors[1] = 1.0f / used;
  counts[0] = bad;
  follow_one(factors, counts, bad, used, good_steps, most);
}

// One thread: what all workers found of gradients with the factor `used`.
KERNEL(follow)(float* factors, int* counts, long long bad, double used,
               long long good_steps, double most) {
  if (threadIdx.x == 0) {
    follow_one(factors, counts, bad != 0, static_cast<float>(used), good_steps, most);
  }
}

// *noted = 1 where a number is none, or so large that sums over workers and products
// of two may not be finite.
KERNEL(watch)(const T* values, int* noted, double most, long long n) {
  int bad = 0;
  FOR_EACH(i, n) {
    if (!(fabs(double(A(values[i]))) <= most)) bad = 1;
  }
  // Once a block: where all overflow, nothing queues for the one word.
  bad = block_max(bad);
  if (bad && threadIdx.x == 0) atomicExch(noted, 1);
}

// One thread: the factor in the gradients and whether any was noted, which is cleared.
KERNEL(report)(const float* factors, int* noted, float* found) {
  if (threadIdx.x == 0) {
    found[0] = factors[0];
    found[1] = *noted ? 1.0f : 0.0f;
    *noted = 0;
  }
}
