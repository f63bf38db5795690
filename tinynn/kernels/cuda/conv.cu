// Convolution and its gradients as matrix products on the tensor cores. No patch is ever laid out
// in global memory (implicit GEMM): as a tile of the left matrix is fetched, its addresses say
// which pixel stands under which tap.
//
//              rows of the product   columns          depth, which is summed over
//   forward    output pixels         filters          live taps and input channels
//   input      input pixels          input channels   live taps and filters
//   weights    live taps and         filters          output pixels
//              input channels
//
// Legend: x (N, H, W, C), w (OC, KH, KW, C), dy and y (N, OH, OW, OC); live taps are those that see
// the image anywhere: kh0 <= kh < kh0 + khs, and kw likewise.
#include "product.cuh"

static_assert(ROWS <= kThreads, "each row has a thread that enters it");

struct Geometry {
  int h, w, c, oh, ow, oc, kh, kw, sh, sw, ph, pw, dh, dw, kh0, khs, kw0, kws;
};
#define GEOMETRY                                                                              \
  int h, int w, int c, int oh, int ow, int oc, int kh, int kw, int sh, int sw, int ph, int pw, \
      int dh, int dw, int kh0, int khs, int kw0, int kws
#define GIVEN {h, w, c, oh, ow, oc, kh, kw, sh, sw, ph, pw, dh, dw, kh0, khs, kw0, kws}

// -- where pixels and taps meet ------------------------------------------------------------------

// A pixel's or a tap's part of a place in an image: their sums are where they meet.
struct alignas(16) Place {
  int h, w;
  long long offset;  // in bytes
};
constexpr Place kNowhere = {-(1 << 30), 0, 0};  // meets none
__device__ __forceinline__ Place read(const Place* from) {  // at once; else it is read in halves
  struct alignas(16) Whole {
    long long place, offset;
  } whole = *reinterpret_cast<const Whole*>(from);
  return {int(whole.place), int(whole.place >> 32), whole.offset};
}
struct alignas(16) Tap {
  Place place;
  int weight;  // where the tap begins in a filter
  bool seen;   // by any row of this block
};
struct Image {
  unsigned h, w;
};
__device__ __forceinline__ long long image_offset(const Geometry& g, int n, int h, int w) {
  return (static_cast<long long>(n * g.h + h) * g.w + w) * g.c * 4;
}
__device__ __forceinline__ bool meet(const Place& a, const Place& b, const Image& image) {
  unsigned h = a.h + b.h, w = a.w + b.w;  // negative ones become large
  return h < image.h && w < image.w;
}

// A number in three digits, of which two have a size: it counts on without a division.
struct Digits {
  int low, middle, high;
};
__device__ __forceinline__ Digits digits(unsigned x, unsigned lows, unsigned middles) {
  unsigned high = x / lows / middles;  // unsigned numbers are divided faster
  return {int(x % lows), int(x / lows % middles), int(high)};
}
__device__ __forceinline__ void add(Digits& x, const Digits& step, int lows, int middles) {
  x.low += step.low, x.middle += step.middle, x.high += step.high;
  if (x.low >= lows) x.low -= lows, x.middle++;
  if (x.middle >= middles) x.middle -= middles, x.high++;
}

// A row of pixels' number as (column, row, image): image after image, or `by_place`, all images'
// pixels of one place after another, for then a block's rows see the same taps.
__device__ __forceinline__ Digits pixel(int m, int images, int h, int w, bool by_place) {
  if (!by_place) return digits(m, w, h);
  int place = m / images;
  return {place % w, place / w, m % images};
}

struct Shared {  // a block's shared memory
  Element* tiles;  // [STAGES][a, b]
  Place* lines;    // [ROWS] of the product
  int* begins;     // [ROWS] where they are stored, or negative
  int* live;       // the taps that are seen, in their order
  Tap* taps;       // [khs kws]
};
__device__ __forceinline__ Shared shared(int taps) {
  DYNAMIC_SHARED(Element, tiles);
  auto* lines = reinterpret_cast<Place*>(tiles + STAGES * kStage);
  auto* all = reinterpret_cast<Tap*>(lines + ROWS);
  auto* begins = reinterpret_cast<int*>(all + taps);
  return {tiles, lines, begins, begins + ROWS, all};
}

