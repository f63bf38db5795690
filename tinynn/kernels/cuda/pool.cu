// Pooling: one thread for each output forward, for each input pixel backward. A pixel gathers from
// the windows that cover it, in their order, so no two threads write to one address.
#include "device.cuh"

struct Position {  // of element i in an (N, H, W, C) array
  int n, h, w, c;
};
__device__ __forceinline__ Position position(int i, int h, int w, int c) {
  return {i / c / w / h, i / c / w % h, i / c % w, i % c};
}

// The windows that a pixel lies in along one axis, taps and gaps between them: a few, whatever the
// taps' number. `at` counts from where the first window begins, as it does below.
struct Windows {
  int begin, end;
};
__device__ __forceinline__ Windows windows(int at, int kernel, int stride, int dilation,
                                           int count) {
  int before = at - dilation * (kernel - 1);  // a window that begins here has it under its last tap
  return {before > 0 ? (before + stride - 1) / stride : 0, min(at / stride + 1, count)};
}

// The window's tap that sees the pixel, or -1 for a gap.
__device__ __forceinline__ int tap_of(int window, int at, int stride, int dilation) {
  int offset = at - window * stride;
  if (dilation == 1) return offset;  // nearly always: a division less
  return offset % dilation ? -1 : offset / dilation;
}

// Pixels that a window is averaged over along one axis, as reference.pool_divisor counts them.
__device__ __forceinline__ int pixels(int window, int size, int kernel, int stride, int padding,
                                      int count_pad) {
  int begin = window * stride - padding, end = min(begin + kernel, size + padding);
  return count_pad ? max(end - begin, 0) : max(min(end, size) - max(begin, 0), 0);
}

#define ELEMENT(n)                                       \
  int i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= n) return

extern "C" __global__ void max_pool2d(const float* x, float* y, unsigned char* tap, int n, int h,
                                      int w, int c, int oh, int ow, int kh, int kw, int sh, int sw,
                                      int ph, int pw, int dh, int dw) {
  ELEMENT(n);
  Position at = position(i, oh, ow, c);
  float best = -INFINITY;
  int winner = 0;
  for (int a = 0; a < kh; a++)
    for (int b = 0; b < kw; b++) {
      int row = at.h * sh - ph + a * dh, column = at.w * sw - pw + b * dw;
      if (row < 0 || row >= h || column < 0 || column >= w) continue;
      float v = x[((at.n * h + row) * w + column) * c + at.c];
      if (v > best || (v != v && best == best)) {  // a NaN counts as the largest
        best = v;
        winner = a * kw + b;
      }
    }
  y[i] = best;
  tap[i] = winner;
}

extern "C" __global__ void max_pool2d_grad(const float* dy, const unsigned char* tap, float* dx,
                                           int n, int h, int w, int c, int oh, int ow, int kh,
                                           int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
  ELEMENT(n);
  Position at = position(i, h, w, c);
  at.h += ph, at.w += pw;
  Windows rows = windows(at.h, kh, sh, dh, oh), columns = windows(at.w, kw, sw, dw, ow);
  float sum = 0;
  for (int row = rows.begin; row < rows.end; row++)
    for (int column = columns.begin; column < columns.end; column++) {
      int a = tap_of(row, at.h, sh, dh), b = tap_of(column, at.w, sw, dw);
      int j = ((at.n * oh + row) * ow + column) * c + at.c;
      if (a >= 0 && b >= 0 && tap[j] == a * kw + b) sum += dy[j];
    }
  dx[i] = sum;
}

extern "C" __global__ void avg_pool2d(const float* x, float* y, int n, int h, int w, int c, int oh,
                                      int ow, int kh, int kw, int sh, int sw, int ph, int pw,
                                      int count_pad, int divisor) {
  ELEMENT(n);
  Position at = position(i, oh, ow, c);
  float sum = 0;
  for (int a = 0; a < kh; a++)
    for (int b = 0; b < kw; b++) {
      int row = at.h * sh - ph + a, column = at.w * sw - pw + b;
      if (row >= 0 && row < h && column >= 0 && column < w)
        sum += x[((at.n * h + row) * w + column) * c + at.c];
    }
  int count = pixels(at.h, h, kh, sh, ph, count_pad) * pixels(at.w, w, kw, sw, pw, count_pad);
  y[i] = sum / (divisor ? divisor : max(count, 1));
}

extern "C" __global__ void avg_pool2d_grad(const float* dy, float* dx, int n, int h, int w, int c,
                                           int oh, int ow, int kh, int kw, int sh, int sw, int ph,
                                           int pw, int count_pad, int divisor) {
  ELEMENT(n);
  Position at = position(i, h, w, c);
  Windows rows = windows(at.h + ph, kh, sh, 1, oh), columns = windows(at.w + pw, kw, sw, 1, ow);
  float sum = 0;
  for (int row = rows.begin; row < rows.end; row++)
    for (int column = columns.begin; column < columns.end; column++) {
      int count = pixels(row, h, kh, sh, ph, count_pad) * pixels(column, w, kw, sw, pw, count_pad);
      float share = dy[((at.n * oh + row) * ow + column) * c + at.c];
      sum += share / (divisor ? divisor : max(count, 1));
    }
  dx[i] = sum;
}

extern "C" __global__ void global_avg_pool2d(const float* x, float* y, int n, int area, int c) {
  ELEMENT(n);  // of the output (N, C)
  float sum = 0;
  for (int pixel = 0; pixel < area; pixel++) sum += x[(i / c * area + pixel) * c + i % c];
  y[i] = sum / area;
}

extern "C" __global__ void global_avg_pool2d_grad(const float* dy, float* dx, int n, int area,
                                                  int c) {
  ELEMENT(n);
  dx[i] = dy[i / c / area * c + i % c] / area;
}

extern "C" __global__ void sum_products(const float* a, const float* b, float* y, int n, int area,
                                        int c) {
  ELEMENT(n);  // of the output (N, C)
  double sum = 0;
  for (int pixel = 0; pixel < area; pixel++) {
    int at = (i / c * area + pixel) * c + i % c;
    sum += a[at] * b[at];
  }
  y[i] = static_cast<float>(sum);
}
