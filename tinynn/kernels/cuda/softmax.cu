// Softmax cross-entropy of probabilities and of integer labels: one warp for each row of logits. And
// the mean over rows.
#include "device.cuh"

constexpr int kWarp = 32, kThreads = 256;

__device__ __forceinline__ float warp_max(float x) {
  for (int mask = kWarp / 2; mask; mask /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, mask));
  return x;
}
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int mask = kWarp / 2; mask; mask /= 2) x += __shfl_xor_sync(~0u, x, mask);
  return x;
}

struct Softmax {
  float top, total;  // softmax(x)[c] = exp(x[c] - top) / total
};
__device__ __forceinline__ Softmax softmax_of(const float* x, int classes) {
  float largest = -INFINITY;
  for (int c = threadIdx.x; c < classes; c += kWarp) largest = fmaxf(largest, x[c]);
  largest = warp_max(largest);
  float sum = 0;
  for (int c = threadIdx.x; c < classes; c += kWarp) sum += expf(x[c] - largest);
  return {largest, warp_sum(sum)};
}

// -sum over c of target(c) log softmax(x)[c].
template <class Target>
__device__ __forceinline__ float loss_of(const float* x, Softmax softmax, int classes,
                                         Target target) {
  float log_sum = logf(softmax.total), loss = 0;
  for (int c = threadIdx.x; c < classes; c += kWarp) {
    float share = target(c);
    if (share != 0) loss -= share * (x[c] - softmax.top - log_sum);  // 0 (-inf) would be NaN
  }
  return warp_sum(loss);
}

#define ROW                                                            \
  int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x; \
  if (row >= rows) return; /* a whole warp */                          \
  long long begin = static_cast<long long>(row) * classes

extern "C" __global__ void cross_entropy(const float* logits, const float* target, float* losses,
                                         int rows, int classes) {
  ROW;
  Softmax softmax = softmax_of(logits + begin, classes);
  float loss =
      loss_of(logits + begin, softmax, classes, [=](int c) { return target[begin + c]; });
  if (lane == 0) losses[row] = loss;
}

// dlogits[m] = dlosses[m] (softmax(logits[m]) sum(target[m]) - target[m]).
extern "C" __global__ void cross_entropy_grad(const float* dlosses, const float* logits,
                                              const float* target, float* dlogits, int rows,
                                              int classes) {
  ROW;
  const float *x = logits + begin, *shares = target + begin;
  Softmax softmax = softmax_of(x, classes);
  float sum = 0;
  for (int c = lane; c < classes; c += kWarp) sum += shares[c];
  sum = warp_sum(sum);
  for (int c = lane; c < classes; c += kWarp) {
    float p = expf(x[c] - softmax.top) / softmax.total;
    dlogits[begin + c] = dlosses[row] * (p * sum - shares[c]);
  }
}

// losses[m], and top[m] and total[m] for the gradient.
extern "C" __global__ void label_cross_entropy(const float* logits, const long long* labels,
                                               float* losses, float* top, float* total, int rows,
                                               int classes, long long ignore_index,
                                               float smoothing) {
  ROW;
  Softmax softmax = softmax_of(logits + begin, classes);
  long long label = labels[row];
  float loss = loss_of(logits + begin, softmax, classes, [=](int c) {
    return (c == label) * (1 - smoothing) + smoothing / classes;
  });
  if (lane > 0) return;
  losses[row] = label == ignore_index ? 0 : loss;
  top[row] = softmax.top;
  total[row] = softmax.total;
}

extern "C" __global__ void label_cross_entropy_grad(const float* dlosses, const float* logits,
                                                    const long long* labels, const float* top,
                                                    const float* total, float* dlogits, int n,
                                                    int classes, long long ignore_index,
                                                    float smoothing) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int row = i / classes;
  long long label = labels[row];
  float target = (i % classes == label) * (1 - smoothing) + smoothing / classes;
  float p = expf(logits[i] - top[row]) / total[row];
  dlogits[i] = label == ignore_index ? 0 : dlosses[row] * (p - target);
}

// The mean of the losses whose labels count, and their count, by one block of kThreads.
extern "C" __global__ void mean_over_labels(const float* losses, const long long* labels,
                                            float* mean, float* count, int rows,
                                            long long ignore_index) {
  __shared__ double sums[kThreads / kWarp], counts[kThreads / kWarp];
  double sum = 0, counted = 0;
  for (int i = threadIdx.x; i < rows; i += kThreads) {
    sum += losses[i];
    counted += labels[i] != ignore_index;
  }
  sum = warp_sum(sum), counted = warp_sum(counted);
  int warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) sums[warp] = sum, counts[warp] = counted;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kThreads / kWarp; i++) sum += sums[i], counted += counts[i];
  *mean = static_cast<float>(sum / counted);
  *count = static_cast<float>(counted);
}