// Enter the taps, with the places that place_of(kh, kw) gives, and list those that the block's rows
// see. -> how many. If rows lie `by_place`, the `images` of one place see the same.
template <class PlaceOf>
__device__ __forceinline__ int enter_taps(const Shared& s, const Geometry& g, const Image& image,
                                          int images, bool by_place, PlaceOf place_of) {
  int taps = g.khs * g.kws, live = 0;
  if (by_place) __syncthreads();  // the rows are entered
#pragma unroll 1
  for (int t = threadIdx.x; t < taps; t += kThreads) {
    int kh = g.kh0 + t / g.kws, kw = g.kw0 + t % g.kws;
    Place place = place_of(kh, kw);
    bool seen = !by_place;
    for (int row = 0, next = images - blockIdx.x * ROWS % images; row < ROWS && !seen;
         row = next, next += images)
      seen = meet(s.lines[row], place, image);
    s.taps[t] = {place, (kh * g.kw + kw) * g.c, seen};
    s.live[t] = t;
  }
  __syncthreads();
  if (!by_place) return taps;
  for (int t = 0; t < taps; t++)
    if (s.taps[t].seen) {
      if (threadIdx.x == 0) s.live[live] = t;
      live++;
    }
  __syncthreads();
  return live;
}

// A depth of live taps and channels: slices of kDepth channels if they divide so, of each slice all
// taps, which mostly see the same pixels, then the channels.
struct Walk {
  int slice, taps, slices;
  Digits step;
};
__device__ __forceinline__ Walk walk(int taps, int channels) {
  int slice = channels % kDepth ? channels : kDepth;
  return {slice, max(taps, 1), channels / slice, digits(kDepth, slice, max(taps, 1))};
}
struct Position {
  Place place;
  int channel, weight;
  bool inside;
};
__device__ __forceinline__ Position position(const Shared& s, const Walk& walk, const Digits& at) {
  const Tap& tap = s.taps[s.live[at.middle]];
  int channel = at.high * walk.slice + at.low;
  bool inside = at.high < walk.slices;
  Place place = {inside ? tap.place.h : kNowhere.h, tap.place.w, tap.place.offset + 4 * channel};
  return {place, channel, tap.weight, inside};
}

// -- copies of a step ----------------------------------------------------------------------------

// Pixels of an image, where the lines' places and that of this thread's depth meet. The next tap
// will see most of them again.
template <class Layout>
__device__ __forceinline__ void fetch_image(Copies<Layout>& copies, const float* array,
                                            const Place* lines, const Place& depth,
                                            const Image& image) {
  constexpr int count = Copies<Layout>::kCount;
  constexpr int together = count < 8 ? count : 8;  // one wait for their places
  auto base = reinterpret_cast<const char*>(array) + depth.offset;
#pragma unroll 1
  for (int first = 0; first < count; first += together) {
    Place places[together];
#pragma unroll
    for (int i = 0; i < together; i++) places[i] = read(lines + Layout::line(first + i));
#pragma unroll
    for (int i = 0; i < together; i++) {
      auto from = reinterpret_cast<const float*>(base + places[i].offset);
      copies.template begin<true>(first + i, from, meet(places[i], depth, image));
    }
  }
}

// Lines of a matrix from this block's first on, as far as there are; line 0 begins at `begin`.
template <class Layout>
__device__ __forceinline__ void fetch_matrix(Copies<Layout>& copies, const float* begin, int step,
                                             int lines, bool inside) {
  int first = blockIdx.y * Layout::kLines;
  begin += static_cast<long long>(first + Layout::line(0)) * step;
#pragma unroll 8
  for (int i = 0; i < copies.kCount; i++) {
    bool here = inside && first + Layout::line(i) < lines;
    const float* from = begin + (Layout::line(i) - Layout::line(0)) * step;
    copies.template begin<false>(i, from, here);
  }
}

