// Batch normalisation of (M, C), fused with an addition and a ReLU, and sums over columns.
//
// Sums run in float64, as the reference's do: the passes wait for memory, not for arithmetic. Each
// slice of the rows is summed by one block, and the slices in their order: the same bits each time.
#include "device.cuh"

constexpr int kColumns = 32, kRows = 8;  // of a block's threads

// partial[slice][i][c] = sum over the slice's rows of the i-th of `count` terms.
template <int count, class Terms>
__device__ __forceinline__ void sum_columns(double* partial, int rows, int channels, Terms terms) {
  DYNAMIC_SHARED(double, sums);  // [count][kRows][kColumns]
  int c = blockIdx.x * kColumns + threadIdx.x;
  int slice = (rows + gridDim.y - 1) / gridDim.y;
  int begin = blockIdx.y * slice, end = min(rows, begin + slice);
  double own[count] = {};
  if (c < channels)
    for (int row = begin + threadIdx.y; row < end; row += kRows) {
      double values[count];
      terms(row * channels + c, c, values);
      for (int i = 0; i < count; i++) own[i] += values[i];
    }
  for (int i = 0; i < count; i++) sums[(i * kRows + threadIdx.y) * kColumns + threadIdx.x] = own[i];
  __syncthreads();
  if (threadIdx.y > 0 || c >= channels) return;
  for (int i = 0; i < count; i++) {
    double total = 0;
    for (int row = 0; row < kRows; row++)
      total += sums[(i * kRows + row) * kColumns + threadIdx.x];
    partial[(blockIdx.y * count + i) * channels + c] = total;
  }
}

__device__ __forceinline__ double sum_slices(const double* partial, int slices, int stride) {
  double total = 0;
  for (int slice = 0; slice < slices; slice++) total += partial[slice * stride];
  return total;
}

#define CHANNEL(channels)                                \
  int c = blockIdx.x * blockDim.x + threadIdx.x; \
  if (c >= channels) return

extern "C" __global__ void column_sums(const float* dy, double* partial, int rows, int channels) {
  sum_columns<1>(partial, rows, channels, [=](int i, int, double* values) { values[0] = dy[i]; });
}

extern "C" __global__ void finish_column_sums(const double* partial, float* sums, int slices,
                                              int channels) {
  CHANNEL(channels);
  sums[c] = static_cast<float>(sum_slices(partial + c, slices, channels));
}

extern "C" __global__ void statistics(const float* x, double* partial, int rows, int channels) {
  sum_columns<2>(partial, rows, channels, [=](int i, int, double* values) {
    values[0] = x[i];
    values[1] = values[0] * values[0];  // exact in float64
  });
}

extern "C" __global__ void finish_statistics(const double* partial, float* mean, float* var,
                                             int slices, int rows, int channels) {
  CHANNEL(channels);
  double average = sum_slices(partial + c, slices, 2 * channels) / rows;
  double square = sum_slices(partial + channels + c, slices, 2 * channels) / rows;
  double variance = square - average * average;
  mean[c] = static_cast<float>(average);
  var[c] = static_cast<float>(variance < 0 ? 0 : variance);  // a NaN stays one
}

extern "C" __global__ void update_running_statistics(float* running_mean, float* running_var,
                                                     const float* mean, const float* var,
                                                     int channels, float momentum, float unbias) {
  CHANNEL(channels);
  running_mean[c] += momentum * (mean[c] - running_mean[c]);
  running_var[c] += momentum * (var[c] * unbias - running_var[c]);
}

extern "C" __global__ void normalize(const float* x, const float* weight, const float* bias,
                                     const float* mean, const float* var, const float* residual,
                                     float* y, int n, int channels, float eps, int relu,
                                     int has_residual) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int c = i % channels;
  float v = (x[i] - mean[c]) * (weight[c] / sqrtf(var[c] + eps)) + bias[c];
  if (has_residual) v += residual[i];
  y[i] = relu && v <= 0 ? 0 : v;  // a NaN stays one
}

// partial sums of dz, the gradient before the ReLU, and of dz xhat.
extern "C" __global__ void gradient_sums(const float* dy, const float* x, const float* y,
                                         const float* mean, const float* var, double* partial,
                                         int rows, int channels, float eps, int relu) {
  sum_columns<2>(partial, rows, channels, [=](int i, int c, double* values) {
    float dz = relu ? dy[i] * (y[i] > 0) : dy[i];
    values[0] = dz;
    values[1] = dz * ((x[i] - mean[c]) / sqrtf(var[c] + eps));
  });
}

// The same for layer normalisation, whose mean and rstd are each row's.
extern "C" __global__ void layer_norm_sums(const float* dy, const float* x, const float* mean,
                                           const float* rstd, double* partial, int rows,
                                           int channels) {
  sum_columns<2>(partial, rows, channels, [=](int i, int, double* values) {
    int row = i / channels;
    values[0] = dy[i];
    values[1] = values[0] * ((x[i] - mean[row]) * rstd[row]);
  });
}

extern "C" __global__ void finish_gradient_sums(const double* partial, float* dweight, float* dbias,
                                                int slices, int channels) {
  CHANNEL(channels);
  dbias[c] = static_cast<float>(sum_slices(partial + c, slices, 2 * channels));
  dweight[c] = static_cast<float>(sum_slices(partial + channels + c, slices, 2 * channels));
}

extern "C" __global__ void normalize_grad(const float* dy, const float* x, const float* y,
                                          const float* weight, const float* mean, const float* var,
                                          const float* dweight, const float* dbias, float* dx,
                                          float* dresidual, int n, int rows, int channels,
                                          float eps, int relu, int training, int needs_residual) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int c = i % channels;
  float rstd = 1 / sqrtf(var[c] + eps), dz = relu ? dy[i] * (y[i] > 0) : dy[i];
  float inner = dz;
  if (training) inner -= dbias[c] / rows + (x[i] - mean[c]) * rstd * (dweight[c] / rows);
  dx[i] = weight[c] * rstd * inner;
  if (needs_residual) dresidual[i] = dz;
}
