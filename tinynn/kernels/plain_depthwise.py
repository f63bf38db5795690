"""Depthwise convolution, where each channel has a filter of its own: loops over all channels of a
pixel at once. Products of matrices would be one number wide. `plain_conv` calls these for groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import void

from tinynn.kernels import reference
from tinynn.kernels.geometry import Padding, Pair, conv_output_size
from tinynn.kernels.memory import empty
from tinynn.kernels.plain_threads import (
    FLOAT,
    IMAGES,
    MATRIX,
    NEW_IMAGES,
    PAIR,
    array,
    compiled,
    share_out,
)

Array = Any
NEW_FILTERS = array(FLOAT, 3, write=True)  # (N, KH KW, C)


@compiled(void(IMAGES, NEW_IMAGES, MATRIX, PAIR, PAIR, PAIR, PAIR))
def convolve(x, y, w, kernel_size, stride, padding, dilation):
    """y += x w, each output pixel from those under its window. w (KH KW, C)."""
    _, height, width, c = x.shape
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for p in range(kernel_size[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    for q in range(kernel_size[1]):
                        column = j * stride[1] - padding[1] + q * dilation[1]
                        tap = p * kernel_size[1] + q
                        if 0 <= row < height and 0 <= column < width:
                            for k in range(c):
                                y[n, i, j, k] += x[n, row, column, k] * w[tap, k]


@compiled(void(NEW_IMAGES, IMAGES, MATRIX, PAIR, PAIR, PAIR, PAIR))
def convolve_back(dx, dy, w, kernel_size, stride, padding, dilation):
    """dx += dy w, each pixel from the outputs whose window it was in."""
    _, height, width, c = dx.shape
    for n in range(len(dy)):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                for p in range(kernel_size[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    for q in range(kernel_size[1]):
                        column = j * stride[1] - padding[1] + q * dilation[1]
                        tap = p * kernel_size[1] + q
                        if 0 <= row < height and 0 <= column < width:
                            for k in range(c):
                                dx[n, row, column, k] += dy[n, i, j, k] * w[tap, k]


@compiled(void(IMAGES, IMAGES, NEW_FILTERS, PAIR, PAIR, PAIR, PAIR))
def correlate(x, dy, dw, kernel_size, stride, padding, dilation):
    """dw += x dy, summed over the pixels of each image."""
    _, height, width, c = x.shape
    for n in range(len(dy)):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                for p in range(kernel_size[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    for q in range(kernel_size[1]):
                        column = j * stride[1] - padding[1] + q * dilation[1]
                        tap = p * kernel_size[1] + q
                        if 0 <= row < height and 0 <= column < width:
                            for k in range(c):
                                dw[n, tap, k] += x[n, row, column, k] * dy[n, i, j, k]


def depthwise(x_shape: tuple[int, ...], w_shape: tuple[int, ...], groups: int) -> bool:
    """Whether each channel has one filter."""
    return groups == x_shape[3] == w_shape[0]


def by_tap(w: Array) -> Array:
    """(C, KH, KW, 1) -> (KH KW, C)."""
    return np.ascontiguousarray(w.reshape(len(w), -1).T)


def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    if not depthwise(x.shape, w.shape, groups):
        return reference.conv2d(x, w, stride, padding, dilation, groups)
    sides = zip(x.shape[1:3], w.shape[1:3], stride, padding, dilation)
    y = empty((len(x), *(conv_output_size(*side) for side in sides), len(w)))
    y[...] = 0
    start = padding[0][0], padding[1][0]
    share_out(convolve, [x, y], by_tap(w), w.shape[1:3], stride, start, dilation)
    return y


def conv2d_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    residual: Array | None,
) -> Array:
    if not depthwise(x_shape, w.shape, groups):
        geometry = stride, padding, dilation, groups
        return reference.conv2d_input_grad(dy, w, x_shape, *geometry, residual)
    dx = empty(x_shape)
    dx[...] = 0 if residual is None else residual
    start = padding[0][0], padding[1][0]
    share_out(convolve_back, [dx, dy], by_tap(w), w.shape[1:3], stride, start, dilation)
    return dx


def conv2d_weight_grad(
    dy: Array,
    x: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    out: Array | None,
) -> Array:
    """Sums of an image in float32, and of images in float64."""
    if not depthwise(x.shape, w_shape, groups):
        geometry = stride, padding, dilation, groups
        return reference.conv2d_weight_grad(dy, x, w_shape, *geometry, out)
    sums = np.zeros((len(x), w_shape[1] * w_shape[2], w_shape[0]), np.float32)
    start = padding[0][0], padding[1][0]
    share_out(correlate, [x, dy, sums], w_shape[1:3], stride, start, dilation)
    dw = np.empty(w_shape, np.float32) if out is None else out
    dw[...] = sums.sum(axis=0, dtype=np.float64).T.reshape(w_shape)
    return dw
