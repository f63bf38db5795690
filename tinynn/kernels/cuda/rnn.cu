// Recurrences and their gradients: one block for each sample, whose steps follow one another. What
// goes from step to step lies in shared memory, so a whole sequence is one launch. Formulas:
// reference_rnn.py.
//
// Legend: T steps, N samples, H hidden units; h, dh, c, dc (N, H). Of the plain recurrence x, y, dx,
// dy (T, N, H), w (H, H); of G gates x, dx (T, N, G H), w (G H, H).
#include "device.cuh"

constexpr int kWarp = 32;

__device__ __forceinline__ float sigmoid(float x) {  // exp only ever sees -|x|
  float e = expf(-fabsf(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}

// For each unit of a block its `gates` sums over h w^T, by a warp: along the rows of w that are H
// apart. The first lane takes them.
template <int gates, class Take>
__device__ __forceinline__ void each_unit(const float* h, const float* w, int hidden, Take take) {
  int lane = threadIdx.x % kWarp;
  for (int unit = threadIdx.x / kWarp; unit < hidden; unit += blockDim.x / kWarp) {
    float sums[gates] = {};
    for (int i = lane; i < hidden; i += kWarp)
      for (int gate = 0; gate < gates; gate++)
        sums[gate] += h[i] * w[(gate * hidden + unit) * hidden + i];
    for (int gate = 0; gate < gates; gate++)
      for (int mask = kWarp / 2; mask; mask /= 2)
        sums[gate] += __shfl_xor_sync(~0u, sums[gate], mask);
    if (lane == 0) take(unit, sums);
  }
}

// du w, of which each thread sums units of its own, and all of a warp read side by side.
template <class Take>
__device__ __forceinline__ void each_sum(const float* du, const float* w, int rows, int hidden,
                                         Take take) {
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    float sum = 0;
#pragma unroll 16  // reads are on their way together
    for (int row = 0; row < rows; row++) sum += du[row] * w[row * hidden + i];
    take(i, sum);
  }
}

// y[t] = f(x[t] + y[t-1] w^T), f the ReLU or tanh.
extern "C" __global__ void rnn(const float* x, const float* h, const float* w, float* y, int steps,
                               int samples, int hidden, int relu) {
  DYNAMIC_SHARED(float, states);  // [2][H]: before a step and after it
  int n = blockIdx.x;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) states[i] = h[n * hidden + i];
  for (int t = 0; t < steps; t++) {
    float* after = states + (t + 1) % 2 * hidden;
    int begin = (t * samples + n) * hidden;
    __syncthreads();  // the step before is done
    each_unit<1>(states + t % 2 * hidden, w, hidden, [=](int unit, const float* sum) {
      float a = x[begin + unit] + sum[0];
      y[begin + unit] = after[unit] = !relu ? tanhf(a) : a <= 0 ? 0 : a;  // a NaN stays one
    });
  }
}

// dx[t] = (dy[t] + dx[t+1] w) f'(y[t]); dh = dx[0] w.
extern "C" __global__ void rnn_grad(const float* dy, const float* y, const float* w, float* dx,
                                    float* dh, int steps, int samples, int hidden, int relu) {
  DYNAMIC_SHARED(float, slopes);       // [H]: dx of this step
  float* from_next = slopes + hidden;  // [H]: each thread's own units
  int n = blockIdx.x;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) from_next[i] = 0;
  for (int t = steps - 1; t >= 0; t--) {
    int begin = (t * samples + n) * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
      float v = y[begin + i], slope = !relu ? 1 - v * v : v > 0;
      dx[begin + i] = slopes[i] = (dy[begin + i] + from_next[i]) * slope;
    }
    __syncthreads();
    each_sum(slopes, w, hidden, hidden, [=](int i, float sum) { from_next[i] = sum; });
    __syncthreads();  // before the slopes are overwritten
  }
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) dh[n * hidden + i] = from_next[i];
}

// y (2, T, N, H): all h, then all c; gates (T, N, 4 H): i, f, g, o.
extern "C" __global__ void lstm(const float* x, const float* h, const float* c, const float* w,
                                float* y, float* gates, int steps, int samples, int hidden) {
  DYNAMIC_SHARED(float, states);     // [2][H]: h before a step and after it
  float* cell = states + 2 * hidden;  // [H]: c, each unit's with the lane that takes its sums
  int n = blockIdx.x;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    states[i] = h[n * hidden + i];
    cell[i] = c[n * hidden + i];
  }
  for (int t = 0; t < steps; t++) {
    float* after = states + (t + 1) % 2 * hidden;
    int sample = t * samples + n;
    float *h_of = y + sample * hidden, *c_of = h_of + steps * samples * hidden;
    float* kept = gates + sample * 4 * hidden;
    const float* a = x + sample * 4 * hidden;
    __syncthreads();  // the step before is done
    each_unit<4>(states + t % 2 * hidden, w, hidden, [=](int unit, const float* u) {
      float i = sigmoid(a[unit] + u[0]), f = sigmoid(a[hidden + unit] + u[1]);
      float g = tanhf(a[2 * hidden + unit] + u[2]), o = sigmoid(a[3 * hidden + unit] + u[3]);
      kept[unit] = i, kept[hidden + unit] = f, kept[2 * hidden + unit] = g;
      kept[3 * hidden + unit] = o;
      c_of[unit] = cell[unit] = f * cell[unit] + i * g;
      h_of[unit] = after[unit] = o * tanhf(cell[unit]);
    });
  }
}

