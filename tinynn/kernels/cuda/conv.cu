// Convolution and its gradients as matrix products on the tensor cores. No patch is ever laid out
// in global memory (implicit GEMM): as a tile of the left matrix is fetched, its addresses say
// which pixel stands under which tap.
//
//              rows of the product   columns          depth, which is summed over
//   forward    output pixels         filters          live taps and input channels
//   input      input pixels          input channels   live taps and filters
//   weights    filters               live taps and    output pixels, split over blockIdx.z
//                                    input channels
//
// Compiled for PRECISION 0 (float32, each operand as the sum of two TF32 numbers), 1 (TF32) or
// 2 (bf16), all summed in float32; and for VECTOR 4 or 1 numbers copied at a time.
//
// Legend: x (N, H, W, C), w (OC, KH, KW, C), dy and y (N, OH, OW, OC); live taps are those that see
// the image anywhere: kh0 <= kh < kh0 + khs, and kw likewise.
#include "device.cuh"

constexpr int kTile = 64;       // rows and columns of a block's product
constexpr int kDepth = 32;      // fetched at a time
constexpr int kThreads = 128;   // four warps, 32 rows and 32 columns each
constexpr int kBlocks = 4;      // that a multiprocessor has registers for at once
constexpr int kLines = kTile * kDepth / VECTOR / kThreads;  // copies of a thread for one tile
// A tile lies in shared memory by rows of depth, or by rows of lines, as it does in global memory.
// The rows' ends are left free so that a warp reads a fragment from 32 different banks.
constexpr int kDepthRow = kDepth + 4, kLineRow = kTile + 8;
constexpr int kFloats = kTile * kDepthRow;
static_assert(kFloats == kDepth * kLineRow, "both kinds of tiles take the same room");

struct Geometry {
  int h, w, c, oh, ow, oc, kh, kw, sh, sw, ph, pw, dh, dw, kh0, khs, kw0, kws;
};
#define GEOMETRY                                                                              \
  int h, int w, int c, int oh, int ow, int oc, int kh, int kw, int sh, int sw, int ph, int pw, \
      int dh, int dw, int kh0, int khs, int kw0, int kws
#define GIVEN {h, w, c, oh, ow, oc, kh, kw, sh, sw, ph, pw, dh, dw, kh0, khs, kw0, kws}

struct Tap {  // depth or column k of live taps and `channels`, the channels last
  int kh, kw, channel;
};
__device__ __forceinline__ Tap tap(const Geometry& g, int k, int channels) {
  int t = k / channels;
  return {g.kh0 + t / g.kws, g.kw0 + t % g.kws, k % channels};
}
__device__ __forceinline__ int weight(const Geometry& g, int filter, const Tap& t, int c) {
  return ((filter * g.kh + t.kh) * g.kw + t.kw) * g.c + c;
}

__device__ __forceinline__ void fetch(float* to, const float* array, int index, bool inside) {
  const float* from = inside ? array + index : array;
#if VECTOR == 4
  copy_async_16(to, from, inside);
#else
  copy_async_4(to, from, inside);
#endif
}

// Where this thread's i-th copy of a tile goes.
struct ByDepth {  // rows of depth: one depth, several lines
  static constexpr int kLine = kDepthRow, kStep = 1, kAcross = kDepth / VECTOR;
  __device__ static int line(int i) { return threadIdx.x / kAcross + i * (kThreads / kAcross); }
  __device__ static int depth(int) { return threadIdx.x % kAcross * VECTOR; }
};
struct ByLine {  // rows of lines: one line, several depths
  static constexpr int kLine = 1, kStep = kLineRow, kAcross = kTile / VECTOR;
  __device__ static int line(int) { return threadIdx.x % kAcross * VECTOR; }
  __device__ static int depth(int i) { return threadIdx.x / kAcross + i * (kThreads / kAcross); }
};
template <class Layout>
__device__ __forceinline__ int place(int i) {
  return Layout::line(i) * Layout::kLine + Layout::depth(i) * Layout::kStep;
}

struct Sums {  // this lane's part of the warp's 32 x 32 sums: [16 rows][8 columns][see mma]
  float at[2][4][4];
};

