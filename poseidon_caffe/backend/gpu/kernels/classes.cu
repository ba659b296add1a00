// Softmax, losses over labels and hits: everything that runs along the classes of
// places.  Memory is (outer, classes, inner); a place is one of outer * inner.
//
// A kernel comes in up to three forms, for who shares the classes of a place (not all
// have all: each takes time to compile):
//   _warp   a warp, inner = 1       few classes, contiguous
//   _block  a block, inner = 1      many classes, contiguous
//   _tile   a block works on 32 neighbouring places, its warps share the classes
#include "common.cuh"

enum { WARP, BLOCK, TILE };

// What a thread does of the places from `base` on.
template <int MODE>
struct Part {
  static __device__ __forceinline__ int at_once() {
    return MODE == WARP ? blockDim.x / 32 : MODE == BLOCK ? 1 : 32;
  }
  // The first of its classes, and how far the next is.
  static __device__ __forceinline__ int first() {
    return MODE == WARP ? threadIdx.x % 32 : MODE == BLOCK ? threadIdx.x : threadIdx.x / 32;
  }
  static __device__ __forceinline__ int next() {
    return MODE == WARP ? 32 : MODE == BLOCK ? blockDim.x : blockDim.x / 32;
  }

  long long place, start, step, end;

  __device__ __forceinline__ Part(long long base, long long places, long long classes,
                                  long long inner) {
    place = base + (MODE == WARP ? threadIdx.x / 32 : MODE == BLOCK ? 0 : threadIdx.x % 32);
    step = MODE == TILE ? inner : 1;
    start = MODE == TILE ? place / inner * classes * inner + place % inner : place * classes;
    // Threads without a place stay for the barriers.
    end = place < places ? classes : 0;
  }
  __device__ __forceinline__ bool live() const { return end > 0; }
};

#define PLACES(base)                                                               \
  for (long long base = (long long)blockIdx.x * Part<MODE>::at_once(); base < places; \
       base += (long long)gridDim.x * Part<MODE>::at_once())
#define CLASSES(c, part) for (long long c = part.first(); c < part.end; c += part.next())

// A value of all threads that share a place, brought together.
template <int MODE, class Op, class V>
static __device__ V together(V value) {
  if constexpr (MODE == WARP) {
    return warp_reduce<Op>(value);
  } else if constexpr (MODE == BLOCK) {
    return block_reduce<Op>(value);
  } else {
    __shared__ V all[1024];
    __syncthreads();
    all[threadIdx.x] = value;
    __syncthreads();
    value = all[threadIdx.x % 32];
    for (unsigned i = threadIdx.x % 32 + 32; i < blockDim.x; i += 32)
      value = Op::of(value, all[i]);
    return value;
  }
}

// The class that a label names, or -1 if it is ignored or none.
DEVICE long long class_of(P label, long long classes, long long ignores, double ignored) {
  if (ignores && (double)trunc(label) == ignored) return -1;
  return label > P(-1) && label < P(classes) ? (long long)label : -1;
}

// One block's share of (total, places counted).
DEVICE void put_sums(double total, double counted, double* sums) {
  total = block_sum(total);
  counted = block_sum(counted);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = total;
    sums[2 * blockIdx.x + 1] = counted;
  }
}

#define FORM_WARP(name, parameters, arguments) \
  KERNEL(name##_warp) parameters { name##_places<WARP> arguments; }
#define FORMS_SHORT(name, parameters, arguments) \
  FORM_WARP(name, parameters, arguments)         \
  KERNEL(name##_tile) parameters { name##_places<TILE> arguments; }
#define FORMS(name, parameters, arguments)     \
  FORMS_SHORT(name, parameters, arguments)     \
  KERNEL(name##_block) parameters { name##_places<BLOCK> arguments; }

// ---------------------------------------------------------------------- softmax

template <int MODE>
DEVICE void softmax_places(const T* x, T* y, long long places, long long classes,
                           long long inner) {
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    A high = A(-INFINITY), sum = 0;
    CLASSES(c, part) high = maximum(high, A(x[part.start + c * part.step]));
    high = together<MODE, MaxOf>(high);
    CLASSES(c, part) sum += exp(A(x[part.start + c * part.step]) - high);
    const A factor = A(1) / together<MODE, AddOf>(sum);
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      y[i] = T(exp(A(x[i]) - high) * factor);
    }
  }
}
FORMS(softmax,
      (const T* x, T* y, long long places, long long classes, long long inner),
      (x, y, places, classes, inner))

// dx = (dy - sum(dy * y)) * y
template <int MODE>
DEVICE void softmax_backward_places(const T* y, const T* dy, T* dx, long long places,
                                    long long classes, long long inner) {
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    A dot = 0;
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      dot += A(dy[i]) * A(y[i]);
    }
    dot = together<MODE, AddOf>(dot);
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      dx[i] = T((A(dy[i]) - dot) * A(y[i]));
    }
  }
}
FORMS(softmax_backward,
      (const T* y, const T* dy, T* dx, long long places, long long classes,
       long long inner),
      (y, dy, dx, places, classes, inner))

