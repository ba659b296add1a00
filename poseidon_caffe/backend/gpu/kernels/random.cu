// Random fills in C order.  `rng` is a PhiloxGenerator's (key, draws so far, and these
// again as a ticket): thread `block` makes elements 4 block to 4 block + 3 out of one
// Philox block.
#include "common.cuh"

// A ticket counts draws in its upper bits, in its lower ones the blocks of a launch
// that have begun a draw: more than a launch has.
#define TICKET_BITS 20
#define ONE_DRAW (1ull << TICKET_BITS)

// One more draw has been made; alone in its launch, after the kernel that drew.
KERNEL(next_draw)(long long* rng) {
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    rng[1] += 1;
    rng[2] += ONE_DRAW;
  }
}

// Which draw this launch makes, for all threads of its blocks.  The last block to ask
// counts it, once all others know: no launch of next_draw is to follow.
DEVICE long long begin_draw(long long* rng) {
  __shared__ long long draw;
  if (threadIdx.x == 0) {
    unsigned long long* ticket = reinterpret_cast<unsigned long long*>(rng + 2);
    const unsigned long long taken = atomicAdd(ticket, 1ull);
    draw = static_cast<long long>(taken >> TICKET_BITS);
    if ((taken & (ONE_DRAW - 1)) == gridDim.x - 1) {
      atomicAdd(ticket, ONE_DRAW - gridDim.x);
      rng[1] = draw + 1;
    }
  }
  __syncthreads();
  return draw;
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

// What a thread of dropout_forward makes at once: whole packs of whole Philox blocks.
#define GROUP_PACKS (sizeof(T) > 4 ? 2 : 1)
#define GROUP (static_cast<int>(PACK_ITEMS) * GROUP_PACKS)

struct alignas(GROUP) Kept {
  unsigned char item[GROUP];
};

// mask as `bernoulli` draws it, y = x * mask * scale, and the draw is counted; y may
// be x
KERNEL(dropout_forward)(long long* rng, const T* x, unsigned char* mask, T* y,
                        double probability, double scale, long long n) {
  const float share = static_cast<float>(probability);
  const A factor = static_cast<A>(scale);
  const long long draw = begin_draw(rng), key = rng[0];
  const bool aligned = pack_aligned(x) && pack_aligned(y) &&
                       reinterpret_cast<unsigned long long>(mask) % GROUP == 0;
  FOR_EACH(group, (n + GROUP - 1) / GROUP) {
    unsigned int words[GROUP];
    for (int j = 0; j < GROUP; j += 4) {
      philox(key, draw, (group * GROUP + j) / 4, words + j);
    }
    const long long first = group * GROUP;
    if (aligned && first + GROUP <= n) {
      Kept kept;
      for (int j = 0; j < GROUP; ++j) kept.item[j] = uniform(words[j]) < share;
      for (int p = 0; p < GROUP_PACKS; ++p) {
        Pack values = load_pack(x, group * GROUP_PACKS + p);
        for (int k = 0; k < PACK_ITEMS; ++k) {
          const A here = static_cast<A>(kept.item[p * PACK_ITEMS + k]);
          values.item[k] = T(A(values.item[k]) * here * factor);
        }
        store_pack(y, group * GROUP_PACKS + p, values);
      }
      reinterpret_cast<Kept*>(mask)[group] = kept;
    } else {
      for (int j = 0; j < GROUP && first + j < n; ++j) {
        const unsigned char kept = uniform(words[j]) < share;
        mask[first + j] = kept;
        y[first + j] = T(A(x[first + j]) * static_cast<A>(kept) * factor);
      }
    }
  }
}

// The same for memory (images, places, channels), numbers still in C order of
// (images, channels, places): four times the random words, but no pass to turn them.
KERNEL(dropout_channels_last)(long long* rng, const T* x, unsigned char* mask, T* y,
                              double probability, double scale, long long channels,
                              long long places, long long n) {
  const float share = static_cast<float>(probability);
  const A factor = static_cast<A>(scale);
  const long long draw = begin_draw(rng), key = rng[0];
  FOR_EACH(i, n) {
    long long image, channel, place;
    place_of(i, channels, places, 1, image, channel, place);
    const long long at = (image * channels + channel) * places + place;
    unsigned int words[4];
    philox(key, draw, at / 4, words);
    const unsigned int low = at & 1 ? words[1] : words[0];
    const unsigned int high = at & 1 ? words[3] : words[2];
    const unsigned char kept = uniform(at & 2 ? high : low) < share;
    mask[i] = kept;
    y[i] = T(A(x[i]) * static_cast<A>(kept) * factor);
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
