// The solver's update of all parameters by one launch, and the sum over all gradients.
#include "common.cuh"

// Columns of the table that tells where the numbers are, a row a segment.
enum { DATA, DIFF, FIRST, SECOND, COUNT, BLOCK, KIND, DECAY, L1, WIDE, COLUMNS };

// Elements that a block does; update.py knows.
static constexpr int PIECE = 4096;
static constexpr int WIDTH = 16 / sizeof(P);
static constexpr int KINDS = 8;

struct alignas(16) ParamPack {
  P at[WIDTH];
};

DEVICE P* pointer(long long place) { return reinterpret_cast<P*>(place); }

// The row of this block's segment; ``from`` and ``count`` are its piece of it.
DEVICE const long long* find(const long long* table, long long segments,
                             long long* from, int* count) {
  const long long block = blockIdx.x;
  long long low = 0, high = segments - 1;
  while (low < high) {
    const long long middle = (low + high + 1) / 2;
    if (table[middle * COLUMNS + BLOCK] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const long long* row = table + low * COLUMNS;
  *from = (block - row[BLOCK]) * PIECE;
  const long long left = row[COUNT] - *from;
  *count = static_cast<int>(left < PIECE ? left : PIECE);
  return row;
}

DEVICE double chosen(const double (&of)[KINDS], long long kind) {
  double value = of[0];
  for (int i = 1; i < KINDS; ++i) value = kind == i ? of[i] : value;
  return value;
}

// w -= r g / (sqrt(squares) + delta)
DEVICE void descend(A& w, A g, A squares, A rate, A delta) {
  w -= rate * (g / (sqrt(squares) + delta));
}

struct Average {
  A kept, taken;
  __device__ __forceinline__ Average(double decay) : kept(A(decay)), taken(A(1.0 - decay)) {}
  __device__ __forceinline__ A of(A average, A x) const { return kept * average + taken * x; }
};

// The rules: w the value, g the ready gradient, h and k the histories.
struct Sgd {
  static constexpr int arrays = 1;
  A momentum;
  __device__ __forceinline__ Sgd(double c0, double, double, double) : momentum(A(c0)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A&, A rate) const {
    h = momentum * h + rate * g;
    w -= h;
  }
};

struct Nesterov {
  static constexpr int arrays = 1;
  A momentum;
  __device__ __forceinline__ Nesterov(double c0, double, double, double) : momentum(A(c0)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A&, A rate) const {
    h = momentum * h + rate * g;
    w = w - rate * g - momentum * h;
  }
};

struct AdaGrad {
  static constexpr int arrays = 1;
  A delta;
  __device__ __forceinline__ AdaGrad(double c0, double, double, double) : delta(A(c0)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A&, A rate) const {
    h += g * g;
    descend(w, g, h, rate, delta);
  }
};

struct RmsProp {
  static constexpr int arrays = 1;
  Average average;
  A delta;
  __device__ __forceinline__ RmsProp(double c0, double c1, double, double)
      : average(c0), delta(A(c1)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A&, A rate) const {
    h = average.of(h, g * g);
    descend(w, g, h, rate, delta);
  }
};

struct AdaDelta {
  static constexpr int arrays = 2;
  Average average;
  A delta;
  __device__ __forceinline__ AdaDelta(double c0, double c1, double, double)
      : average(c0), delta(A(c1)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A& k, A rate) const {
    h = average.of(h, g * g);
    const A change = g * sqrt((k + delta) / (h + delta));
    k = average.of(k, change * change);
    w -= rate * change;
  }
};

struct Adam {
  static constexpr int arrays = 2;
  Average first, second;
  A delta, correction;
  __device__ __forceinline__ Adam(double c0, double c1, double c2, double c3)
      : first(c0), second(c1), delta(A(c2)), correction(A(c3)) {}
  __device__ __forceinline__ void step(A& w, A g, A& h, A& k, A rate) const {
    k = second.of(k, g * g);
    h = first.of(h, g);
    descend(w, h, k, rate * correction, delta);
  }
};

// One element: its gradient made ready, then the rule.
template <class Rule>
struct Element {
  Rule rule;
  A rate, scale, decay;
  bool l1;
  __device__ __forceinline__ void step(P& data, P diff, P& one, P& two) const {
    A w = data, g = A(diff) * scale, h = one, k = two;
    if (decay != 0) g += decay * (l1 ? (w > 0 ? A(1) : w < 0 ? A(-1) : w) : w);
    rule.step(w, g, h, k, rate);
    data = w;
    one = h;
    two = k;
  }
};

template <class Rule>
DEVICE void update(const Rule& rule, const long long* table, long long segments,
                   const double (&rates)[KINDS], const double (&scales)[KINDS],
                   const P* inverse, const int* skip) {
  // With a loss scale whose gradients were not finite nothing moves.
  if (skip && *skip) return;
  long long from;
  int count, done = 0;
  const long long* row = find(table, segments, &from, &count);
  P* w = pointer(row[DATA]) + from;
  P* h = pointer(row[FIRST]) + from;
  const P* g = pointer(row[DIFF]) + from;
  P* k = Rule::arrays == 2 ? pointer(row[SECOND]) + from : h;
  const A scale = A(chosen(scales, row[KIND])) * (inverse ? A(*inverse) : A(1));
  const Element<Rule> element = {rule, A(chosen(rates, row[KIND])), scale,
                                 A(__longlong_as_double(row[DECAY])), row[L1] != 0};
  if (row[WIDE]) {
    ParamPack* ws = reinterpret_cast<ParamPack*>(w);
    ParamPack* hs = reinterpret_cast<ParamPack*>(h);
    ParamPack* ks = reinterpret_cast<ParamPack*>(k);
    const ParamPack* gs = reinterpret_cast<const ParamPack*>(g);
    const int packs = count / WIDTH;
    for (int i = threadIdx.x; i < packs; i += blockDim.x) {
      ParamPack wide = ws[i], one = hs[i], two = {};
      const ParamPack diff = gs[i];
      if (Rule::arrays == 2) two = ks[i];
      for (int j = 0; j < WIDTH; ++j)
        element.step(wide.at[j], diff.at[j], one.at[j], two.at[j]);
      ws[i] = wide;
      hs[i] = one;
      if (Rule::arrays == 2) ks[i] = two;
    }
    done = packs * WIDTH;
  }
  for (int i = done + threadIdx.x; i < count; i += blockDim.x) {
    P unused = 0;
    element.step(w[i], g[i], h[i], Rule::arrays == 2 ? k[i] : unused);
  }
}

#define EIGHT(n)                                                             \
  double n##0, double n##1, double n##2, double n##3, double n##4, double n##5, \
      double n##6, double n##7
#define THOSE(n) {n##0, n##1, n##2, n##3, n##4, n##5, n##6, n##7}

// c0..c3 are the rule's constants; segments of kind k have rate k and scale k.
// ``inverse`` (a factor on all gradients) and ``skip`` may be null.
#define UPDATE(name, Rule)                                                     \
  KERNEL(name)(const long long* table, long long segments, double c0, double c1, \
               double c2, double c3, EIGHT(rate), EIGHT(scale),                \
               const P* inverse, const int* skip) {                            \
    const double rates[KINDS] = THOSE(rate), scales[KINDS] = THOSE(scale);     \
    update(Rule(c0, c1, c2, c3), table, segments, rates, scales, inverse, skip); \
  }

UPDATE(update_sgd, Sgd)
UPDATE(update_nesterov, Nesterov)
UPDATE(update_adagrad, AdaGrad)
UPDATE(update_rmsprop, RmsProp)
UPDATE(update_adadelta, AdaDelta)
UPDATE(update_adam, Adam)

// The sum of squares of each block's piece of the DATA column's arrays.
KERNEL(sum_squares)(const long long* table, long long segments, double* parts) {
  long long from;
  int count;
  const long long* row = find(table, segments, &from, &count);
  const P* x = pointer(row[DATA]) + from;
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x)
    sum += static_cast<double>(x[i]) * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// One block: total = the sum of all parts.
KERNEL(sum_parts)(const double* parts, long long count, double* total) {
  double sum = 0;
  for (long long i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}
