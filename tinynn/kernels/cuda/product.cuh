// A matrix product on the tensor cores, which has its operands' tiles fetched by whoever calls it.
//
// A block computes ROWS x COLUMNS of the product over its share, blockIdx.z, of the depth. Compiled
// for these sizes; for PRECISION 0 (float32, each operand as the sum of two TF32 numbers), 1 (TF32)
// or 2 (bf16), all summed in float32; for VECTOR 4 or 1 numbers copied at a time; for STAGES pairs
// of tiles in shared memory, of which one is multiplied and the others are on their way; and for
// BLOCKS that a multiprocessor is to have registers for at once.
#pragma once

#include "device.cuh"

#if PRECISION == 2
using Element = unsigned short;  // the bits of a bf16
#else
using Element = float;
#endif
constexpr bool kPacked = sizeof(Element) == 2;           // two in a register
constexpr int kDepth = 32;                               // fetched at a time
constexpr int kThreads = 128;                            // two by two warps
constexpr int kRows = ROWS / 2, kColumns = COLUMNS / 2;  // of a warp
constexpr int kStage = (ROWS + COLUMNS) * kDepth;        // elements of a pair of tiles
constexpr int kSteps = kPacked ? 1 : 2;                  // products on the way down 16 depths
static_assert(!kPacked || (VECTOR == 4 && STAGES == 2), "bf16 is packed by four, a step ahead");

// -- tiles in shared memory ----------------------------------------------------------------------

// A tile lies by rows of depth or by rows of lines, as its matrix does in global memory; depth k of
// a line lies at(line, k). Bits of that are flipped so that lanes which copy or read at the same
// time find different banks. A thread's copies are of one depth(), the i-th of line(i). copied(i)
// is at(line(i), depth()), and read(line, k, i) where this lane begins its i-th read of an operand
// of floats, both so written that the compiler sees few addresses and constants to add to them.
template <int lines>
struct ByDepth {  // what is copied or read at once is of one line and several depths
  static constexpr int kLines = lines, kAcross = kDepth / VECTOR;
  static constexpr bool kReadLine = true;
  __device__ static int at(int line, int k) {
    return line * kDepth + (k ^ (kPacked ? line / 2 % 4 * 8 : line / 4 % 2 * 16));
  }
  __device__ static int depth() { return threadIdx.x % kAcross * VECTOR; }
  __device__ static int line(int i) { return threadIdx.x / kAcross + i * (kThreads / kAcross); }
  __device__ static int copied(int i) {
    return at(line(i % 2), depth()) + i / 2 * (2 * kThreads / kAcross) * kDepth;
  }
  __device__ static int read(int line, int k, int i) {
    return at(threadIdx.x % 32 / 4 * 4, k + threadIdx.x % 4 * 4) + (line + i) * kDepth;
  }
};
template <int lines>
struct ByLine {  // of one depth and several lines
  static constexpr int kLines = lines, kAcross = kThreads / kDepth;
  static constexpr bool kReadLine = false;
  __device__ static int at(int line, int k) {
    return k * lines + (line ^ (kPacked ? k % 4 * 16 ^ k / 4 % 2 * 8 : k / 4 % 4 * 8 ^ k % 2 * 16));
  }
  __device__ static int depth() { return threadIdx.x / kAcross; }
  __device__ static int line(int i) { return (threadIdx.x % kAcross + i * kAcross) * VECTOR; }
  __device__ static int copied(int i) {
    constexpr int period = kPacked ? 64 : 32, alike = period / VECTOR / kAcross;
    return at(line(i % alike), depth()) + i / alike * period;
  }
  __device__ static int read(int line, int k, int i) {
    return at(threadIdx.x % 32 / 4 * 4, threadIdx.x % 4 * 4 + i % 2) + (k + i / 2 * 2) * lines +
           line;
  }
};

// A thread's part of a tile on its way. Floats land in shared memory by themselves. Those that are
// to be bf16 wait in registers while a step is multiplied, and land packed: than if each reader
// packed them, half as many bytes enter and leave shared memory, by half as many instructions.
// (Reckoned by banks and by what the compiler makes of it, not measured.)
template <class Layout>
struct Copies {
  static constexpr int kCount = Layout::kLines * kDepth / VECTOR / kThreads;
  Element* tile;
  float4 waiting[kPacked ? kCount : 1];

  template <bool keep>
  __device__ __forceinline__ void begin(int i, const float* from, bool inside) {
#if PRECISION == 2
    auto four = reinterpret_cast<const float4*>(from);
    waiting[i] = inside ? *four : make_float4(0, 0, 0, 0);
#elif VECTOR == 4
    copy_async_16<keep>(tile + Layout::copied(i), from, inside);
#else
    copy_async_4(tile + Layout::copied(i), from, inside);
#endif
  }
  __device__ __forceinline__ void land() {
#pragma unroll
    for (int i = 0; i < (kPacked ? kCount : 0); i++) {
      float4 x = waiting[i];
      uint2 packed = {to_bf16x2(x.x, x.y), to_bf16x2(x.z, x.w)};
      *reinterpret_cast<uint2*>(tile + Layout::copied(i)) = packed;
    }
  }
};

