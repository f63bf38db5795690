// Batch normalisation of (M, C), fused with an addition and a ReLU, and sums over columns.
//
// Sums run in float64, as the reference's do: the passes wait for memory, not for arithmetic. Each
// slice of the rows is summed by one block, and the slices by the one that is done last: always in
// the same order, so that the same bits come each time.
#include "device.cuh"

constexpr int kColumns = 32, kRows = 8;  // of a block's threads
constexpr int kMostArrivals = 2048;      // blocks side by side that may share their rows

__device__ __forceinline__ int column() { return blockIdx.x * kColumns + threadIdx.x; }

// totals[i] = sum of the i-th of `count` terms over some rows, in column(). -> whether this thread
// is the one that has them.
template <int count, class Terms>
__device__ __forceinline__ bool sum_rows(double* totals, int begin, int end, int channels,
                                         Terms terms) {
  DYNAMIC_SHARED(double, sums);  // [count][kRows][kColumns]
  double own[count] = {};
  if (column() < channels) {
#pragma unroll 8  // so many reads are waited for at once
    for (int row = begin + threadIdx.y; row < end; row += kRows) {
      double values[count];
      terms(row, values);
      for (int i = 0; i < count; i++) own[i] += values[i];
    }
  }
  for (int i = 0; i < count; i++) sums[(i * kRows + threadIdx.y) * kColumns + threadIdx.x] = own[i];
  __syncthreads();
  if (threadIdx.y > 0 || column() >= channels) return false;
  for (int i = 0; i < count; i++) {
    totals[i] = 0;
    for (int row = 0; row < kRows; row++)
      totals[i] += sums[(i * kRows + row) * kColumns + threadIdx.x];
  }
  return true;
}

// Whether all other blocks of these columns have written their slices; one block is told so. The
// count is 0 again after each launch, and the launches of a stream follow one another.
__device__ unsigned arrivals[kMostArrivals];
__device__ __forceinline__ bool is_last() {
  __shared__ bool last;
  __threadfence();  // whoever sees the count sees what was written before
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    unsigned others = gridDim.y - 1;
    last = others == 0 || atomicInc(&arrivals[blockIdx.x], others) == others;
    __threadfence();
  }
  __syncthreads();
  return last;
}

// The sums of `count` terms over all rows: end(c, totals) is called once for each channel.
// partial (slices, count, C): what blocks leave to the last of them.
template <int count, class Terms, class End>
__device__ __forceinline__ void sum_columns(double* partial, int rows, int channels, Terms terms,
                                            End end) {
  int c = column(), slices = gridDim.y, slice = (rows + slices - 1) / slices;
  int first = blockIdx.y * slice;
  double totals[count];
  bool has = sum_rows<count>(totals, first, min(rows, first + slice), channels,
                             [=](int row, double* values) {
                               terms(row * channels + c, row, values);
                             });
  for (int i = 0; has && i < count; i++)
    partial[(blockIdx.y * count + i) * channels + c] = totals[i];
  if (!is_last()) return;
  has = sum_rows<count>(totals, 0, slices, channels, [=](int slice, double* values) {
    for (int i = 0; i < count; i++) values[i] = partial[(slice * count + i) * channels + c];
  });
  if (has) end(c, totals);
}

extern "C" __global__ void column_sums(const float* dy, double* partial, float* sums, int rows,
                                       int channels) {
  sum_columns<1>(
      partial, rows, channels, [=](int i, int, double* values) { values[0] = dy[i]; },
      [=](int c, const double* totals) { sums[c] = static_cast<float>(totals[0]); });
}

extern "C" __global__ void statistics(const float* x, double* partial, float* mean, float* var,
                                      int rows, int channels) {
  auto terms = [=](int i, int, double* values) {
    values[0] = x[i];
    values[1] = values[0] * values[0];  // exact in float64
  };
  sum_columns<2>(partial, rows, channels, terms, [=](int c, const double* totals) {
    double average = totals[0] / rows, variance = totals[1] / rows - average * average;
    mean[c] = static_cast<float>(average);
    var[c] = static_cast<float>(variance < 0 ? 0 : variance);  // a NaN stays one
  });
}

extern "C" __global__ void update_running_statistics(float* running_mean, float* running_var,
                                                     const float* mean, const float* var,
                                                     long long* batches, int channels,
                                                     float momentum, float unbias) {
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  if (c == 0) *batches += 1;
  running_mean[c] += momentum * (mean[c] - running_mean[c]);
  running_var[c] += momentum * (var[c] * unbias - running_var[c]);
}

