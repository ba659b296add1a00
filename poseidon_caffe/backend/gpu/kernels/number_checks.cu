// Labels and row numbers that are out of range.
#include "common.cuh"

// Notes the first value whose whole part is neither 0..count-1 nor `ignored` (if
// `ignores`) in `record`: the larger note wins, which is that of the smaller position;
// 0 is none.  A note is the complement of the position (31 bits used) and the bits of
// the value as a float.  All are counted in `faults`.  With an index the whole parts go there, -1 where there is none.
KERNEL(check_numbers)(const P* values, long long* index, unsigned long long* record,
                      unsigned long long* faults, long long size, long long count, long long ignores, double ignored,
                      long long negative_fractions) {
  FOR_EACH(i, size) {
    const P value = values[i];
    const bool good = (negative_fractions ? value > P(-1) : value >= P(0)) &&
                      value < P(count);
    if (index) index[i] = good ? (long long)value : -1;
    if (!good && !(ignores && (double)trunc(value) == ignored)) {
      const unsigned long long place = i < 0x7fffffffll ? i : 0x7fffffffll;
      const unsigned long long bits = __float_as_uint((float)value);
      atomicMax(record, ((0xffffffffull - place) << 32) | bits);
      atomicAdd(faults, 1ull);
    }
  }
}
