// The CTC loss and its gradient: one block for each sample, one thread for each of its states, and
// the steps one after the other. The walk is in float64. Words and formulas: reference_ctc.py.
//
// log_probs, dx (T, N, C); targets (N, S); losses, dlosses (N,); alpha (T, N, W), W = 2 S + 1.
#include "device.cuh"

#define SIZES int steps, int samples, int signs, int labels, int blank

// log(exp a + exp b + exp c); a NaN stays one.
__device__ __forceinline__ double log_sum(double a, double b, double c) {
  double top = fmax(a, fmax(b, c));
  if (top == -INFINITY) return a + b + c;
  return top + log(exp(a - top) + exp(b - top) + exp(c - top));
}

struct Labelling {  // of one sample
  const long long* targets;
  int blank;

  __device__ int sign(int s) const { return s % 2 ? static_cast<int>(targets[s / 2]) : blank; }
  // Whether the way from state s - 2 to state s is open.
  __device__ bool skips(int s) const { return s % 2 && s > 2 && sign(s) != sign(s - 2); }
};

extern "C" __global__ void ctc_loss(const float* log_probs, const long long* targets,
                                    const long long* input_lengths,
                                    const long long* target_lengths, float* losses, float* alpha,
                                    SIZES) {
  DYNAMIC_SHARED(double, walks);  // [2][W]: two steps in turn
  int n = blockIdx.x, width = 2 * labels + 1;
  int last = static_cast<int>(input_lengths[n]) - 1;
  int end = 2 * static_cast<int>(target_lengths[n]);
  Labelling labelling = {targets + static_cast<long long>(n) * labels, blank};
  if (threadIdx.x == 0 && last < 0) losses[n] = end ? INFINITY : 0;  // without a step
  for (int t = 0; t < steps; t++) {
    const double* before = walks + (t + 1) % 2 * width;
    double* now = walks + t % 2 * width;
    const float* x = log_probs + (t * samples + n) * signs;
    for (int s = threadIdx.x; s < width; s += blockDim.x) {
      double ways = s < 2 ? 0 : -INFINITY;
      if (t > 0)
        ways = log_sum(before[s], s > 0 ? before[s - 1] : -INFINITY,
                       labelling.skips(s) ? before[s - 2] : -INFINITY);
      now[s] = x[labelling.sign(s)] + ways;
      alpha[(t * samples + n) * width + s] = static_cast<float>(now[s]);
    }
    __syncthreads();
    if (threadIdx.x == 0 && t == last)
      losses[n] = static_cast<float>(
          -log_sum(now[end], end ? now[end - 1] : -INFINITY, -INFINITY));
  }
}

extern "C" __global__ void ctc_loss_grad(const float* dlosses, const float* log_probs,
                                         const long long* targets, const long long* input_lengths,
                                         const long long* target_lengths, const float* losses,
                                         const float* alpha, float* dx, SIZES) {
  DYNAMIC_SHARED(double, walks);  // [2][W]: beta of two steps in turn
  int n = blockIdx.x, width = 2 * labels + 1;
  double* occupied = walks + 2 * width;  // [W]: the probability of each state
  int last = static_cast<int>(input_lengths[n]) - 1;
  int end = 2 * static_cast<int>(target_lengths[n]);
  Labelling labelling = {targets + static_cast<long long>(n) * labels, blank};
  float loss = losses[n];
  for (int t = steps - 1; t >= 0; t--) {
    int row = t * samples + n;
    if (t > last || loss == INFINITY) {  // the whole block
      for (int c = threadIdx.x; c < signs; c += blockDim.x)
        dx[row * signs + c] = loss == INFINITY ? loss - loss : 0;  // NaN
      continue;
    }
    const double* after = walks + (t + 1) % 2 * width;
    double* now = walks + t % 2 * width;
    const float* x = log_probs + (row + samples) * signs;  // of the step after
    for (int s = threadIdx.x; s < width; s += blockDim.x) {
      if (t == last) {
        now[s] = s == end || s == end - 1 ? 0 : -INFINITY;
      } else {
        double ways[3];  // from here to the states s, s + 1 and s + 2
        for (int i = 0; i < 3; i++) {
          bool open = s + i < width && (i < 2 || labelling.skips(s + i));
          ways[i] = open ? after[s + i] + x[labelling.sign(s + i)] : -INFINITY;
        }
        now[s] = log_sum(ways[0], ways[1], ways[2]);
      }
      occupied[s] = exp(alpha[row * width + s] + now[s] + loss);
    }
    __syncthreads();
    for (int c = threadIdx.x; c < signs; c += blockDim.x) {
      double seen = 0;
      for (int s = 0; s < width; s++)
        if (labelling.sign(s) == c) seen += occupied[s];
      dx[row * signs + c] = static_cast<float>(-dlosses[n] * seen);
    }
    __syncthreads();  // before they are overwritten
  }
}
