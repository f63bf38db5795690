// Softmax, its logarithm and layer normalisation of the rows of (M, D): one warp for each row, its
// lanes side by side along the row. Sums run in float64 where numbers may cancel.
#include "device.cuh"

constexpr int kWarp = 32;

#define ROW                                                            \
  int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x; \
  if (row >= rows) return; /* a whole warp */                          \
  long long begin = static_cast<long long>(row) * d

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int mask = kWarp / 2; mask; mask /= 2) x += __shfl_xor_sync(~0u, x, mask);
  return x;
}

// The sum over the row of a term for each of its elements.
template <class Term>
__device__ __forceinline__ double sum_row(int d, Term term) {
  double sum = 0;
  for (int i = threadIdx.x; i < d; i += kWarp) sum += term(i);
  return warp_sum(sum);
}

// softmax(x) or log_softmax(x); exp only ever sees numbers up to 0.
extern "C" __global__ void softmax(const float* x, float* y, int rows, int d, int logarithm) {
  ROW;
  x += begin;
  y += begin;
  float largest = -INFINITY;
  for (int i = lane; i < d; i += kWarp) largest = fmaxf(largest, x[i]);
  for (int mask = kWarp / 2; mask; mask /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, mask));
  float sum = sum_row(d, [=](int i) { return expf(x[i] - largest); });
  float log_sum = logf(sum);
  for (int i = lane; i < d; i += kWarp)
    y[i] = logarithm ? x[i] - largest - log_sum : expf(x[i] - largest) / sum;
}

// Of softmax: y (dy - sum(dy y)). Of its logarithm: dy - exp(y) sum(dy).
extern "C" __global__ void softmax_grad(const float* dy, const float* y, float* dx, int rows, int d,
                                        int logarithm) {
  ROW;
  dy += begin;
  y += begin;
  float sum = sum_row(d, [=](int i) { return static_cast<double>(dy[i]) * (logarithm ? 1 : y[i]); });
  for (int i = lane; i < d; i += kWarp)
    dx[begin + i] = logarithm ? dy[i] - expf(y[i]) * sum : y[i] * (dy[i] - sum);
}

// y = weight (x - mean) rstd + bias; mean and rstd (M, 1) for the gradient.
extern "C" __global__ void layer_norm(const float* x, const float* weight, const float* bias,
                                      float* y, float* mean, float* rstd, int rows, int d,
                                      float eps) {
  ROW;
  x += begin;
  double m = sum_row(d, [=](int i) { return x[i]; }) / d;
  double var = sum_row(d, [=](int i) { return (x[i] - m) * (x[i] - m); }) / d;
  float middle = static_cast<float>(m), r = static_cast<float>(1 / sqrt(var + eps));
  for (int i = lane; i < d; i += kWarp)
    y[begin + i] = static_cast<float>(x[i] - m) * r * weight[i] + bias[i];
  if (lane > 0) return;
  mean[row] = middle;
  rstd[row] = r;
}

// dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), dxhat = dy weight.
extern "C" __global__ void layer_norm_grad(const float* dy, const float* x, const float* weight,
                                           const float* mean, const float* rstd, float* dx,
                                           int rows, int d) {
  ROW;
  dy += begin;
  x += begin;
  float m = mean[row], r = rstd[row];
  float a = sum_row(d, [=](int i) { return static_cast<double>(dy[i]) * weight[i]; }) / d;
  float b = sum_row(d, [=](int i) {
              return static_cast<double>(dy[i]) * weight[i] * ((x[i] - m) * r);
            }) / d;
  for (int i = lane; i < d; i += kWarp)
    dx[begin + i] = r * (dy[i] * weight[i] - a - (x[i] - m) * r * b);
}
