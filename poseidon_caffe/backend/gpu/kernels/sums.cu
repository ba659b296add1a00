// Sums of activations over some axes, in a fixed order.  Blocks add up pieces in
// double; where an output has several, `finish` adds those.
#include "common.cuh"

// What is added up: x, and x * times; `gated` counts only where times <= 0.  Or, as
// `passed`, what a ReLU whose top is `times` passes of x, which is written there too.
struct Terms {
  const T* x;
  const T* times;
  bool gated;
  T* passed;
  A slope;

  __device__ __forceinline__ A product(A plain, A other) const {
    return gated && other > A(0) ? A(0) : plain * other;
  }
};

// Where sums go: pieces of them for `finish`, or all there is, or nowhere.
struct Sums {
  double* parts;
  P* whole;
  bool more;  // add to what `whole` holds

  __device__ __forceinline__ bool wanted() const { return parts || whole; }
  __device__ __forceinline__ void put(long long at, double sum) const {
    if (parts) {
      parts[at] = sum;
    } else {
      whole[at] = static_cast<P>(sum + (more ? double(whole[at]) : 0.0));
    }
  }
};

// This many are added in A before they are added up in double.
#define RUN 8

// A few terms in A; all loads of a whole run are under way before the first is used.
template <bool kPass>
struct Run {
  A sum, product;

  __device__ __forceinline__ Run(const Terms& terms, const long long (&at)[RUN],
                                 int count, bool sums, bool products)
      : sum(A(0)), product(A(0)) {
    A plain[RUN], other[RUN];
    if (count == RUN) {
#pragma unroll
      for (int k = 0; k < RUN; ++k) plain[k] = A(terms.x[at[k]]);
      if (products || kPass) {
#pragma unroll
        for (int k = 0; k < RUN; ++k) other[k] = A(terms.times[at[k]]);
      }
    } else {
#pragma unroll
      for (int k = 0; k < RUN; ++k) {
        plain[k] = k < count ? A(terms.x[at[k]]) : A(0);
        if (products || kPass) other[k] = k < count ? A(terms.times[at[k]]) : A(0);
      }
    }
#pragma unroll
    for (int k = 0; k < RUN; ++k) {
      if (kPass && k < count) {
        // What is stored is what is added up, rounded as it is.
        const A step = other[k] > A(0) ? plain[k] : terms.slope * plain[k];
        const T passed = T(step);
        terms.passed[at[k]] = passed;
        plain[k] = A(passed);
      }
      if (sums) sum += plain[k];
      if (products) product += terms.product(plain[k], other[k]);
    }
  }
};

// Memory is (outer, kept, inner), summed over outer and inner.  Block (row, piece)
// adds a piece of one output; sums are (pieces, kept), each given or null.
template <bool kPass>
DEVICE void add_rows(const Terms& terms, const Sums& sums, const Sums& products,
                     long long outer, long long kept, long long inner,
                     long long piece) {
  const long long row = blockIdx.x % kept, part = blockIdx.x / kept;
  const long long count = outer * inner, step = blockDim.x;
  const long long last = (part + 1) * piece < count ? (part + 1) * piece : count;
  // From place to place without division: so many rows on, and so far in a row.
  const long long leap = (kept - 1) * inner, turns = step / inner;
  const long long further = step + turns * leap, rest = step - turns * inner;
  long long place = part * piece + threadIdx.x;
  const long long outside = place / inner;
  long long within = place - outside * inner;
  long long here = (outside * kept + row) * inner + within, at[RUN];
  double sum = 0, product = 0;
  while (place < last) {
    int found = 0;
#pragma unroll
    for (int k = 0; k < RUN; ++k) {
      at[k] = here;
      found += place < last;
      place += step;
      here += further;
      within += rest;
      if (within >= inner) {
        within -= inner;
        here += leap;
      }
    }
    const Run<kPass> run(terms, at, found, sums.wanted(), products.wanted());
    sum += static_cast<double>(run.sum);
    product += static_cast<double>(run.product);
  }
  if (sums.wanted()) {
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums.put(part * kept + row, sum);
  }
  if (products.wanted()) {
    product = block_sum(product);
    if (threadIdx.x == 0) products.put(part * kept + row, product);
  }
}

KERNEL(sum_rows)(const T* x, const T* times, double* sums, double* products,
                 long long outer, long long kept, long long inner, long long piece,
                 long long gated) {
  const Terms terms = {x, times, gated != 0, nullptr, A(0)};
  add_rows<false>(terms, {sums, nullptr, false}, {products, nullptr, false}, outer,
                  kept, inner, piece);
}

// dx = dy where y > 0, slope * dy elsewhere, and the sums of dx, in pieces or whole; dx
// may be dy
KERNEL(pass_rows)(const T* y, const T* dy, T* dx, double* parts, P* whole,
                  long long more, long long outer, long long kept, long long inner,
                  long long piece, double slope) {
  const Terms terms = {dy, y, false, dx, static_cast<A>(slope)};
  add_rows<true>(terms, {parts, whole, more != 0}, {nullptr, nullptr, false}, outer,
                 kept, inner, piece);
}

