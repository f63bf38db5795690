// Images of another size, one axis at a time.
#include "device.cuh"

// y[a, i, b] = sum over j of shares[i, j] x[a, j, b]: one thread for each of the n elements of y;
// `size` pixels along the axis become `out`, `inner` numbers lie behind each.
extern "C" __global__ void mix(const float* x, const float* shares, float* y, int n, int size,
                               int out, int inner) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  x += i / inner / out * size * inner + i % inner;
  shares += i / inner % out * size;
  float sum = 0;
  for (int j = 0; j < size; j++) sum += shares[j] * x[j * inner];
  y[i] = sum;
}