// Operands of 16 rows (8 columns), depths k to k + 8 of TF32 or to k + 16 of bf16. `low` holds what
// TF32 cuts off.
template <class Layout, int registers>
__device__ __forceinline__ void operand(unsigned* high, unsigned* low, const float* tile, int line,
                                        int k) {
  int group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int i = 0; i < registers; i++) {
    int row = line + group + (registers == 4 ? i % 2 * 8 : 0), half = registers == 4 ? i / 2 : i;
#if PRECISION == 2
    const float* p = tile + row * Layout::kLine + (k + 2 * t + 8 * half) * Layout::kStep;
    high[i] = to_bf16x2(p[0], p[Layout::kStep]);
#else
    float x = tile[row * Layout::kLine + (k + t + 4 * half) * Layout::kStep];
    high[i] = to_tf32(x);
    if (PRECISION == 0) low[i] = to_tf32(x - __uint_as_float(high[i]));
#endif
  }
}

__device__ __forceinline__ void multiply(float* d, const unsigned (*a)[4], const unsigned (*b)[2]) {
#if PRECISION == 2
  mma_bf16(d, a[0], b[0]);
#else
  if (PRECISION == 0) {  // the small products first
    mma_tf32(d, a[1], b[0]);
    mma_tf32(d, a[0], b[1]);
  }
  mma_tf32(d, a[0], b[0]);
#endif
}

template <class LayoutA, class LayoutB>
__device__ __forceinline__ void multiply_tiles(Sums& sums, const float* a_tile,
                                               const float* b_tile) {
  int warp = threadIdx.x / 32, row = warp % 2 * 32, column = warp / 2 * 32;
#pragma unroll
  for (int k = 0; k < kDepth; k += PRECISION == 2 ? 16 : 8) {
    unsigned a[2][2][4], b[4][2][2];  // [where][high, low][register]
#pragma unroll
    for (int i = 0; i < 2; i++) operand<LayoutA, 4>(a[i][0], a[i][1], a_tile, row + 16 * i, k);
#pragma unroll
    for (int j = 0; j < 4; j++) operand<LayoutB, 2>(b[j][0], b[j][1], b_tile, column + 8 * j, k);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) multiply(sums.at[i][j], a[i], b[j]);
  }
}

// The sums over `depth`: while one pair of tiles is multiplied, the next is on its way.
// fetch_tiles(first depth, a_tile, b_tile) begins their copies.
template <class LayoutA, class LayoutB, class Fetch>
__device__ __forceinline__ Sums product(int depth, Fetch fetch_tiles) {
  DYNAMIC_SHARED(float, tiles);  // [2][a, b][kFloats]
  Sums sums = {};
  if (depth > 0) fetch_tiles(0, tiles, tiles + kFloats);
  copy_async_commit();
  for (int k = 0, now = 0; k < depth; k += kDepth, now ^= 1) {
    float *here = tiles + now * 2 * kFloats, *next = tiles + (now ^ 1) * 2 * kFloats;
    if (k + kDepth < depth) fetch_tiles(k + kDepth, next, next + kFloats);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // every thread's copies have landed
    multiply_tiles<LayoutA, LayoutB>(sums, here, here + kFloats);
    __syncthreads();  // before they are overwritten
  }
  return sums;
}

// Write the sums that are inside a (rows, columns) matrix.
__device__ __forceinline__ void store(const Sums& sums, float* to, int rows, int columns) {
  int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  int row0 = blockIdx.x * kTile + warp % 2 * 32 + group;
  int column0 = blockIdx.y * kTile + warp / 2 * 32 + 2 * t;
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int row = row0 + 16 * i + e / 2 * 8, column = column0 + 8 * j + e % 2;
        if (row < rows && column < columns) to[row * columns + column] = sums.at[i][j][e];
      }
}

