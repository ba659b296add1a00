// Rows chosen by number, and rows added up by number in the order of their places.
#include "common.cuh"

// y[i] = x[index[i]] [+ plus], rows of ``width`` elements in one order of memory; a
// number of -1 (a fault that has been noted) stands for a row of zeros.
template <class X, class Y>
DEVICE void gather(const X* x, const long long* index, Y* y, const P* plus,
                   long long rows, long long width) {
  const long long tiles = (width + blockDim.x - 1) / blockDim.x;
  for (long long tile = blockIdx.x; tile < rows * tiles; tile += gridDim.x) {
    const long long row = tile / tiles;
    const long long column = (tile % tiles) * blockDim.x + threadIdx.x;
    if (column >= width) continue;
    const long long from = index[row];
    A value = from < 0 ? A(0) : A(x[from * width + column]);
    if (plus) value += A(plus[column]);
    y[row * width + column] = Y(value);
  }
}

KERNEL(gather_rows)(const T* x, const long long* index, T* y, const P* plus,
                    long long rows, long long width) {
  gather(x, index, y, plus, rows, width);
}

KERNEL(gather_params)(const P* x, const long long* index, T* y, const P* plus,
                      long long rows, long long width) {
  gather(x, index, y, plus, rows, width);
}

// Sorts the places of ``index`` by number, equal numbers by place, each place finding
// its own rank: ``keys`` are the numbers in order, ``order`` the places.
KERNEL(sort_places)(const long long* index, int* keys, int* order, long long count) {
  __shared__ int tile[1024];
  const long long own = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int key = own < count ? static_cast<int>(index[own]) : 0;
  int rank = 0;
  for (long long start = 0; start < count; start += blockDim.x) {
    __syncthreads();
    const long long place = start + threadIdx.x;
    if (place < count) tile[threadIdx.x] = static_cast<int>(index[place]);
    __syncthreads();
    const long long left = count - start;
    const int size = static_cast<int>(left < blockDim.x ? left : blockDim.x);
    for (int i = 0; i < size; ++i)
      rank += tile[i] < key || (tile[i] == key && start + i < own);
  }
  if (own < count) {
    keys[rank] = key;
    order[rank] = static_cast<int>(own);
  }
}

// dx[key] (+)= the rows of dy at the places of one key.  A block does some columns of
// one key, whose places it deals to ``lanes``; the lanes' sums are added in order.
template <class X>
DEVICE void scatter(const T* dy, const int* keys, const int* order, X* dx,
                    long long count, long long width, long long tiles, int lanes,
                    bool accumulate) {
  __shared__ A sums[1024];
  const int columns = blockDim.x / lanes;
  const int lane = threadIdx.x / columns, at = threadIdx.x % columns;
  for (long long item = blockIdx.x; item < count * tiles; item += gridDim.x) {
    const long long first = item / tiles;
    const int key = keys[first];
    if (key < 0 || (first > 0 && keys[first - 1] == key)) continue;
    const long long column = (item % tiles) * columns + at;
    A sum = 0;
    if (column < width)
      for (long long i = first + lane; i < count && keys[i] == key; i += lanes)
        sum += A(dy[order[i] * width + column]);
    if (lanes > 1) {
      __syncthreads();
      sums[threadIdx.x] = sum;
      __syncthreads();
      for (int i = 1; lane == 0 && i < lanes; ++i) sum += sums[i * columns + at];
    }
    if (lane == 0 && column < width) {
      X* to = dx + key * width + column;
      *to = X(accumulate ? A(*to) + sum : sum);
    }
  }
}

KERNEL(scatter_rows)(const T* dy, const int* keys, const int* order, T* dx,
                     long long count, long long width, long long tiles,
                     long long lanes, long long accumulate) {
  scatter(dy, keys, order, dx, count, width, tiles, static_cast<int>(lanes),
          accumulate != 0);
}

KERNEL(scatter_params)(const T* dy, const int* keys, const int* order, P* dx,
                       long long count, long long width, long long tiles,
                       long long lanes, long long accumulate) {
  scatter(dy, keys, order, dx, count, width, tiles, static_cast<int>(lanes),
          accumulate != 0);
}
