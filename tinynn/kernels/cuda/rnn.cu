// The plain recurrence and its gradient: one block for each sample, whose steps follow one another.
// What goes from step to step lies in shared memory, so a whole sequence is one launch.
//
// Legend: x, y, dx, dy (T, N, H), h, dh (N, H), w (H, H).
#include "device.cuh"

constexpr int kWarp = 32;

// y[t] = f(x[t] + y[t-1] w^T), f the ReLU or tanh. A warp sums one unit at a time, along a row of w.
extern "C" __global__ void rnn(const float* x, const float* h, const float* w, float* y, int steps,
                               int samples, int hidden, int relu) {
  DYNAMIC_SHARED(float, states);  // [2][H]: before a step and after it
  int n = blockIdx.x, lane = threadIdx.x % kWarp;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) states[i] = h[n * hidden + i];
  for (int t = 0; t < steps; t++) {
    const float* before = states + t % 2 * hidden;
    float* after = states + (t + 1) % 2 * hidden;
    int begin = (t * samples + n) * hidden;
    __syncthreads();  // the step before is done
    for (int unit = threadIdx.x / kWarp; unit < hidden; unit += blockDim.x / kWarp) {
      float sum = 0;
      for (int i = lane; i < hidden; i += kWarp) sum += before[i] * w[unit * hidden + i];
      for (int mask = kWarp / 2; mask; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
      if (lane > 0) continue;
      float a = x[begin + unit] + sum;
      y[begin + unit] = after[unit] = !relu ? tanhf(a) : a <= 0 ? 0 : a;  // a NaN stays one
    }
  }
}

// dx[t] = (dy[t] + dx[t+1] w) f'(y[t]); dh = dx[0] w. Each thread sums units of its own, and all of
// a warp read side by side.
extern "C" __global__ void rnn_grad(const float* dy, const float* y, const float* w, float* dx,
                                    float* dh, int steps, int samples, int hidden, int relu) {
  DYNAMIC_SHARED(float, slopes);  // [H]: dx of this step
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
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
      float sum = 0;
      for (int unit = 0; unit < hidden; unit++) sum += slopes[unit] * w[unit * hidden + i];
      from_next[i] = sum;
    }
    __syncthreads();  // before the slopes are overwritten
  }
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) dh[n * hidden + i] = from_next[i];
}