// ------------------------------------------------------ -log of the label's own

// The sum of -log(max(prob[label], floor)); a NaN stays one.
KERNEL(log_loss)(const T* prob, const P* label, double floor, long long ignores,
                 double ignored, double* sums, long long places, long long classes,
                 long long inner) {
  double total = 0, counted = 0;
  FOR_EACH(place, places) {
    const long long c = class_of(label[place], classes, ignores, ignored);
    if (c < 0) continue;
    const long long i = (place / inner * classes + c) * inner + place % inner;
    total -= (double)log(maximum(A(prob[i]), A(floor)));
    counted += 1;
  }
  put_sums(total, counted, sums);
}

// dx = -weight / max(prob, floor) at the labels, 0 elsewhere
template <int MODE>
DEVICE void log_loss_backward_places(const T* prob, const P* label, double floor,
                                     const double* weight, T* dx, long long places,
                                     long long classes, long long inner) {
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own = part.live() ? class_of(label[part.place], classes, 0, 0) : -1;
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      dx[i] = T(c == own ? -A(weight[0]) / maximum(A(prob[i]), A(floor)) : A(0));
    }
  }
}
FORM_WARP(log_loss_backward,
      (const T* prob, const P* label, double floor, const double* weight, T* dx,
       long long places, long long classes, long long inner),
      (prob, label, floor, weight, dx, places, classes, inner))

// dx = weight * (prob - onehot(label)), 0 where ignored
template <int MODE>
DEVICE void softmax_loss_backward_places(const T* prob, const P* label,
                                         long long ignores, double ignored,
                                         const double* weight, T* dx, long long places,
                                         long long classes, long long inner) {
  const A factor = A(weight[0]);
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own =
        part.live() ? class_of(label[part.place], classes, ignores, ignored) : -1;
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      const A off = c == own ? A(prob[i]) - A(1) : A(prob[i]);
      dx[i] = T(own < 0 ? A(0) : off * factor);
    }
  }
}
FORMS(softmax_loss_backward,
      (const T* prob, const P* label, long long ignores, double ignored,
       const double* weight, T* dx, long long places, long long classes,
       long long inner),
      (prob, label, ignores, ignored, weight, dx, places, classes, inner))

// ------------------------------------------------------------------------ hinge

// max(0, 1 + s x) or its square, s = -1 at the labels, else 1
template <int MODE>
DEVICE void hinge_loss_places(const T* x, const P* label, long long squared,
                              double* sums, long long places, long long classes,
                              long long inner) {
  double total = 0, counted = 0;
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own = part.live() ? class_of(label[part.place], classes, 0, 0) : -1;
    if (own >= 0 && part.first() == 0) counted += 1;
    CLASSES(c, part) {
      const A value = A(x[part.start + c * part.step]);
      const A margin = maximum(A(1) + (c == own ? -value : value), A(0));
      if (own >= 0) total += (double)(squared ? margin * margin : margin);
    }
  }
  put_sums(total, counted, sums);
}
FORM_WARP(hinge_loss,
      (const T* x, const P* label, long long squared, double* sums, long long places,
       long long classes, long long inner),
      (x, label, squared, sums, places, classes, inner))

template <int MODE>
DEVICE void hinge_loss_backward_places(const T* x, const P* label, long long squared,
                                       const double* weight, T* dx, long long places,
                                       long long classes, long long inner) {
  const A factor = A(weight[0]);
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own = part.live() ? class_of(label[part.place], classes, 0, 0) : -1;
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      const A sign = c == own ? A(-1) : A(1);
      const A margin = maximum(A(1) + sign * A(x[i]), A(0));
      const A slope = squared ? A(2) * margin : (margin > A(0) ? A(1) : A(0));
      dx[i] = T(own < 0 ? A(0) : factor * sign * slope);
    }
  }
}
FORM_WARP(hinge_loss_backward,
      (const T* x, const P* label, long long squared, const double* weight, T* dx,
       long long places, long long classes, long long inner),
      (x, label, squared, weight, dx, places, classes, inner))

