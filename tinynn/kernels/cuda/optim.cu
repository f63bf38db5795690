// Optimisers: one update of flat arrays, in place; one thread for each weight. `lr` and `step` are
// read from device memory, so that a recorded step sees their present values. Formulas: reference.py.
#include "device.cuh"

#define ELEMENT(n)                                       \
  int i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= n) return

extern "C" __global__ void update_sgd(float* w, const float* dw, float* velocity, const double* lr,
                                      const double* step, int n, float momentum, float dampening,
                                      float weight_decay, int nesterov, int has_velocity) {
  ELEMENT(n);
  float g = dw[i] + weight_decay * w[i];
  if (has_velocity) {
    float v = momentum * velocity[i] + (step[0] == 1 ? 1 : 1 - dampening) * g;
    velocity[i] = v;
    g = nesterov ? g + momentum * v : v;
  }
  w[i] -= static_cast<float>(lr[0]) * g;
}

extern "C" __global__ void update_adam(float* w, const float* dw, float* mean, float* square,
                                       const double* lr, const double* step, int n, double beta1,
                                       double beta2, float eps, double weight_decay,
                                       int decoupled) {
  __shared__ float step_size, root;  // a power in float64 takes longer than all else: one a warp
  if (threadIdx.x == 0) step_size = static_cast<float>(lr[0] / (1 - pow(beta1, step[0])));
  if (threadIdx.x == 32) root = static_cast<float>(sqrt(1 - pow(beta2, step[0])));
  __syncthreads();
  ELEMENT(n);
  float g = dw[i], weight = w[i];
  if (decoupled)
    weight *= static_cast<float>(1 - lr[0] * weight_decay);
  else
    g += static_cast<float>(weight_decay) * weight;
  float m = mean[i] + static_cast<float>(1 - beta1) * (g - mean[i]);
  float s = static_cast<float>(beta2) * square[i] + static_cast<float>(1 - beta2) * (g * g);
  mean[i] = m;
  square[i] = s;
  w[i] = weight - step_size * m / (sqrtf(s) / root + eps);
}

extern "C" __global__ void update_rmsprop(float* w, const float* dw, float* square, float* mean,
                                          float* velocity, const double* lr, int n, float alpha,
                                          float one_minus_alpha, float eps, float weight_decay,
                                          float momentum, int centered, int has_velocity) {
  ELEMENT(n);
  float g = dw[i] + weight_decay * w[i];
  float s = alpha * square[i] + one_minus_alpha * (g * g);
  square[i] = s;
  if (centered) {
    float m = mean[i] + one_minus_alpha * (g - mean[i]);
    mean[i] = m;
    s -= m * m;
  }
  g /= sqrtf(s) + eps;
  if (has_velocity) g = velocity[i] = momentum * velocity[i] + g;
  w[i] -= static_cast<float>(lr[0]) * g;
}

extern "C" __global__ void update_adagrad(float* w, const float* dw, float* total,
                                          const double* lr, const double* step, int n,
                                          double lr_decay, float weight_decay, float eps) {
  ELEMENT(n);
  float g = dw[i] + weight_decay * w[i];
  float t = total[i] += g * g;
  w[i] -= static_cast<float>(lr[0] / (1 + (step[0] - 1) * lr_decay)) * g / (sqrtf(t) + eps);
}

extern "C" __global__ void update_adadelta(float* w, const float* dw, float* square, float* delta,
                                           const double* lr, int n, float rho, float one_minus_rho,
                                           float eps, float weight_decay) {
  ELEMENT(n);
  float g = dw[i] + weight_decay * w[i];
  float s = square[i] = rho * square[i] + one_minus_rho * (g * g);
  float d = sqrtf(delta[i] + eps) / sqrtf(s + eps) * g;
  delta[i] = rho * delta[i] + one_minus_rho * (d * d);
  w[i] -= static_cast<float>(lr[0]) * d;
}

extern "C" __global__ void update_average(float* average, const float* x, int n, float share) {
  ELEMENT(n);
  average[i] += share * (x[i] - average[i]);
}
