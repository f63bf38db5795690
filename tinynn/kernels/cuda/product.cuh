// A matrix product on the tensor cores, which has its operands' tiles fetched by whoever calls it.
//
// A block computes ROWS x COLUMNS of the product over its share, blockIdx.z, of the depth. Compiled
// for these sizes; for PRECISION 0 (float32, each operand as the sum of two TF32 numbers), 1 (TF32)
// or 2 (bf16), all summed in float32; for VECTOR 4 or 1 numbers copied at a time; for STAGES pairs
// of tiles in shared memory, of which one is multiplied and the others are on their way; and for
// BLOCKS that a multiprocessor is to have registers for at once.
#pragma once

#include "device.cuh"

constexpr int kDepth = 32;     // fetched at a time
constexpr int kThreads = 128;  // two by two warps
constexpr int kRows = ROWS / 2, kColumns = COLUMNS / 2;  // of a warp
constexpr int kStage = (ROWS + COLUMNS) * kDepth;        // floats of a pair of tiles
constexpr int kSteps = PRECISION == 2 ? 1 : 2;           // products on the way down 16 depths

// -- tiles in shared memory ----------------------------------------------------------------------

// A lane, of lane / 4 = g and lane % 4 = t, holds lines 4 g to 4 g + 3 and depths 4 t to 4 t + 3 of
// 32 lines and 16 depths of an operand. The order of lines and depths within a product is free, as
// long as both operands and the sums agree; in this one a lane reads 16 bytes at a time.
struct Operand {
  unsigned at[kSteps][4][2];  // [product][line][half of its depths]
};

// A tile lies by rows of depth or by rows of lines, as its matrix does in global memory; depth k of
// a line lies at(line, k). Bits of that are flipped so that lanes which copy or read at the same
// time find different banks. A thread's copies are of one depth(), the i-th of line(i). copied(i)
// is at(line(i), depth()), and read(line, k, i) where this lane begins its i-th read of an operand,
// both so written that the compiler sees two addresses and constants to add to them.
template <int lines>
struct ByDepth {  // what is copied or read at once is of one line and several depths
  static constexpr int kLines = lines, kAcross = kDepth / VECTOR;
  static constexpr bool kReadLine = true;
  __device__ static int at(int line, int k) { return line * kDepth + (k ^ line / 4 % 2 * 16); }
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
    return k * lines + (line ^ k / 4 % 4 * 8 ^ k % 2 * 16);
  }
  __device__ static int depth() { return threadIdx.x / kAcross; }
  __device__ static int line(int i) { return (threadIdx.x % kAcross + i * kAcross) * VECTOR; }
  __device__ static int copied(int i) {
    return VECTOR == 4 ? at(line(i % 2), depth()) + i / 2 * 32 : at(line(i), depth());
  }
  __device__ static int read(int line, int k, int i) {
    return at(threadIdx.x % 32 / 4 * 4, threadIdx.x % 4 * 4 + i % 2) + (k + i / 2 * 2) * lines +
           line;
  }
};

// The operand from `line` and depth k on. `low` holds what TF32 cuts off `high`.
template <class Layout>
__device__ __forceinline__ void read(Operand& high, Operand& low, const float* tile, int line,
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
    for (int j = 0; j < 2 * kSteps; j++) {
#if PRECISION == 2
      high.at[0][i][j] = to_bf16x2(x[i][2 * j], x[i][2 * j + 1]);
#elif PRECISION == 1
      high.at[j / 2][i][j % 2] = to_tf32(x[i][j]);
#else
      unsigned cut = to_tf32(x[i][j]) & 0xffffe000u;
      high.at[j / 2][i][j % 2] = cut;
      low.at[j / 2][i][j % 2] = to_tf32(x[i][j] - __uint_as_float(cut));
#endif
    }
}

// -- products ------------------------------------------------------------------------------------

struct Sums {  // this lane's part of a warp's sums: [16 rows][8 columns][see mma]
  float at[kRows / 16][kColumns / 8][4];
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
__device__ __forceinline__ void multiply_tiles(Sums& sums, const float* a_tile,
                                               const float* b_tile) {
  int warp = threadIdx.x / 32, row = warp % 2 * kRows, column = warp / 2 * kColumns;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    Operand b[kColumns / 32], b_low[kColumns / 32];
#pragma unroll
    for (int j = 0; j < kColumns / 32; j++)
      read<LayoutB>(b[j], b_low[j], b_tile, column + 32 * j, k);
#pragma unroll
    for (int i = 0; i < kRows / 32; i++) {
      Operand a, a_low;
      read<LayoutA>(a, a_low, a_tile, row + 32 * i, k);
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

// The sums over some steps. fetch_tiles(a_tile, b_tile) begins the copies of step after step.
template <class LayoutA, class LayoutB, class Fetch>
__device__ __forceinline__ Sums product(float* tiles, Steps steps, Fetch fetch_tiles) {
  Sums sums = {};
  int count = steps.end - steps.begin;
  auto fetch_step = [&](int step) {
    float* stage = tiles + step % STAGES * kStage;
    if (step < count) fetch_tiles(stage, stage + ROWS * kDepth);
    copy_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < STAGES - 1; step++) fetch_step(step);
  for (int step = 0; step < count; step++) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // every thread's copies have landed, and the stage before is read
    fetch_step(step + STAGES - 1);
    const float* stage = tiles + step % STAGES * kStage;
    multiply_tiles<LayoutA, LayoutB>(sums, stage, stage + ROWS * kDepth);
  }
  return sums;
}

__device__ __forceinline__ void store(float* to, const float* v, int count) {  // up to 4 of them
  if (count == 4 && reinterpret_cast<unsigned long long>(to) % 16 == 0)
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  else
    for (int i = 0; i < 4; i++)
      if (i < count) to[i] = v[i];
}

// Write the sums by rows: row r begins at begins[r], or is left out if that is negative.
__device__ __forceinline__ void store_rows(const Sums& sums, float* to, const int* begins,
                                           int columns) {
  int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kRows / 8; i++) {
    int begin = begins[warp % 2 * kRows + i / 4 * 32 + 4 * group + i % 4];
#pragma unroll
    for (int j = 0; j < kColumns / 16; j++) {
      auto& four = sums.at[i / 2];
      int column = blockIdx.y * COLUMNS + warp / 2 * kColumns + j / 2 * 32 + 8 * t + j % 2 * 4;
      int tile = j / 2 * 4, e = i % 2 * 2 + j % 2;
      float v[] = {four[tile][e], four[tile + 1][e], four[tile + 2][e], four[tile + 3][e]};
      if (begin >= 0) store(to + begin + column, v, min(4, columns - column));
    }
  }
}

// Write the sums by columns, each of `rows` numbers.
__device__ __forceinline__ void store_columns(const Sums& sums, float* to, int rows, int columns) {
  int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kRows / 32; i++) {
    int row = blockIdx.x * ROWS + warp % 2 * kRows + 32 * i + 4 * group;
#pragma unroll
    for (int j = 0; j < kColumns / 4; j++) {
      int column = blockIdx.y * COLUMNS + warp / 2 * kColumns + j / 8 * 32 + 8 * t + j % 8;
      int tile = j / 8 * 4 + j % 4, e = j / 4 % 2;
      auto &upper = sums.at[2 * i][tile], &lower = sums.at[2 * i + 1][tile];
      float v[] = {upper[e], upper[2 + e], lower[e], lower[2 + e]};
      if (column < columns) store(to + column * rows + row, v, min(4, rows - row));
    }
  }
}
