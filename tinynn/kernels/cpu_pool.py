"""Pooling and its gradients: every pixel has a list of pixels under its window. Drop-ins.

Forward, an output pixel gathers from the input pixels under its window. Backward, where windows
overlap, an input pixel gathers from the outputs whose window it was in, so that none has to be
added to twice; where they do not, an output scatters to its window, and each input is written
once. The lists are made once for each geometry, and the best so far (or the sum) stays in
registers.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tinynn.kernels import reference_pool
from tinynn.kernels.cpu_formulas import larger, where
from tinynn.kernels.cpu_loops import QUICK
from tinynn.kernels.cpu_parallel import Job, job_type
from tinynn.kernels.cpu_pixels import Pixels, gather, scatter
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty

Array = Any

POOL = job_type("channels positions listed_size first offsets numbers x y dy dx taps")

# ---------------------------------------------------------------------------------------------
# Formulas. What follows the * is the number of a pair: the tap, or the input's share.
# ---------------------------------------------------------------------------------------------


@gather("y taps", POOL, start=(-math.inf, 0.0))
def keep_largest(x, y, taps, *, tap):
    better = larger(x, y)
    return where(better, x, y), where(better, tap, taps)


@gather("dx", POOL, start=(0.0,))
def add_if_won(dy, taps, dx, *, tap):
    return dx + where(taps == tap, dy, 0)


@scatter("dx", POOL)
def give_to_winner(dy, taps, *, tap):
    return where(taps == tap, dy, 0)


@gather("y", POOL, start=(0.0,))
def add_share(x, y, *, share):
    return y + share * x


@gather("dx", POOL, start=(0.0,))
def add_share_back(dy, dx, *, share):
    return dx + share * dy


@scatter("dx", POOL)
def give_shares(dy, *, share):
    return share * dy


# ---------------------------------------------------------------------------------------------
# Lists of pixels
# ---------------------------------------------------------------------------------------------


class Windows:
    """All (input pixel, output pixel, number) with the input in the image and under the output's
    window; and the jobs that list them. The number is the tap, unless `numbers` says otherwise."""

    def __init__(
        self,
        x_shape: tuple[int, ...],
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        ceil_mode: bool,
    ):
        geometry = (kernel_size, stride, padding, dilation, ceil_mode)
        n, h, w, self.channels = self.x_shape = x_shape
        self.out = oh, ow = reference_pool.pool_geometry(x_shape, *geometry)[0]
        self.y_shape = n, oh, ow, self.channels
        self.pixels = {"x": h * w, "y": oh * ow}  # of a sample
        kh, kw = kernel_size
        tap_row, tap_column, i, j = np.indices((kh, kw, oh, ow)).reshape(4, -1)
        row = i * stride[0] - padding[0] + tap_row * dilation[0]
        column = j * stride[1] - padding[1] + tap_column * dilation[1]
        live = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        self.inputs, self.outputs = (row * w + column)[live], (i * ow + j)[live]
        self.numbers = (tap_row * kw + tap_column)[live]  # in order
        visits = np.bincount(self.inputs, minlength=h * w)
        self.disjoint, self.cover = visits.max(initial=0) <= 1, visits.min(initial=1) >= 1

    @cached_property
    def of_outputs(self) -> Job:
        """For each output the inputs under its window."""
        return self.lists(self.outputs, self.inputs, "y", "x")

    @cached_property
    def of_inputs(self) -> Job:
        """For each input the outputs whose window it is in."""
        return self.lists(self.inputs, self.outputs, "x", "y")

    def lists(self, pixel: np.ndarray, listed: np.ndarray, image: str, other: str) -> Job:
        order = np.argsort(pixel, kind="stable")
        positions, c = self.pixels[image], self.channels
        first = np.searchsorted(pixel[order], np.arange(positions + 1)).astype(np.int64)
        return Job(
            POOL, channels=c, positions=positions, listed_size=self.pixels[other] * c, first=first,
            offsets=listed[order].astype(np.int64) * c,
            numbers=self.numbers[order].astype(np.float32),
        )  # fmt: skip

    def forward(self, loop: Pixels, **arrays: Array) -> None:
        self.run(loop, self.of_outputs, self.pixels["y"], arrays)

    def backward(self, spread: Pixels, collect: Pixels, **arrays: Array) -> Array:
        """dx by the first loop where each input is under one window, by the second elsewhere."""
        dx = empty(self.x_shape)
        if not self.disjoint:
            self.run(collect, self.of_inputs, self.pixels["x"], {**arrays, "dx": dx})
            return dx
        if not self.cover:
            dx[...] = 0
        self.run(spread, self.of_outputs, self.pixels["y"], {**arrays, "dx": dx})
        return dx

    def run(self, loop: Pixels, job: Job, pixels: int, arrays: dict[str, Array]) -> None:
        quick = math.prod(self.x_shape) < QUICK // 2  # a pair takes longer than an element
        job.run(loop.address, self.x_shape[0] * pixels, quick, **arrays)


max_windows = lru_cache(maxsize=256)(Windows)


@lru_cache(maxsize=256)
def average_windows(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Windows:
    """The numbers are the shares: 1 / divisor."""
    windows = Windows(x_shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    geometry = x_shape, kernel_size, stride, padding, windows.out
    divisor = reference_pool.pool_divisor(*geometry, count_include_pad).ravel()
    if divisor_override:
        divisor[:] = divisor_override
    windows.numbers = 1 / divisor[windows.outputs]
    return windows


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference_pool.max_pool2d)
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Drop-in for reference_pool.max_pool2d."""
    if kernel_size[0] * kernel_size[1] > 256:  # taps are bytes
        return reference_pool.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    windows = max_windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, tap = empty(windows.y_shape), empty(windows.y_shape, np.uint8)
    windows.forward(keep_largest, x=x, y=y, taps=tap)
    return y, tap