struct Pixel {
  int n, h, w;
};
__device__ __forceinline__ Pixel pixel(int m, int h, int w) { return {m / w / h, m / w % h, m % w}; }

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d(const float* x, const float* w_, float* y, int rows, GEOMETRY) {
  const Geometry g = GIVEN;
  Pixel pixels[kLines];  // of this thread's lines, as they stand in x under tap (0, 0)
  for (int i = 0; i < kLines; i++) {
    Pixel p = pixel(blockIdx.x * kTile + ByDepth::line(i), g.oh, g.ow);
    pixels[i] = {p.n, p.h * g.sh - g.ph, p.w * g.sw - g.pw};
  }
  int depth = g.khs * g.kws * g.c;
  Sums sums = product<ByDepth, ByDepth>(depth, [&](int k0, float* a, float* b) {
    int k = k0 + ByDepth::depth(0);
    Tap t = tap(g, k, g.c);
    for (int i = 0; i < kLines; i++) {
      int row = pixels[i].h + t.kh * g.dh, column = pixels[i].w + t.kw * g.dw;
      bool inside = k < depth && blockIdx.x * kTile + ByDepth::line(i) < rows && row >= 0 &&
                    row < g.h && column >= 0 && column < g.w;
      int index = inside ? ((pixels[i].n * g.h + row) * g.w + column) * g.c + t.channel : 0;
      fetch(a + place<ByDepth>(i), x, index, inside);
    }
    for (int i = 0; i < kLines; i++) {
      int filter = blockIdx.y * kTile + ByDepth::line(i);
      bool inside = k < depth && filter < g.oc;
      fetch(b + place<ByDepth>(i), w_, inside ? weight(g, filter, t, t.channel) : 0, inside);
    }
  });
  store(sums, y, rows, g.oc);
}

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d_input_grad(const float* dy, const float* w_, float* dx, int rows, GEOMETRY) {
  const Geometry g = GIVEN;
  Pixel pixels[kLines];
  for (int i = 0; i < kLines; i++)
    pixels[i] = pixel(blockIdx.x * kTile + ByDepth::line(i), g.h, g.w);
  int depth = g.khs * g.kws * g.oc;
  Sums sums = product<ByDepth, ByLine>(depth, [&](int k0, float* a, float* b) {
    int k = k0 + ByDepth::depth(0);
    Tap t = tap(g, k, g.oc);
    for (int i = 0; i < kLines; i++) {  // the output pixel that sees this one through the tap
      int row = pixels[i].h + g.ph - t.kh * g.dh, column = pixels[i].w + g.pw - t.kw * g.dw;
      bool inside = k < depth && blockIdx.x * kTile + ByDepth::line(i) < rows && row >= 0 &&
                    row % g.sh == 0 && row / g.sh < g.oh && column >= 0 && column % g.sw == 0 &&
                    column / g.sw < g.ow;
      int at = (pixels[i].n * g.oh + row / g.sh) * g.ow + column / g.sw;
      fetch(a + place<ByDepth>(i), dy, inside ? at * g.oc + t.channel : 0, inside);
    }
    int channel = blockIdx.y * kTile + ByLine::line(0);
    for (int i = 0; i < kLines; i++) {
      int j = k0 + ByLine::depth(i);
      bool inside = j < depth && channel < g.c;
      Tap s = tap(g, j, g.oc);
      fetch(b + place<ByLine>(i), w_, inside ? weight(g, s.channel, s, channel) : 0, inside);
    }
  });
  store(sums, dx, rows, g.c);
}

// partial (splits, OC, live taps and C): each block sums over its share of the output pixels.
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d_weight_grad(const float* dy, const float* x, float* partial, int pixels, int share,
                       GEOMETRY) {
  const Geometry g = GIVEN;
  int begin = blockIdx.z * share, end = min(pixels, begin + share);
  int columns = g.khs * g.kws * g.c;
  int filter = blockIdx.x * kTile + ByLine::line(0);
  int column = blockIdx.y * kTile + ByLine::line(0);
  Tap t = tap(g, column, g.c);
  Sums sums = product<ByLine, ByLine>(end - begin, [&](int k0, float* a, float* b) {
    for (int i = 0; i < kLines; i++) {
      int m = begin + k0 + ByLine::depth(i);
      Pixel p = pixel(m, g.oh, g.ow);
      bool inside = m < end && filter < g.oc;
      fetch(a + place<ByLine>(i), dy, inside ? m * g.oc + filter : 0, inside);
      int row = p.h * g.sh - g.ph + t.kh * g.dh, at = p.w * g.sw - g.pw + t.kw * g.dw;
      inside = m < end && column < columns && row >= 0 && row < g.h && at >= 0 && at < g.w;
      int index = inside ? ((p.n * g.h + row) * g.w + at) * g.c + t.channel : 0;
      fetch(b + place<ByLine>(i), x, index, inside);
    }
  });
  store(sums, partial + static_cast<long long>(blockIdx.z) * g.oc * columns, g.oc, columns);
}

// dw (OC, KH, KW, C): the shares in their order, so that the same bits come each time; 0 for taps
// that never see the image.
extern "C" __global__ void sum_shares(const float* partial, float* dw_, int n, int splits,
                                      GEOMETRY) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int a = i / c / kw % kh - kh0, b = i / c % kw - kw0;
  float sum = 0;
  if (a >= 0 && a < khs && b >= 0 && b < kws) {
    long long size = static_cast<long long>(oc) * khs * kws * c;
    long long at = ((static_cast<long long>(i / c / kw / kh) * khs + a) * kws + b) * c + i % c;
    for (int split = 0; split < splits; split++) sum += partial[split * size + at];
  }
  dw_[i] = sum;
}
