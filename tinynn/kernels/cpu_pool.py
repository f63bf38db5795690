"""Max pooling in one pass over the windows. Drop-ins for the reference's."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.geometry import Pair
from tinynn.kernels.numba_setup import float32_only, parallel

Array = Any


@parallel
def pool_max(x, y, tap, kh, kw, sh, sw, ph, pw, dh, dw):
    """The maximum of every window, and its tap; channels innermost."""
    n, h, w, c = x.shape
    _, oh, ow, _ = y.shape
    for job in numba.prange(n * oh):
        sample = job // oh
        i = job - sample * oh
        for j in range(ow):
            for k in range(c):
                y[sample, i, j, k] = -math.inf
                tap[sample, i, j, k] = 0
            for a in range(kh):
                row = i * sh - ph + a * dh
                if row < 0 or row >= h:
                    continue
                for b in range(kw):
                    column = j * sw - pw + b * dw
                    if column < 0 or column >= w:
                        continue
                    for k in range(c):
                        v, best = x[sample, row, column, k], y[sample, i, j, k]
                        if v > best or (v != v and best == best):  # NaN wins, once
                            y[sample, i, j, k] = v
                            tap[sample, i, j, k] = a * kw + b


@parallel
def unpool_max(dy, tap, dx, kw, sh, sw, ph, pw, dh, dw):
    """dx = each output's gradient added to the pixel its tap names."""
    n, oh, ow, c = dy.shape
    h, w = dx.shape[1:3]
    for sample in numba.prange(n):
        dx[sample] = 0
        for i in range(oh):
            for j in range(ow):
                for k in range(c):
                    t = np.int64(tap[sample, i, j, k])
                    row = i * sh - ph + t // kw * dh
                    column = j * sw - pw + t % kw * dw
                    if 0 <= row < h and 0 <= column < w:  # all -inf: the tap may be padding
                        dx[sample, row, column, k] += dy[sample, i, j, k]


@float32_only(reference.max_pool2d)
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Drop-in for reference.max_pool2d."""
    out, _ = reference.pool_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((len(x), *out, x.shape[3]), np.float32)
    small = kernel_size[0] * kernel_size[1] <= 256
    tap = np.empty(y.shape, np.uint8 if small else np.int32)
    pool_max(x, y, tap, *kernel_size, *stride, *padding, *dilation)
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
    dx = np.empty(x_shape, np.float32)
    unpool_max(dy, tap, dx, kernel_size[1], *stride, *padding, *dilation)
    return dx
