// Batches of images as they were read become a net's input: crop, mirror, mean, scale.
#include "common.cuh"

// Steps are elements from one place of an axis to the next.
template <class Pixel>
struct Job {
  const Pixel* images;  // at the first channel of the first image
  const float* mean;    // null for none
  T* data;
  unsigned channels, height, width;  // of the result
  long long image_step, data_step;   // from record to record
  int pixel_c, pixel_h, pixel_w;
  int mean_c, mean_h, mean_w;
  int data_c, data_h, data_w;
  float scale;
};

// Which part of an image is kept.
struct Place {
  int row, column, mirrored;
};

template <class Pixel>
DEVICE void put(const Job<Pixel>& job, long long n, const Place& place, unsigned c,
                unsigned y, unsigned x) {
  const int row = place.row + static_cast<int>(y);
  const int column =
      place.column + static_cast<int>(place.mirrored ? job.width - 1 - x : x);
  const int channel = static_cast<int>(c);
  const Pixel* image = job.images + n * job.image_step;
  float value = static_cast<float>(
      image[channel * job.pixel_c + row * job.pixel_h + column * job.pixel_w]);
  if (job.mean) {
    value -= job.mean[channel * job.mean_c + row * job.mean_h + column * job.mean_w];
  }
  T* out = job.data + n * job.data_step;
  out[channel * job.data_c + static_cast<int>(y) * job.data_h +
      static_cast<int>(x) * job.data_w] = T(value * job.scale);
}

// Threads go along the result's memory, so that writes are coalesced in either layout;
// an image is numbered in 32 bits, whose division is cheap.
template <class Pixel>
DEVICE void transform(const Job<Pixel>& job, long long records, const int* places,
                      const float* labels, P* label) {
  const unsigned first = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned step = gridDim.x * blockDim.x;
  const unsigned area = job.height * job.width;
  const bool interleaved = job.channels > 1 && job.data_c == 1;
  for (long long n = blockIdx.y; n < records; n += gridDim.y) {
    const Place place = {places[3 * n], places[3 * n + 1], places[3 * n + 2]};
    if (interleaved) {
      for (unsigned i = first; i < area * job.channels; i += step) {
        const unsigned p = job.channels == 3 ? i / 3 : i / job.channels;
        const unsigned y = p / job.width;
        put(job, n, place, i - p * job.channels, y, p - y * job.width);
      }
    } else {
      for (unsigned p = first; p < area; p += step) {
        const unsigned y = p / job.width, x = p - y * job.width;
        for (unsigned c = 0; c < job.channels; ++c) put(job, n, place, c, y, x);
      }
    }
    if (label && first == 0) label[n] = P(labels[n]);
  }
}

#define FEED(name, Pixel)                                                          \
  KERNEL(name)(const Pixel* images, const int* places, const float* mean,          \
               const float* labels, T* data, P* label, long long records,          \
               long long channels, long long height, long long width,              \
               long long start, long long pixel_n, long long pixel_c,              \
               long long pixel_h, long long pixel_w, long long mean_c,             \
               long long mean_h, long long mean_w, long long data_n,               \
               long long data_c, long long data_h, long long data_w,               \
               double scale) {                                                     \
    const Job<Pixel> job = {images + start,                                        \
                            mean,                                                  \
                            data,                                                  \
                            static_cast<unsigned>(channels),                       \
                            static_cast<unsigned>(height),                         \
                            static_cast<unsigned>(width),                          \
                            pixel_n,                                               \
                            data_n,                                                \
                            static_cast<int>(pixel_c),                             \
                            static_cast<int>(pixel_h),                             \
                            static_cast<int>(pixel_w),                             \
                            static_cast<int>(mean_c),                              \
                            static_cast<int>(mean_h),                              \
                            static_cast<int>(mean_w),                              \
                            static_cast<int>(data_c),                              \
                            static_cast<int>(data_h),                              \
                            static_cast<int>(data_w),                              \
                            static_cast<float>(scale)};                            \
    transform(job, records, places, labels, label);                                \
  }

FEED(feed_bytes, unsigned char)
FEED(feed_floats, float)