@float32_only(reference_pool.max_pool2d_grad)
def max_pool2d_grad(
    dy: Array,
    tap: Array,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> Array:
    """Drop-in for reference_pool.max_pool2d_grad."""
    if tap.dtype != np.uint8 or not tap.flags.c_contiguous:
        geometry = kernel_size, stride, padding, dilation, ceil_mode
        return reference_pool.max_pool2d_grad(dy, tap, x_shape, *geometry)
    windows = max_windows(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    return windows.backward(give_to_winner, add_if_won, dy=dy, taps=tap)


@float32_only(reference_pool.avg_pool2d)
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Drop-in for reference_pool.avg_pool2d."""
    options = ceil_mode, count_include_pad, divisor_override
    windows = average_windows(x.shape, kernel_size, stride, padding, *options)
    y = empty(windows.y_shape)
    windows.forward(add_share, x=x, y=y)
    return y


@float32_only(reference_pool.avg_pool2d_grad)
def avg_pool2d_grad(
    dy: Array,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Drop-in for reference_pool.avg_pool2d_grad."""
    options = ceil_mode, count_include_pad, divisor_override
    windows = average_windows(x_shape, kernel_size, stride, padding, *options)
    return windows.backward(give_shares, add_share_back, dy=dy)


@float32_only(reference_pool.global_avg_pool2d)
def global_avg_pool2d(x: Array) -> Array:
    """Drop-in for reference_pool.global_avg_pool2d: the channels' sums stay in registers."""
    return avg_pool2d(x, x.shape[1:3], x.shape[1:3], (0, 0), False, True, None)


@float32_only(reference_pool.global_avg_pool2d_grad)
def global_avg_pool2d_grad(dy: Array, x_shape: tuple[int, ...]) -> Array:
    """Drop-in for reference_pool.global_avg_pool2d_grad."""
    size = x_shape[1], x_shape[2]
    return avg_pool2d_grad(dy, x_shape, size, size, (0, 0), False, True, None)
