// Random fills in C order.  `rng` is a PhiloxGenerator's (key, draws so far): thread
// `block` makes elements 4 block to 4 block + 3 out of one Philox block.
#include "common.cuh"

// One more draw has been made; alone in its launch, after the kernel that drew.
KERNEL(next_draw)(long long* rng) {
  if (blockIdx.x == 0 && threadIdx.x == 0) rng[1] += 1;
}

// out = 1 with the given probability, else 0
KERNEL(bernoulli)(const long long* rng, unsigned char* out, double probability,
                  long long count) {
  const float share = static_cast<float>(probability);
  const bool aligned = (reinterpret_cast<unsigned long long>(out) & 3) == 0;
  FOR_EACH(block, (count + 3) / 4) {
    unsigned int words[4];
    philox(rng[0], rng[1], block, words);
    const long long first = 4 * block;
    if (aligned && first + 4 <= count) {
      unsigned int four = 0;
      for (int j = 0; j < 4; ++j) {
        if (uniform(words[j]) < share) four |= 1u << (8 * j);
      }
      *reinterpret_cast<unsigned int*>(out + first) = four;
    } else {
      for (int j = 0; j < 4 && first + j < count; ++j) {
        out[first + j] = uniform(words[j]) < share;
      }
    }
  }
}

// out = low + width * u, u in [0, 1)
KERNEL(uniform_fill)(const long long* rng, T* out, double low, double width,
                     long long count) {
  const float from = static_cast<float>(low), wide = static_cast<float>(width);
  FOR_EACH(block, (count + 3) / 4) {
    unsigned int words[4];
    philox(rng[0], rng[1], block, words);
    for (int j = 0; j < 4 && 4 * block + j < count; ++j) {
      out[4 * block + j] = T(from + wide * uniform(words[j]));
    }
  }
}

// Two normal numbers out of two words (Box and Muller); the logarithm is of (0, 1].
DEVICE void normal_pair(const unsigned int* words, float* out) {
  const float radius = sqrt(-2.0f * log(1.0f - uniform(words[0])));
  const float angle = 6.28318530717958647692f * uniform(words[1]);
  out[0] = radius * cos(angle);
  out[1] = radius * sin(angle);
}

// out = mean + std * z, z standard normal
KERNEL(normal_fill)(const long long* rng, T* out, double mean, double std,
                    long long count) {
  const float middle = static_cast<float>(mean), spread = static_cast<float>(std);
  FOR_EACH(block, (count + 3) / 4) {
    unsigned int words[4];
    float values[4];
    philox(rng[0], rng[1], block, words);
    normal_pair(words, values);
    normal_pair(words + 2, values + 2);
    for (int j = 0; j < 4 && 4 * block + j < count; ++j) {
      out[4 * block + j] = T(middle + spread * values[j]);
    }
  }
}
