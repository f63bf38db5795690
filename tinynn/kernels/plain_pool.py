"""Pooling: each window in turn, all channels of a pixel at once. Drop-ins for the reference's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types, void

from tinynn.kernels import reference_pool
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty
from tinynn.kernels.plain_threads import (
    IMAGES,
    MATRIX,
    NEW_IMAGES,
    PAIR,
    array,
    compiled,
    share_out,
)

Array = Any
TAPS, NEW_TAPS = (array(types.uint8, 4, write) for write in (False, True))


@compiled(void(IMAGES, NEW_IMAGES, NEW_TAPS, PAIR, PAIR, PAIR, PAIR))
def largest(x, y, taps, kernel_size, stride, padding, dilation):
    """The largest pixel of each window, and its tap."""
    _, h, w, c = x.shape
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for k in range(c):
                    y[n, i, j, k] = -np.inf
                    taps[n, i, j, k] = 0
                for p in range(kernel_size[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    for q in range(kernel_size[1]):
                        column = j * stride[1] - padding[1] + q * dilation[1]
                        tap = np.uint8(p * kernel_size[1] + q)
                        if 0 <= row < h and 0 <= column < w:
                            for k in range(c):
                                v, best = x[n, row, column, k], y[n, i, j, k]
                                better = not v <= best and best == best  # NaN is, and stays
                                y[n, i, j, k] = v if better else best
                                taps[n, i, j, k] = tap if better else taps[n, i, j, k]


@compiled(void(NEW_IMAGES, IMAGES, TAPS, PAIR, PAIR, PAIR, PAIR))
def to_largest(dx, dy, taps, kernel_size, stride, padding, dilation):
    """Add each output's gradient to the pixel that won its window."""
    _, h, w, c = dx.shape
    dx[:] = 0
    for n in range(len(dy)):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                for p in range(kernel_size[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    for q in range(kernel_size[1]):
                        column = j * stride[1] - padding[1] + q * dilation[1]
                        tap = np.uint8(p * kernel_size[1] + q)
                        if 0 <= row < h and 0 <= column < w:
                            for k in range(c):
                                won = taps[n, i, j, k] == tap
                                dx[n, row, column, k] += dy[n, i, j, k] if won else np.float32(0)


@compiled(void(IMAGES, NEW_IMAGES, MATRIX, PAIR, PAIR, PAIR))
def average(x, y, shares, kernel_size, stride, padding):
    """The sum of each window times its share."""
    _, h, w, c = x.shape
    y[:] = 0
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
                for row in range(max(top, 0), min(top + kernel_size[0], h)):
                    for column in range(max(left, 0), min(left + kernel_size[1], w)):
                        for k in range(c):
                            y[n, i, j, k] += x[n, row, column, k]
                for k in range(c):
                    y[n, i, j, k] *= shares[i, j]


@compiled(void(NEW_IMAGES, IMAGES, MATRIX, PAIR, PAIR, PAIR))
def spread(dx, dy, shares, kernel_size, stride, padding):
    """Add each output's gradient, times its share, to every pixel of its window."""
    _, h, w, c = dx.shape
    dx[:] = 0
    for n in range(len(dy)):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
                for row in range(max(top, 0), min(top + kernel_size[0], h)):
                    for column in range(max(left, 0), min(left + kernel_size[1], w)):
                        for k in range(c):
                            dx[n, row, column, k] += shares[i, j] * dy[n, i, j, k]


@float32_only(reference_pool.max_pool2d)
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Drop-in for reference_pool.max_pool2d."""
    geometry = kernel_size, stride, padding, dilation
    if math.prod(kernel_size) > 256:  # taps are bytes
        return reference_pool.max_pool2d(x, *geometry, ceil_mode)
    out, _ = reference_pool.pool_geometry(x.shape, *geometry, ceil_mode)
    shape = len(x), *out, x.shape[3]
    y, taps = empty(shape), empty(shape, np.uint8)
    share_out(largest, [x, y, taps], *geometry)
    return y, taps


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
    geometry = kernel_size, stride, padding, dilation
    if tap.dtype != np.uint8 or not tap.flags.c_contiguous:
        return reference_pool.max_pool2d_grad(dy, tap, x_shape, *geometry, ceil_mode)
    dx = empty(x_shape)
    share_out(to_largest, [dx, dy, tap], *geometry)
    return dx


def shares_of(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """(OH, OW): 1 over what each window's sum is divided by."""
    out, _ = reference_pool.pool_geometry(x_shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    geometry = x_shape, kernel_size, stride, padding, out
    divisor = reference_pool.pool_divisor(*geometry, count_include_pad)[:, :, 0]
    if divisor_override:
        divisor[...] = divisor_override
    return (1 / divisor).astype(np.float32)


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
    geometry = kernel_size, stride, padding
    shares = shares_of(x.shape, *geometry, ceil_mode, count_include_pad, divisor_override)
    y = empty((len(x), *shares.shape, x.shape[3]))
    share_out(average, [x, y], shares, *geometry)
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
    geometry = kernel_size, stride, padding
    shares = shares_of(x_shape, *geometry, ceil_mode, count_include_pad, divisor_override)
    dx = empty(x_shape)
    share_out(spread, [dx, dy], shares, *geometry)
    return dx


@float32_only(reference_pool.global_avg_pool2d)
def global_avg_pool2d(x: Array) -> Array:
    """Drop-in for reference_pool.global_avg_pool2d: one window."""
    return avg_pool2d(x, x.shape[1:3], x.shape[1:3], (0, 0), False, True, None)