// Adds the numbers of the block's warps lane by lane and writes the columns' sums.
DEVICE void write_columns(double sum, const Sums& out, long long place, bool inside) {
  __shared__ double part[1024];
  __syncthreads();
  part[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= 32 || !inside) return;
  for (unsigned int i = threadIdx.x + 32; i < blockDim.x; i += 32) sum += part[i];
  out.put(place, sum);
}

// Memory is (outer, rows, columns), summed over rows.  A block adds a piece of the rows
// of 32 columns; sums are (pieces, outer, columns), each given or null.
template <bool kPass>
DEVICE void add_columns(const Terms& terms, const Sums& sums, const Sums& products,
                        long long outer, long long rows, long long columns,
                        long long piece) {
  const long long groups = (columns + 31) / 32;
  const long long group = blockIdx.x % groups, rest = blockIdx.x / groups;
  const long long outside = rest % outer, part = rest / outer;
  const long long column = group * 32 + threadIdx.x % 32;
  const long long warps = blockDim.x / 32;
  const long long last = (part + 1) * piece < rows ? (part + 1) * piece : rows;
  const bool inside = column < columns;
  double sum = 0, product = 0;
  for (long long row = part * piece + threadIdx.x / 32; inside && row < last;
       row += RUN * warps) {
    long long at[RUN];
    int found = 0;
#pragma unroll
    for (int k = 0; k < RUN; ++k) {
      at[k] = (outside * rows + row + k * warps) * columns + column;
      found += row + k * warps < last;
    }
    const Run<kPass> run(terms, at, found, sums.wanted(), products.wanted());
    sum += static_cast<double>(run.sum);
    product += static_cast<double>(run.product);
  }
  const long long place = (part * outer + outside) * columns + column;
  if (sums.wanted()) write_columns(sum, sums, place, inside);
  if (products.wanted()) write_columns(product, products, place, inside);
}

KERNEL(sum_columns)(const T* x, const T* times, double* sums, double* products,
                    long long outer, long long rows, long long columns,
                    long long piece, long long gated) {
  const Terms terms = {x, times, gated != 0, nullptr, A(0)};
  add_columns<false>(terms, {sums, nullptr, false}, {products, nullptr, false}, outer,
                     rows, columns, piece);
}

// As pass_rows
KERNEL(pass_columns)(const T* y, const T* dy, T* dx, double* parts, P* whole,
                     long long more, long long outer, long long rows,
                     long long columns, long long piece, double slope) {
  const Terms terms = {dy, y, false, dx, static_cast<A>(slope)};
  add_columns<true>(terms, {parts, whole, more != 0}, {nullptr, nullptr, false}, outer,
                    rows, columns, piece);
}

// out (+)= the sum of `pieces` partial sums; one block an output.
KERNEL(finish)(const double* partial, P* out, long long outputs, long long pieces,
               long long accumulate) {
  double sum = 0;
  for (long long i = threadIdx.x; i < pieces; i += blockDim.x) {
    sum += partial[i * outputs + blockIdx.x];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    out[blockIdx.x] = static_cast<P>(sum + (accumulate ? double(out[blockIdx.x]) : 0.0));
  }
}

// The same with one piece: one thread an output.
KERNEL(finish_single)(const double* partial, P* out, long long outputs,
                      long long accumulate) {
  FOR_EACH(i, outputs) {
    out[i] = static_cast<P>(partial[i] + (accumulate ? double(out[i]) : 0.0));
  }
}

// partial[block] = sums of |x|, or of x^2
KERNEL(norm_pieces)(const T* x, double* partial, long long squares, long long n) {
  double sum = 0;
  FOR_EACH(i, n) {
    const double value = static_cast<double>(A(x[i]));
    sum += squares ? value * value : fabs(value);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// found[block] = index of the first NaN or infinity that the block sees, else n
KERNEL(find_bad)(const T* x, long long* found, long long n) {
  long long first = n;
  FOR_EACH(i, n) {
    const A value = A(x[i]);
    if ((isnan(value) || isinf(value)) && i < first) first = i;
  }
  first = block_min(first);
  if (threadIdx.x == 0) found[blockIdx.x] = first;
}

// y[i, j] = sum over k of x[i, k, j]: memory (outer, copies, inner)
KERNEL(sum_copies)(const T* x, T* y, long long copies, long long inner, long long n) {
  FOR_EACH(i, n) {
    const long long outer = i / inner;
    const T* from = x + outer * copies * inner + (i - outer * inner);
    A sum = A(from[0]);
    for (long long k = 1; k < copies; ++k) sum += A(from[k * inner]);
    y[i] = T(sum);
  }
}
