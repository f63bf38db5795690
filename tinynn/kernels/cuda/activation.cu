// Activations, their gradients and dropout: one thread for each element.
#include "device.cuh"

#define ELEMENT(n)                                       \
  int i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= n) return

__device__ __forceinline__ float sigmoid_of(float x) {  // exp only ever sees -|x|
  float e = expf(-fabsf(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}

extern "C" __global__ void relu_grad(const float* dy, const float* y, float* dx, int n) {
  ELEMENT(n);
  dx[i] = dy[i] * (y[i] > 0);
}

extern "C" __global__ void sigmoid(const float* x, float* y, int n) {
  ELEMENT(n);
  y[i] = sigmoid_of(x[i]);
}

extern "C" __global__ void sigmoid_grad(const float* dy, const float* y, float* dx, int n) {
  ELEMENT(n);
  dx[i] = dy[i] * y[i] * (1 - y[i]);
}

extern "C" __global__ void tanh_grad(const float* dy, const float* y, float* dx, int n) {
  ELEMENT(n);
  dx[i] = dy[i] * (1 - y[i] * y[i]);
}

extern "C" __global__ void silu(const float* x, float* y, int n) {
  ELEMENT(n);
  y[i] = x[i] * sigmoid_of(x[i]);
}

extern "C" __global__ void silu_grad(const float* dy, const float* x, float* dx, int n) {
  ELEMENT(n);
  float s = sigmoid_of(x[i]);
  dx[i] = dy[i] * s * (1 + x[i] * (1 - s));
}

// gelu(x) = x Phi(x), exactly or by its approximation with tanh.
constexpr float kSlope = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float kCubic = 0.044715f;

extern "C" __global__ void gelu(const float* x, float* y, int n, int approximate) {
  ELEMENT(n);
  float v = x[i];
  float twice_phi = approximate ? 1 + tanhf(kSlope * (v + kCubic * v * v * v))
                                : erfcf(-v * 0.7071067811865476f);  // 1 + erf, without its loss
  y[i] = 0.5f * v * twice_phi;
}

extern "C" __global__ void gelu_grad(const float* dy, const float* x, float* dx, int n,
                                     int approximate) {
  ELEMENT(n);
  float v = x[i];
  if (approximate) {
    float t = tanhf(kSlope * (v + kCubic * v * v * v));
    float slope = kSlope * (1 + 3 * kCubic * v * v);
    dx[i] = dy[i] * (0.5f * (1 + t) + 0.5f * v * (1 - t * t) * slope);
  } else {
    float density = expf(-0.5f * v * v) * 0.3989422804014327f;  // 1 / sqrt(2 pi)
    dx[i] = dy[i] * (0.5f * erfcf(-v * 0.7071067811865476f) + v * density);
  }
}

// An element falls if its bits are below `threshold`; one number of 16 bits for `each` elements.
extern "C" __global__ void dropout(const float* x, const unsigned short* bits, float* y, int n,
                                   int each, int threshold, float scale) {
  ELEMENT(n);
  y[i] = bits[i / each] < threshold ? 0 : x[i] * scale;
}