// --------------------------------------------------------------------- infogain

// The sum of -gain[label, c] * log(max(prob[c], floor))
template <int MODE>
DEVICE void infogain_loss_places(const T* prob, const P* label, const P* gain,
                                 double floor, long long ignores, double ignored,
                                 double* sums, long long places, long long classes,
                                 long long inner) {
  double total = 0, counted = 0;
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own =
        part.live() ? class_of(label[part.place], classes, ignores, ignored) : -1;
    if (own < 0) continue;
    if (part.first() == 0) counted += 1;
    CLASSES(c, part) {
      const A at = maximum(A(prob[part.start + c * part.step]), A(floor));
      total -= (double)(A(gain[own * classes + c]) * log(at));
    }
  }
  put_sums(total, counted, sums);
}
FORMS_SHORT(infogain_loss,
      (const T* prob, const P* label, const P* gain, double floor, long long ignores,
       double ignored, double* sums, long long places, long long classes,
       long long inner),
      (prob, label, gain, floor, ignores, ignored, sums, places, classes, inner))

// dx = weight * (prob * sum of gain[label] - gain[label]), 0 where ignored
template <int MODE>
DEVICE void infogain_loss_backward_places(const T* prob, const P* label, const P* gain,
                                          long long ignores, double ignored,
                                          const double* weight, T* dx, long long places,
                                          long long classes, long long inner) {
  const A factor = A(weight[0]);
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own =
        part.live() ? class_of(label[part.place], classes, ignores, ignored) : -1;
    const P* row = gain + (own < 0 ? 0 : own) * classes;
    A sum = 0;
    CLASSES(c, part) sum += A(row[c]);
    sum = together<MODE, AddOf>(sum);
    CLASSES(c, part) {
      const long long i = part.start + c * part.step;
      dx[i] = T(own < 0 ? A(0) : factor * (A(prob[i]) * sum - A(row[c])));
    }
  }
}
FORMS_SHORT(infogain_loss_backward,
      (const T* prob, const P* label, const P* gain, long long ignores, double ignored,
       const double* weight, T* dx, long long places, long long classes,
       long long inner),
      (prob, label, gain, ignores, ignored, weight, dx, places, classes, inner))

// ------------------------------------------------------------------------- hits

// Counts labels that at most top_k classes score as much as; each class's hits and
// labels too, where wanted (whole numbers: their order does not show).
template <int MODE>
DEVICE void count_hits_places(const T* scores, const P* label, long long top_k,
                              long long ignores, double ignored, double* sums,
                              unsigned long long* hits, unsigned long long* seen,
                              long long places, long long classes, long long inner) {
  double total = 0, counted = 0;
  PLACES(base) {
    const Part<MODE> part(base, places, classes, inner);
    const long long own =
        part.live() ? class_of(label[part.place], classes, ignores, ignored) : -1;
    int better = 0;
    if (own >= 0) {
      const A mine = A(scores[part.start + own * part.step]);
      CLASSES(c, part) better += A(scores[part.start + c * part.step]) >= mine;
    }
    better = together<MODE, AddOf>(better);
    if (own < 0 || part.first() != 0) continue;
    const bool hit = better <= top_k;
    counted += 1;
    total += hit;
    if (seen) {
      atomicAdd(seen + own, 1ull);
      if (hit) atomicAdd(hits + own, 1ull);
    }
  }
  put_sums(total, counted, sums);
}
FORMS(count_hits,
      (const T* scores, const P* label, long long top_k, long long ignores,
       double ignored, double* sums, unsigned long long* hits,
       unsigned long long* seen, long long places, long long classes,
       long long inner),
      (scores, label, top_k, ignores, ignored, sums, hits, seen, places, classes,
       inner))

KERNEL(hit_shares)(const unsigned long long* hits, const unsigned long long* seen,
                   T* shares, long long classes) {
  FOR_EACH(c, classes)
  shares[c] = T(A((double)hits[c] / (double)(seen[c] > 0 ? seen[c] : 1)));
}