extern "C" __global__ void lstm_grad(const float* dy, const float* y, const float* gates,
                                     const float* c, const float* w, float* dx, float* dh,
                                     float* dc, int steps, int samples, int hidden) {
  DYNAMIC_SHARED(float, slopes);           // [4][H]: dx of this step
  float* from_next = slopes + 4 * hidden;  // [H]: of h, each thread's own units
  float* carried = from_next + hidden;     // [H]: of c, likewise
  int n = blockIdx.x, states = steps * samples * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) from_next[i] = carried[i] = 0;
  for (int t = steps - 1; t >= 0; t--) {
    int begin = (t * samples + n) * hidden;
    const float *c_of = y + states + begin, *before = t ? c_of - samples * hidden : c + n * hidden;
    const float* gate = gates + 4 * begin;
    for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      float i = gate[unit], f = gate[hidden + unit];
      float g = gate[2 * hidden + unit], o = gate[3 * hidden + unit];
      float s = tanhf(c_of[unit]), to_h = dy[begin + unit] + from_next[unit];
      float to_c = dy[states + begin + unit] + carried[unit] + to_h * o * (1 - s * s);
      float da[] = {to_c * g * i * (1 - i), to_c * before[unit] * f * (1 - f),
                    to_c * i * (1 - g * g), to_h * s * o * (1 - o)};
      for (int k = 0; k < 4; k++)
        dx[4 * begin + k * hidden + unit] = slopes[k * hidden + unit] = da[k];
      carried[unit] = to_c * f;
    }
    __syncthreads();
    each_sum(slopes, w, 4 * hidden, hidden, [=](int i, float sum) { from_next[i] = sum; });
    __syncthreads();  // before the slopes are overwritten
  }
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
    dh[n * hidden + i] = from_next[i];
    dc[n * hidden + i] = carried[i];
  }
}

// b (3 H); gates (T, N, 4 H): r, z, n and u_n.
extern "C" __global__ void gru(const float* x, const float* h, const float* w, const float* b,
                               float* y, float* gates, int steps, int samples, int hidden) {
  DYNAMIC_SHARED(float, states);  // [2][H]: before a step and after it
  int n = blockIdx.x;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) states[i] = h[n * hidden + i];
  for (int t = 0; t < steps; t++) {
    const float* before = states + t % 2 * hidden;
    float* after = states + (t + 1) % 2 * hidden;
    long long sample = t * samples + n;  // the gates are more than the numbers of x
    const float* a = x + sample * 3 * hidden;
    float *kept = gates + sample * 4 * hidden, *h_of = y + sample * hidden;
    __syncthreads();  // the step before is done
    each_unit<3>(before, w, hidden, [=](int unit, const float* sums) {
      float u_n = sums[2] + b[2 * hidden + unit];
      float r = sigmoid(a[unit] + (sums[0] + b[unit]));
      float z = sigmoid(a[hidden + unit] + (sums[1] + b[hidden + unit]));
      float candidate = tanhf(a[2 * hidden + unit] + r * u_n);
      kept[unit] = r, kept[hidden + unit] = z, kept[2 * hidden + unit] = candidate;
      kept[3 * hidden + unit] = u_n;
      h_of[unit] = after[unit] = candidate + z * (before[unit] - candidate);
    });
  }
}

extern "C" __global__ void gru_grad(const float* dy, const float* y, const float* gates,
                                    const float* h, const float* w, float* dx, float* du,
                                    float* dh, int steps, int samples, int hidden) {
  DYNAMIC_SHARED(float, slopes);           // [3][H]: du of this step
  float* from_next = slopes + 3 * hidden;  // [H]: each thread's own units
  int n = blockIdx.x;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) from_next[i] = 0;
  for (int t = steps - 1; t >= 0; t--) {
    int begin = (t * samples + n) * hidden;
    const float* gate = gates + 4 * begin;
    const float* before = t ? y + begin - samples * hidden : h + n * hidden;
    for (int unit = threadIdx.x; unit < hidden; unit += blockDim.x) {
      float r = gate[unit], z = gate[hidden + unit];
      float candidate = gate[2 * hidden + unit], u_n = gate[3 * hidden + unit];
      float to_h = dy[begin + unit] + from_next[unit];
      float dn = to_h * (1 - z) * (1 - candidate * candidate);
      float dr = dn * u_n * r * (1 - r), dz = to_h * (before[unit] - candidate) * z * (1 - z);
      float da[] = {dr, dz, dn}, of_u[] = {dr, dz, dn * r};
      for (int k = 0; k < 3; k++) {
        dx[3 * begin + k * hidden + unit] = da[k];
        du[3 * begin + k * hidden + unit] = slopes[k * hidden + unit] = of_u[k];
      }
      from_next[unit] = to_h * z;  // and what comes through du
    }
    __syncthreads();
    each_sum(slopes, w, 3 * hidden, hidden, [=](int i, float sum) { from_next[i] += sum; });
    __syncthreads();  // before the slopes are overwritten
  }
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) dh[n * hidden + i] = from_next[i];
}
