"""Pooling and its gradients: every pixel gathers from a list of pixels. Drop-ins.

Forward, an output pixel gathers from the input pixels under its window; backward, an input pixel
gathers from the outputs whose window it was in, so that none has to be added to twice. The lists
are made once for each geometry, and the best so far (or the sum) stays in registers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cpu_loops import QUICK, Gather, gather, larger, where
from tinynn.kernels.cpu_parallel import Job, job_type, run
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty

Array = Any

POOL = job_type("channels positions source_size first offsets numbers x y dy dx taps")

# ---------------------------------------------------------------------------------------------
# Formulas. What follows the * is the number of a (target pixel, source pixel) pair.
# ---------------------------------------------------------------------------------------------


@gather("y taps", POOL, start=(-math.inf, 0.0))
def keep_largest(x, y, taps, *, tap):
    better = larger(x, y)
    return where(better, x, y), where(better, tap, taps)


@gather("dx", POOL, start=(0.0,))
def add_if_won(dy, taps, dx, *, tap):
    return dx + where(taps == tap, dy, 0)


@gather("y", POOL, start=(0.0,))
def add_share(x, y, *, share):
    return y + share * x


@gather("dx", POOL, start=(0.0,))
def add_share_back(dy, dx, *, share):
    return dx + share * dy


# ---------------------------------------------------------------------------------------------
# Lists of pixels
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Where the windows lie: all pooling kernels' common arguments."""

    x_shape: tuple[int, ...]
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool

    @property
    def out(self) -> Pair:
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return reference.pool_geometry(self.x_shape, *geometry)[0]


@lru_cache(maxsize=256)
def pairs(windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (input pixel, output pixel, tap) that lie in the image; taps in order."""
    (_, h, w, _), (oh, ow) = windows.x_shape, windows.out
    (sh, sw), (ph, pw), (dh, dw) = windows.stride, windows.padding, windows.dilation
    kh, kw = windows.kernel_size
    tap_row, tap_column, i, j = np.indices((kh, kw, oh, ow)).reshape(4, -1)
    row, column = i * sh - ph + tap_row * dh, j * sw - pw + tap_column * dw
    live = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    inputs, outputs = row * w + column, i * ow + j
    return inputs[live], outputs[live], (tap_row * kw + tap_column)[live]


def gather_job(windows: Windows, numbers: np.ndarray, backward: bool) -> tuple[Job, int]:
    """The table of a gather with a number for each of the `pairs`; and its number of tasks."""
    n, h, w, c = windows.x_shape
    inputs, outputs, _ = pairs(windows)
    target, source = (inputs, outputs) if backward else (outputs, inputs)
    sizes = math.prod(windows.out), h * w
    positions, source_pixels = sizes[::-1] if backward else sizes
    order = np.argsort(target, kind="stable")
    first = np.searchsorted(target[order], np.arange(positions + 1)).astype(np.int64)
    job = Job(
        POOL, channels=c, positions=positions, source_size=source_pixels * c, first=first,
        offsets=source[order].astype(np.int64) * c, numbers=numbers[order].astype(np.float32),
    )  # fmt: skip
    return job, n * positions


@lru_cache(maxsize=256)
def max_job(windows: Windows, backward: bool) -> tuple[Job, int]:
    return gather_job(windows, pairs(windows)[2], backward)


@lru_cache(maxsize=256)
def average_job(
    windows: Windows, count_include_pad: bool, divisor_override: int | None, backward: bool
) -> tuple[Job, int]:
    geometry = windows.x_shape, windows.kernel_size, windows.stride, windows.padding, windows.out
    divisor = reference.pool_divisor(*geometry, count_include_pad).ravel()
    if divisor_override:
        divisor[:] = divisor_override
    return gather_job(windows, 1 / divisor[pairs(windows)[1]], backward)


def pool(loop: Gather, job: tuple[Job, int], channels: int, **arrays: Array) -> None:
    prepared, tasks = job
    quick = 4 * tasks * channels < QUICK  # about four pairs for each element
    run(loop, prepared.bind(**arrays), tasks, quick=quick)


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference.max_pool2d)
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Drop-in for reference.max_pool2d."""
    if kernel_size[0] * kernel_size[1] > 256:  # taps are bytes
        return reference.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    windows = Windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = empty((len(x), *windows.out, x.shape[3]))
    tap = empty(y.shape, np.uint8)
    pool(keep_largest, max_job(windows, False), x.shape[3], x=x, y=y, taps=tap)
    return y, tap


@float32_only(reference.max_pool2d_grad)
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
    """Drop-in for reference.max_pool2d_grad."""
    if tap.dtype != np.uint8 or not tap.flags.c_contiguous:
        geometry = kernel_size, stride, padding, dilation, ceil_mode
        return reference.max_pool2d_grad(dy, tap, x_shape, *geometry)
    windows = Windows(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    dx = empty(x_shape)
    pool(add_if_won, max_job(windows, True), x_shape[3], dy=dy, taps=tap, dx=dx)
    return dx


@float32_only(reference.avg_pool2d)
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Drop-in for reference.avg_pool2d."""
    windows = Windows(x.shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    y = empty((len(x), *windows.out, x.shape[3]))
    job = average_job(windows, count_include_pad, divisor_override, False)
    pool(add_share, job, x.shape[3], x=x, y=y)
    return y


@float32_only(reference.avg_pool2d_grad)
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
    """Drop-in for reference.avg_pool2d_grad."""
    windows = Windows(x_shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    dx = empty(x_shape)
    job = average_job(windows, count_include_pad, divisor_override, True)
    pool(add_share_back, job, x_shape[3], dy=dy, dx=dx)
    return dx
