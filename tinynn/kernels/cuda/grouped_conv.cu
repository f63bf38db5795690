// Convolutions in groups, each of which sees its own channels, and above all depthwise ones, whose
// groups are single channels: too few products for the tensor cores, so each thread computes one
// element, and neighbours have neighbouring channels.
//
// Legend: x (N, H, W, C), w (OC, KH, KW, CG), dy and y (N, OH, OW, OC); a group has CG = C / groups
// input channels and OG = OC / groups filters.
#include "device.cuh"

#define GEOMETRY                                                                              \
  int h, int w, int c, int oh, int ow, int oc, int kh, int kw, int sh, int sw, int ph, int pw, \
      int dh, int dw, int groups
#define ELEMENT(n)                               \
  int i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= n) return;                            \
  int cg = c / groups, og = oc / groups

extern "C" __global__ void conv2d(const float* x, const float* w_, float* y, int n, GEOMETRY) {
  ELEMENT(n);
  int filter = i % oc, column = i / oc % ow, row = i / oc / ow % oh, image = i / oc / ow / oh;
  float sum = 0;
  for (int a = 0; a < kh; a++)
    for (int b = 0; b < kw; b++) {
      int u = row * sh - ph + a * dh, v = column * sw - pw + b * dw;
      if (u < 0 || u >= h || v < 0 || v >= w) continue;
      const float* pixel = x + ((image * h + u) * w + v) * c + filter / og * cg;
      const float* weights = w_ + ((filter * kh + a) * kw + b) * cg;
      for (int k = 0; k < cg; k++) sum += pixel[k] * weights[k];
    }
  y[i] = sum;
}

extern "C" __global__ void conv2d_input_grad(const float* dy, const float* w_, float* dx,
                                             const float* residual, int has_residual, int n,
                                             GEOMETRY) {
  ELEMENT(n);
  int channel = i % c, column = i / c % w, row = i / c / w % h, image = i / c / w / h;
  int group = channel / cg;
  float sum = 0;
  for (int a = 0; a < kh; a++)
    for (int b = 0; b < kw; b++) {  // the output pixel that sees this one through the tap
      int u = row + ph - a * dh, v = column + pw - b * dw;
      if (u < 0 || u % sh || u / sh >= oh || v < 0 || v % sw || v / sw >= ow) continue;
      const float* pixel = dy + ((image * oh + u / sh) * ow + v / sw) * oc + group * og;
      const float* weights = w_ + ((group * og * kh + a) * kw + b) * cg + channel % cg;
      for (int k = 0; k < og; k++) sum += pixel[k] * weights[k * kh * kw * cg];
    }
  dx[i] = has_residual ? sum + residual[i] : sum;
}

// partial (splits, KH, KW, CG, OC): each element sums over one share of the output pixels.
extern "C" __global__ void conv2d_weight_grad(const float* dy, const float* x, float* partial,
                                              int n, int pixels, int share, GEOMETRY) {
  ELEMENT(n);
  int filter = i % oc, k = i / oc % cg, b = i / oc / cg % kw, a = i / oc / cg / kw % kh;
  int begin = i / oc / cg / kw / kh * share, end = min(pixels, begin + share);
  float sum = 0;
  for (int m = begin; m < end; m++) {
    int u = m / ow % oh * sh - ph + a * dh, v = m % ow * sw - pw + b * dw;
    if (u < 0 || u >= h || v < 0 || v >= w) continue;
    sum += dy[m * oc + filter] * x[((m / ow / oh * h + u) * w + v) * c + filter / og * cg + k];
  }
  partial[i] = sum;
}

// dw (OC, KH, KW, CG): the shares in their order, so that the same bits come each time.
extern "C" __global__ void sum_shares(const float* partial, float* dw, int n, int splits, int oc) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int filter = i / (n / oc), at = i % (n / oc);
  float sum = 0;
#pragma unroll 16
  for (int split = 0; split < splits; split++) sum += partial[split * n + at * oc + filter];
  dw[i] = sum;
}
