"""The emulator itself: right kernels pass whatever the schedule, planted bugs are caught."""

import emulator
import numpy as np
import pytest
from emulator import KernelError

pytestmark = pytest.mark.skipif(
    emulator.compiler() is None, reason="no C++ compiler (g++ or clang++) to emulate kernels with"
)

BLOCK = 128
SOURCE = """
#include "emulator.h"

constexpr int BLOCK = 128;
enum { RIGHT, NO_BARRIER, READ_OUTSIDE, WRITE_OUTSIDE, WAIT_FOR_NONE };  // planted bugs

// y[i] = x[BLOCK - 1 - i] of each block, through shared memory.
extern "C" __global__ void reverse(const float* x, float* y, int n, int bug) {
  __shared__ float s[BLOCK];
  int i = blockIdx.x * BLOCK + threadIdx.x;
  if (i < n || bug == READ_OUTSIDE) s[threadIdx.x] = x[i];
  if (bug != NO_BARRIER) __syncthreads();
  if (i < n) y[i] = s[BLOCK - 1 - threadIdx.x];
  if (bug == WRITE_OUTSIDE && i == n - 1) y[n] = 1;
}

// The same by asynchronous copies of two tiles; the first must have landed before it is read.
extern "C" __global__ void copy_tiles(const float* x, float* y, int bug) {
  __shared__ float s[2 * BLOCK];
  for (int tile = 0; tile < 2; tile++) {
    copy_async_4(&s[tile * BLOCK + threadIdx.x], &x[tile * BLOCK + threadIdx.x], true);
    copy_async_commit();
  }
  if (bug == WAIT_FOR_NONE)
    copy_async_wait<2>();
  else
    copy_async_wait<1>();
  __syncthreads();
  y[threadIdx.x] = s[BLOCK - 1 - threadIdx.x];
  copy_async_wait<0>();
  __syncthreads();
  y[BLOCK + threadIdx.x] = s[2 * BLOCK - 1 - threadIdx.x];
}

extern "C" __global__ void warp_sum(const float* x, float* y) {
  float sum = x[threadIdx.x];
  for (int mask = 16; mask; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  if (threadIdx.x % 32 == 0) y[threadIdx.x / 32] = sum;
}

extern "C" __global__ void half_a_barrier(float* y) {
  if (threadIdx.x < 64) __syncthreads();
  y[threadIdx.x] = 1;
}

extern "C" __global__ void misaligned(const float* x, float* y) {
  y[0] = reinterpret_cast<const float4*>(x + 1)->x;
}

extern "C" __global__ void unwritten(float* y) {
  __shared__ float s[BLOCK];
  if (threadIdx.x) s[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

// Of four matrices of 8 x 8 numbers, as they are and transposed, what each lane gets.
extern "C" __global__ void matrices(const unsigned short* x, unsigned* y) {
  __shared__ float s[BLOCK];
  float4* rows = reinterpret_cast<float4*>(s);
  rows[threadIdx.x] = reinterpret_cast<const float4*>(x)[threadIdx.x];
  __syncwarp();
  load_matrices<false>(y + 4 * threadIdx.x, &rows[threadIdx.x]);
  load_matrices<true>(y + 4 * (32 + threadIdx.x), &rows[threadIdx.x]);
}

// One tile of d = a b on the tensor cores, a (16, 8 or 16), b (8 or 16, 8), row by row.
extern "C" __global__ void tile_tf32(const float* a, const float* b, float* d) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned ra[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]),
                    to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
  unsigned rb[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  float rd[4] = {};
  mma_tf32(rd, ra, rb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = rd[i];
}
extern "C" __global__ void tile_bf16(const float* a, const float* b, float* d) {
  int g = threadIdx.x / 4, k = 2 * (threadIdx.x % 4);
  unsigned ra[4], rb[2];
  for (int i = 0; i < 4; i++) {
    const float* p = &a[(g + i % 2 * 8) * 16 + k + i / 2 * 8];
    ra[i] = to_bf16x2(p[0], p[1]);
  }
  for (int i = 0; i < 2; i++) {
    const float* p = &b[(k + 8 * i) * 8 + g];
    rb[i] = to_bf16x2(p[0], p[8]);
  }
  float rd[4] = {};
  mma_bf16(rd, ra, rb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + k + i % 2] = rd[i];
}
"""
RIGHT, NO_BARRIER, READ_OUTSIDE, WRITE_OUTSIDE, WAIT_FOR_NONE = map(np.int32, range(5))
SEEDS = range(8)