// -- kernels -------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(kThreads, BLOCKS)
    conv2d(const float* x, const float* w_, float* y, int images, int by_place, GEOMETRY) {
  const Geometry g = GIVEN;
  using A = ByDepth<ROWS>;
  using B = ByDepth<COLUMNS>;
  Shared s = shared(g.khs * g.kws);
  int rows = images * g.oh * g.ow, filter = g.kh * g.kw * g.c;
  if (threadIdx.x < ROWS) {
    int i = threadIdx.x, m = blockIdx.x * ROWS + i;
    Digits p = pixel(m, images, g.oh, g.ow, by_place);
    int h = p.middle * g.sh - g.ph, w = p.low * g.sw - g.pw;
    s.lines[i] = m < rows ? Place{h, w, image_offset(g, p.high, h, w)} : kNowhere;
    s.begins[i] = m < rows ? ((p.high * g.oh + p.middle) * g.ow + p.low) * g.oc : -1;
  }
  Image image = {unsigned(g.h), unsigned(g.w)};
  int taps = enter_taps(s, g, image, images, by_place, [&](int kh, int kw) {
    int h = kh * g.dh, w = kw * g.dw;
    return Place{h, w, image_offset(g, 0, h, w)};
  });
  Walk by = walk(taps, g.c);
  Steps steps = share(taps * g.c);
  Digits at = digits(steps.begin * kDepth + A::depth(), by.slice, by.taps);
  Sums sums = product<A, B>(s.tiles, steps, [&](auto& a, auto& b) {
    Position p = position(s, by, at);
    fetch_image(a, x, s.lines, p.place, image);
    fetch_matrix(b, w_ + p.weight + p.channel, filter, g.oc, p.inside);
    add(at, by.step, by.slice, by.taps);
  });
  store_rows(sums, y + static_cast<long long>(blockIdx.z) * rows * g.oc, s.begins, g.oc);
}

extern "C" __global__ void __launch_bounds__(kThreads, BLOCKS)
    conv2d_input_grad(const float* dy, const float* w_, float* dx, const float* residual,
                      int has_residual, int images, int by_place, GEOMETRY) {
  const Geometry g = GIVEN;
  using A = ByDepth<ROWS>;
  using B = ByLine<COLUMNS>;
  Shared s = shared(g.khs * g.kws);
  int rows = images * g.h * g.w, filter = g.kh * g.kw * g.c;
  // Pixel h is seen through tap kh by output pixel (h + ph - kh dh) / sh, if that is whole. Both
  // parts are divided; where they leave different remainders, they are to meet far outside.
  int far_h = g.oh + (g.h + g.ph + g.kh * g.dh) / g.sh + 1;
  int far_w = g.ow + (g.w + g.pw + g.kw * g.dw) / g.sw + 1;
  auto place = [&](int h, int w, int n) {
    long long offset = (static_cast<long long>(n * g.oh + h / g.sh) * g.ow + w / g.sw) * g.oc * 4;
    return Place{h / g.sh + h % g.sh * far_h, w / g.sw + w % g.sw * far_w, offset};
  };
  if (threadIdx.x < ROWS) {
    int i = threadIdx.x, m = blockIdx.x * ROWS + i;
    Digits p = pixel(m, images, g.h, g.w, by_place);
    s.lines[i] = m < rows ? place(p.middle + g.ph, p.low + g.pw, p.high) : kNowhere;
    s.begins[i] = m < rows ? ((p.high * g.h + p.middle) * g.w + p.low) * g.c : -1;
  }
  Image image = {unsigned(g.oh), unsigned(g.ow)};
  int taps = enter_taps(s, g, image, images, by_place, [&](int kh, int kw) {
    Place there = place(kh * g.dh, kw * g.dw, 0);
    return Place{-there.h, -there.w, -there.offset};
  });
  Walk by = walk(taps, g.oc);
  Steps steps = share(taps * g.oc);
  Digits at = digits(steps.begin * kDepth + A::depth(), by.slice, by.taps);
  Digits at_weights = digits(steps.begin * kDepth + B::depth(), by.slice, by.taps);
  Sums sums = product<A, B>(s.tiles, steps, [&](auto& a, auto& b) {
    Position p = position(s, by, at);
    fetch_image(a, dy, s.lines, p.place, image);
    p = position(s, by, at_weights);
    fetch_matrix(b, w_ + p.channel * filter + p.weight, 1, g.c, p.inside);
    add(at, by.step, by.slice, by.taps);
    add(at_weights, by.step, by.slice, by.taps);
  });
  bool adds = has_residual && gridDim.z == 1;  // else sum_shares does
  float* to = dx + static_cast<long long>(blockIdx.z) * rows * g.c;
  store_rows(sums, to, s.begins, g.c, adds ? residual : nullptr);
}