// What a lane, lane / 4 = g and lane % 4 = t, holds of 32 lines and 16 depths of an operand. Their
// order within a product is free, as long as both operands and the sums agree: of floats lines 4 g
// to 4 g + 3 and depths 4 t to 4 t + 3, which it reads 16 bytes at a time; of bf16 what mma's
// registers are meant to hold, which load_matrices gives.
struct Operand {
  unsigned at[kSteps][4][2];  // [product][line][half of its depths]
};

// The operand, the left or the right one, from `line` and depth k on. `low` holds what TF32 cuts
// off `high`.
#if PRECISION == 2
template <class Layout, bool left>
__device__ __forceinline__ void read(Operand& high, Operand&, const Element* tile, int line,
                                     int k) {
  int lane = threadIdx.x % 32, row = lane % 8, one = lane / 8 % 2 * 8, two = lane / 16 * 8;
  int l = left ? one : two, d = k + (left ? two : one);  // the order in which mma's registers stand
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    unsigned got[4];
    int at = Layout::kReadLine ? Layout::at(l + row, d) + (line + 8 * i) * kDepth
                               : Layout::at(line + l + 8 * i, d + row);
    load_matrices<!Layout::kReadLine>(got, tile + at);
#pragma unroll
    for (int j = 0; j < 4; j++)
      high.at[0][i + (left ? j % 2 : j / 2)][left ? j / 2 : j % 2] = got[j];
  }
}
#else
template <class Layout, bool left>
__device__ __forceinline__ void read(Operand& high, Operand& low, const Element* tile, int line,
                                     int k) {
  float x[4][4];  // [line][depth]
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float4 four = *reinterpret_cast<const float4*>(tile + Layout::read(line, k, i));
    float v[] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; j++) x[Layout::kReadLine ? i : j][Layout::kReadLine ? j : i] = v[j];
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      unsigned tf32 = to_tf32(x[i][j]), cut = tf32 & 0xffffe000u;
      high.at[j / 2][i][j % 2] = PRECISION == 1 ? tf32 : cut;
      if (PRECISION == 0) low.at[j / 2][i][j % 2] = to_tf32(x[i][j] - __uint_as_float(cut));
    }
}
#endif

// -- products ------------------------------------------------------------------------------------

struct Sums {  // this lane's part of a warp's sums
  float at[kRows / 16][kColumns / 8][4];  // [16 rows][8 columns][see mma]

  __device__ float number(int i, int j) const {  // in row(i) and column(j) of the block
    return kPacked ? at[i / 2][j / 2][i % 2 * 2 + j % 2]
                   : at[i / 2][j / 8 * 4 + j % 4][i % 2 * 2 + j / 4 % 2];
  }
  __device__ static int row(int i) {
    int group = threadIdx.x % 32 / 4;
    return threadIdx.x / 32 % 2 * kRows +
           (kPacked ? 8 * i + group : i / 4 * 32 + 4 * group + i % 4);
  }
  __device__ static int column(int j) {
    int t = threadIdx.x % 4;
    return threadIdx.x / 64 * kColumns +
           (kPacked ? j / 2 * 8 + 2 * t + j % 2 : j / 8 * 32 + 8 * t + j % 8);
  }
};

__device__ __forceinline__ void multiply(float* d, const Operand& a, const Operand& b, int step,
                                         int i, int j) {  // lines 2 i and 2 i + 1 of a, j of b
  auto &even = a.at[step][2 * i], &odd = a.at[step][2 * i + 1];
  unsigned rows[] = {even[0], odd[0], even[1], odd[1]};
#if PRECISION == 2
  mma_bf16(d, rows, b.at[step][j]);
#else
  mma_tf32(d, rows, b.at[step][j]);
#endif
}

template <class LayoutA, class LayoutB>
__device__ __forceinline__ void multiply_tiles(Sums& sums, const Element* a_tile,
                                               const Element* b_tile) {
  int warp = threadIdx.x / 32, row = warp % 2 * kRows, column = warp / 2 * kColumns;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    Operand b[kColumns / 32], b_low[kColumns / 32];
#pragma unroll
    for (int j = 0; j < kColumns / 32; j++)
      read<LayoutB, false>(b[j], b_low[j], b_tile, column + 32 * j, k);
#pragma unroll
    for (int i = 0; i < kRows / 32; i++) {
      Operand a, a_low;
      read<LayoutA, true>(a, a_low, a_tile, row + 32 * i, k);
      auto multiply_all = [&](const Operand& left, const Operand* right, int step) {
#pragma unroll
        for (int j = 0; j < kColumns / 8; j++)
#pragma unroll
          for (int half = 0; half < 2; half++)
            multiply(sums.at[2 * i + half][j], left, right[j / 4], step, half, j % 4);
      };
#pragma unroll
      for (int step = 0; step < kSteps; step++) {
        if (PRECISION == 0) {  // the small products first
          multiply_all(a_low, b, step);
          multiply_all(a, b_low, step);
        }
        multiply_all(a, b, step);
      }
    }
  }
}