def launch(kernel: str, *arguments: object, grid: int = 1, seed: int = 0) -> None:
    """One launch of a kernel above."""
    block = 32 if kernel == "matrices" or kernel.startswith("tile") else BLOCK
    library = emulator.compile_source(SOURCE)
    emulator.launch(library, kernel, (grid, 1, 1), (block, 1, 1), arguments, seed=seed)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", SEEDS)
def test_right_kernels_pass_whatever_the_schedule(seed: int) -> None:
    x, y = numbers(2 * BLOCK), np.zeros(2 * BLOCK, np.float32)
    backwards = x.reshape(2, BLOCK)[:, ::-1].reshape(-1)
    launch("reverse", x, y, np.int32(2 * BLOCK), RIGHT, grid=2, seed=seed)
    np.testing.assert_array_equal(y, backwards)
    y[:] = 0
    launch("copy_tiles", x, y, RIGHT, seed=seed)
    np.testing.assert_array_equal(y, backwards)
    sums = np.zeros(4, np.float32)
    launch("warp_sum", x[:BLOCK].copy(), sums, seed=seed)
    np.testing.assert_allclose(sums, x[:BLOCK].reshape(4, 32).sum(1), atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "bug"), [("reverse", NO_BARRIER), ("copy_tiles", WAIT_FOR_NONE)]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_or_a_wrong_wait_count_is_caught(
    kernel: str, bug: np.int32, seed: int
) -> None:
    x, y = numbers(2 * BLOCK), np.zeros(2 * BLOCK, np.float32)
    length = [np.int32(2 * BLOCK)] if kernel == "reverse" else []
    launch(kernel, x, y, *length, bug, grid=1 + (kernel == "reverse"), seed=seed)
    assert not np.array_equal(y, x.reshape(2, BLOCK)[:, ::-1].reshape(-1))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_read_and_a_write_out_of_bounds_are_caught(seed: int) -> None:
    n = 3 * 1024 + 20  # the last block has threads far behind the end
    x, y = numbers(n), np.zeros(n, np.float32)
    grid = -(-n // BLOCK) + 40
    if seed == 0:  # the guard page is behind the end
        with pytest.raises(KernelError, match="outside the arrays given"):
            launch("reverse", x, y, np.int32(n), READ_OUTSIDE, grid=grid, seed=seed)
    y = np.zeros(n, np.float32)
    with pytest.raises(KernelError, match=r"outside the arrays|behind the end"):
        launch("reverse", x, y, np.int32(n), WRITE_OUTSIDE, grid=grid, seed=seed)


def test_a_barrier_that_some_threads_miss_is_caught() -> None:
    with pytest.raises(KernelError, match="not reached by all"):
        launch("half_a_barrier", np.zeros(BLOCK, np.float32))


def test_a_misaligned_access_is_caught() -> None:
    with pytest.raises(KernelError, match="misaligned"):
        launch("misaligned", numbers(8), np.zeros(1, np.float32))


def test_shared_memory_that_nobody_wrote_is_nan() -> None:
    y = np.zeros(BLOCK, np.float32)
    launch("unwritten", y)
    assert np.isnan(y).tolist() == [True] + [False] * (BLOCK - 1)


def test_arguments_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(KernelError, match=r"takes \['float32\*', 'float32\*', 'int32', 'int32'\]"):
        launch("reverse", numbers(4), np.zeros(4, np.float32), np.int64(4), RIGHT)


def test_a_failure_does_not_spoil_the_next_launch() -> None:
    test_a_barrier_that_some_threads_miss_is_caught()
    test_right_kernels_pass_whatever_the_schedule(0)


def test_matrices_are_given_to_a_warp_s_lanes() -> None:
    x = np.arange(4 * 8 * 8, dtype=np.uint16).reshape(4, 8, 8)
    y = np.zeros((2, 32, 4), np.uint32)
    launch("matrices", x, y)
    for got, rows in zip(y, (x, x.transpose(0, 2, 1))):
        # lane 4 g + t: numbers 2 t and 2 t + 1 of row g
        np.testing.assert_array_equal(got.view(np.uint16).reshape(8, 4, 4, 2),
                                      rows.reshape(4, 8, 4, 2).transpose(1, 2, 0, 3))  # fmt: skip


@pytest.mark.parametrize(("kernel", "k", "digits"), [("tile_tf32", 8, 11), ("tile_bf16", 16, 8)])
def test_the_tensor_cores_multiply(kernel: str, k: int, digits: int) -> None:
    a, b, d = numbers(16, k), numbers(k, 8), np.zeros((16, 8), np.float32)
    launch(kernel, a, b, d)
    error = np.linalg.norm(d - a.astype(float) @ b) / np.linalg.norm(d)
    assert 2.0**-digits / 30 < error < 2.0**-digits  # the operands' rounding, and no more