// partial (splits, OC, live taps and C).
extern "C" __global__ void __launch_bounds__(kThreads, BLOCKS)
    conv2d_weight_grad(const float* dy, const float* x, float* partial, int images, GEOMETRY) {
  const Geometry g = GIVEN;
  using A = ByLine<ROWS>;
  using B = ByLine<COLUMNS>;
  Shared s = shared(0);
  int rows = g.khs * g.kws * g.c;
  if (threadIdx.x < ROWS) {
    int i = threadIdx.x, row = blockIdx.x * ROWS + i;
    Digits tap = digits(row, g.c, g.kws);
    int h = (g.kh0 + tap.high) * g.dh, w = (g.kw0 + tap.middle) * g.dw;
    s.lines[i] = row < rows ? Place{h, w, image_offset(g, 0, h, w) + 4 * tap.low} : kNowhere;
  }
  __syncthreads();
  Image image = {unsigned(g.h), unsigned(g.w)};
  Steps steps = share(images * g.oh * g.ow);
  int m = steps.begin * kDepth + A::depth();
  Digits at = digits(m, g.ow, g.oh), step = digits(kDepth, g.ow, g.oh);
  Sums sums = product<A, B>(s.tiles, steps, [&](auto& a, auto& b) {
    int h = at.middle * g.sh - g.ph, w = at.low * g.sw - g.pw;
    bool inside = at.high < images;
    Place place = {inside ? h : kNowhere.h, w, image_offset(g, at.high, h, w)};
    fetch_image(a, x, s.lines, place, image);
    fetch_matrix(b, dy + m * g.oc, 1, g.oc, inside);
    add(at, step, g.ow, g.oh), m += kDepth;
  });
  store_columns(sums, partial + static_cast<long long>(blockIdx.z) * g.oc * rows, rows, g.oc);
}

// The sum of shares, `size` apart, in their order, so that the same bits come each time.
__device__ __forceinline__ float sum_of(const float* share, long long size, int splits) {
  float sum = 0;
#pragma unroll 16
  for (int split = 0; split < splits; split++) sum += share[split * size];
  return sum;
}
extern "C" __global__ void sum_shares(const float* partial, float* to, const float* residual,
                                      int has_residual, int n, int splits) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float sum = sum_of(partial + i, n, splits);
  to[i] = has_residual ? sum + residual[i] : sum;
}

// The same into dw (OC, KH, KW, C): 0 for taps that never see the image.
extern "C" __global__ void sum_weight_shares(const float* partial, float* dw_, int n, int splits,
                                             GEOMETRY) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int a = i / c / kw % kh - kh0, b = i / c % kw - kw0;
  float sum = 0;
  if (a >= 0 && a < khs && b >= 0 && b < kws) {
    long long size = static_cast<long long>(oc) * khs * kws * c;
    long long at = ((static_cast<long long>(i / c / kw / kh) * khs + a) * kws + b) * c + i % c;
    sum = sum_of(partial + at, size, splits);
  }
  dw_[i] = sum;
}