struct Steps {
  int begin, end;
};
// This block's share of the steps down a depth.
__device__ __forceinline__ Steps share(int depth) {
  int steps = (depth + kDepth - 1) / kDepth, z = blockIdx.z, splits = gridDim.z;
  int least = steps / splits, longer = steps % splits;  // so many blocks do one more
  int begin = z * least + min(z, longer);
  return {begin, begin + least + (z < longer)};
}

// The sums over some steps. fetch_tiles(a, b) begins the copies of step after step.
template <class LayoutA, class LayoutB, class Fetch>
__device__ __forceinline__ Sums product(Element* tiles, Steps steps, Fetch fetch_tiles) {
  Sums sums = {};
  int count = steps.end - steps.begin;
  auto fetch_step = [&](int step, auto meanwhile) {
    Copies<LayoutA> a;
    Copies<LayoutB> b;
    a.tile = tiles + step % STAGES * kStage, b.tile = a.tile + ROWS * kDepth;
    if (step < count) fetch_tiles(a, b);
    if (!kPacked) copy_async_commit();
    meanwhile();
    a.land(), b.land();  // behind the last step what nobody will read
  };
#pragma unroll 1
  for (int step = 0; step < STAGES - 1; step++) fetch_step(step, [] {});
  for (int step = 0; step < count; step++) {
    if (!kPacked) copy_async_wait<STAGES - 2>();
    __syncthreads();  // every thread's copies have landed, and the stage before is read
    fetch_step(step + STAGES - 1, [&] {
      const Element* stage = tiles + step % STAGES * kStage;
      multiply_tiles<LayoutA, LayoutB>(sums, stage, stage + ROWS * kDepth);
    });
  }
  return sums;
}

// n numbers, or only `count` of them, which move at once if none is missing and they are so aligned.
template <int n>
struct alignas(4 * n) Together {
  float at[n];

  __device__ static bool at_once(const float* place, int count) {
    return count >= n && reinterpret_cast<unsigned long long>(place) % sizeof(Together) == 0;
  }
};
template <int n>
__device__ __forceinline__ void load(Together<n>& v, const float* from, int count) {
  if (Together<n>::at_once(from, count))
    v = *reinterpret_cast<const Together<n>*>(from);
  else
    for (int i = 0; i < n; i++)
      if (i < count) v.at[i] = from[i];
}
template <int n>
__device__ __forceinline__ void store(float* to, const Together<n>& v, int count) {
  if (Together<n>::at_once(to, count))
    *reinterpret_cast<Together<n>*>(to) = v;
  else
    for (int i = 0; i < n; i++)
      if (i < count) to[i] = v.at[i];
}

// Write the sums by rows: row r begins at begins[r], or is left out if that is negative. What
// stands there in `residual`, if that is given, is added.
__device__ __forceinline__ void store_rows(const Sums& sums, float* to, const int* begins,
                                           int columns, const float* residual = nullptr) {
  constexpr int together = kPacked ? 2 : 4, groups = kColumns / 4 / together;
#pragma unroll
  for (int i = 0; i < kRows / 8; i++) {
    int begin = begins[Sums::row(i)];
    if (begin < 0) continue;
    Together<together> added[groups];  // one wait for a row's
    auto each_group = [&](auto move) {
#pragma unroll
      for (int j = 0; j < groups; j++) {
        int column = blockIdx.y * COLUMNS + Sums::column(j * together);
        move(j, begin + column, columns - column);
      }
    };
    if (residual)
      each_group([&](int j, int at, int count) { load(added[j], residual + at, count); });
    each_group([&](int j, int at, int count) {
      Together<together> v;
#pragma unroll
      for (int k = 0; k < together; k++) {
        v.at[k] = sums.number(i, j * together + k);
        if (residual) v.at[k] += added[j].at[k];
      }
      store(to + at, v, count);
    });
  }
}

// Write the sums by columns, each of `rows` numbers.
__device__ __forceinline__ void store_columns(const Sums& sums, float* to, int rows, int columns) {
  constexpr int together = kPacked ? 1 : 4;
#pragma unroll
  for (int i = 0; i < kRows / 8; i += together) {
    int row = blockIdx.x * ROWS + Sums::row(i);
#pragma unroll
    for (int j = 0; j < kColumns / 4; j++) {
      int column = blockIdx.y * COLUMNS + Sums::column(j);
      Together<together> v;
#pragma unroll
      for (int k = 0; k < together; k++) v.at[k] = sums.number(i + k, j);
      if (column < columns) store(to + column * rows + row, v, rows - row);
    }
  }
}