// Each thread has kEach elements of one channel c, `stride` apart: what is the channel's is computed
// once, and all elements are read before one is needed.
constexpr int kEach = 8;
#define OF_ONE_CHANNEL                                    \
  unsigned first = blockIdx.x * blockDim.x + threadIdx.x; \
  if (first >= stride) return;                            \
  int c = first % channels

template <class Do>
__device__ __forceinline__ void for_each(unsigned first, unsigned stride, unsigned n, Do act) {
#pragma unroll
  for (int k = 0; k < kEach; k++)
    if (first + k * stride < n) act(k, first + k * stride);
}

// Of one channel, forward and backward alike: where the ReLU was open follows from x again.
struct Norm {
  float middle, rstd, scale, shift;
  __device__ __forceinline__ Norm(const float* weight, const float* bias, const float* mean,
                                  const float* var, int c, float eps)
      : middle(mean[c]), rstd(1 / sqrtf(var[c] + eps)), scale(weight[c] * rstd), shift(bias[c]) {}
  __device__ __forceinline__ float operator()(float x) const {
    return fmaf(x - middle, scale, shift);
  }
};

extern "C" __global__ void normalize(const float* x, const float* weight, const float* bias,
                                     const float* mean, const float* var, const float* residual,
                                     float* y, int n, int stride, int channels, float eps, int relu,
                                     int has_residual) {
  OF_ONE_CHANNEL;
  float v[kEach], added[kEach] = {};
  for_each(first, stride, n, [&](int k, int i) {
    v[k] = x[i];
    if (has_residual) added[k] = residual[i];
  });
  Norm norm(weight, bias, mean, var, c, eps);
  for_each(first, stride, n, [&](int k, int i) {
    float sum = norm(v[k]) + added[k];
    y[i] = relu && sum <= 0 ? 0 : sum;  // a NaN stays one
  });
}

// Sums of dz, the gradient before the ReLU, and of dz xhat.
extern "C" __global__ void gradient_sums(const float* dy, const float* x, const float* y,
                                         const float* weight, const float* bias,
                                         const float* mean, const float* var, double* partial,
                                         float* dweight, float* dbias, int rows, int channels,
                                         float eps, int relu, int has_y) {
  Norm norm(weight, bias, mean, var, min(column(), channels - 1), eps);
  auto terms = [=](int i, int, double* values) {
    float v = x[i], dz = dy[i];
    if (relu) dz *= (has_y ? y[i] : norm(v)) > 0;
    values[0] = dz;
    values[1] = dz * ((v - norm.middle) * norm.rstd);
  };
  sum_columns<2>(partial, rows, channels, terms, [=](int c, const double* totals) {
    dbias[c] = static_cast<float>(totals[0]);
    dweight[c] = static_cast<float>(totals[1]);
  });
}

// The same for layer normalisation, whose mean and rstd are each row's.
extern "C" __global__ void layer_norm_sums(const float* dy, const float* x, const float* mean,
                                           const float* rstd, double* partial, float* dweight,
                                           float* dbias, int rows, int channels) {
  auto terms = [=](int i, int row, double* values) {
    values[0] = dy[i];
    values[1] = values[0] * ((x[i] - mean[row]) * rstd[row]);
  };
  sum_columns<2>(partial, rows, channels, terms, [=](int c, const double* totals) {
    dbias[c] = static_cast<float>(totals[0]);
    dweight[c] = static_cast<float>(totals[1]);
  });
}

extern "C" __global__ void normalize_grad(const float* dy, const float* x, const float* y,
                                          const float* weight, const float* bias,
                                          const float* mean, const float* var,
                                          const float* dweight, const float* dbias, float* dx,
                                          float* dresidual, int n, int stride, int rows,
                                          int channels, float eps, int relu, int has_y,
                                          int training, int needs_residual) {
  OF_ONE_CHANNEL;
  float dz[kEach], v[kEach], output[kEach];
  for_each(first, stride, n, [&](int k, int i) {
    dz[k] = dy[i];
    v[k] = x[i];
    output[k] = relu && has_y ? y[i] : 1;
  });
  Norm norm(weight, bias, mean, var, c, eps);
  float average = dbias[c] / rows, slope = dweight[c] / rows;
  for_each(first, stride, n, [&](int k, int i) {
    float d = dz[k] * ((relu && !has_y ? norm(v[k]) : output[k]) > 0), inner = d;
    if (training) inner -= average + (v[k] - norm.middle) * norm.rstd * slope;
    dx[i] = norm.scale * inner;
    if (needs_residual) dresidual[i] = d;
  });
}
