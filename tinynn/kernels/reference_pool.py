"""Pooling in plain array code, and images of another size."""

from __future__ import annotations

import math

import numpy as np

from tinynn.kernels.geometry import Padding, Pair, pool_output_size
from tinynn.kernels.reference import (
    Array,
    col2im,
    kernel,
    namespace,
    pad_image,
    taps,
)


def pool_geometry(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Pair, Padding]:
    """Output size, and the padding (after an overhanging last window too) it needs."""
    oh, ow = (
        pool_output_size(
            x_shape[1 + a], kernel_size[a], stride[a], padding[a], dilation[a], ceil_mode
        )
        for a in (0, 1)
    )
    after = [
        max(
            (o - 1) * stride[a]
            + dilation[a] * (kernel_size[a] - 1)
            + 1
            - x_shape[1 + a]
            - padding[a],
            0,
        )
        for a, o in enumerate((oh, ow))
    ]
    return (oh, ow), ((padding[0], after[0]), (padding[1], after[1]))


@kernel
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """The largest pixel of every window and the tap where it stood (the first, among equals).

    x (N, H, W, C) -> y (N, OH, OW, C), tap uint8 or int32 of the same shape (kh KW + kw).
    NaN counts as the largest; padding never wins.
    """
    xp = namespace(x)
    out, padding_used = pool_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    padded = pad_image(x, padding_used, -math.inf)
    count = kernel_size[0] * kernel_size[1]
    y = xp.full((x.shape[0], *out, x.shape[3]), -math.inf, x.dtype)
    tap = xp.zeros(y.shape, np.uint8 if count <= 256 else np.int32)
    for i, j, under_tap in taps(kernel_size, stride, dilation, out):
        candidate = padded[under_tap]
        better = (candidate > y) | (xp.isnan(candidate) & ~xp.isnan(y))
        y = xp.where(better, candidate, y)
        tap = xp.where(better, tap.dtype.type(i * kernel_size[1] + j), tap)
    return y, tap


@kernel
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
    """Each output's gradient goes to the pixel that won its window. dy, tap (N, OH, OW, C)."""
    xp = namespace(dy)
    out, used = pool_geometry(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    n, h, w, c = x_shape
    (top, bottom), (left, right) = used
    padded = xp.zeros((n, top + h + bottom, left + w + right, c), dy.dtype)
    for i, j, under_tap in taps(kernel_size, stride, dilation, out):
        padded[under_tap] += xp.where(tap == i * kernel_size[1] + j, dy, 0)
    return xp.ascontiguousarray(padded[:, top : top + h, left : left + w])


def pool_divisor(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    out: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """(OH, OW, 1): the pixels each window is averaged over, as PyTorch counts them: an
    overhang beyond the padding never counts, padding only with `count_include_pad`."""
    sides = []
    for a in (0, 1):
        size, begin = x_shape[1 + a], np.arange(out[a]) * stride[a] - padding[a]
        end = np.minimum(begin + kernel_size[a], size + padding[a])
        if not count_include_pad:
            begin, end = np.maximum(begin, 0), np.minimum(end, size)
        sides.append(np.maximum(end - begin, 0))
    return np.maximum(np.outer(*sides), 1)[:, :, None]


@kernel
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """The mean of every window. x (N, H, W, C) -> y (N, OH, OW, C)."""
    xp = namespace(x)
    out, used = pool_geometry(x.shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    divisor = divisor_override or xp.asarray(
        pool_divisor(x.shape, kernel_size, stride, padding, out, count_include_pad), x.dtype
    )
    padded = pad_image(x, used)
    y = xp.zeros((x.shape[0], *out, x.shape[3]), x.dtype)
    for _, _, under_tap in taps(kernel_size, stride, (1, 1), out):
        y += padded[under_tap]
    return y / divisor


@kernel
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
    """Each output's gradient in equal shares to its window. dy (N, OH, OW, C) -> dx."""
    xp = namespace(dy)
    out, used = pool_geometry(x_shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    divisor = divisor_override or xp.asarray(
        pool_divisor(x_shape, kernel_size, stride, padding, out, count_include_pad), dy.dtype
    )
    share = (dy / divisor)[:, :, :, None, None, :]
    columns = xp.broadcast_to(share, (*dy.shape[:3], *kernel_size, dy.shape[3]))
    return col2im(columns, x_shape, stride, used, (1, 1))


@kernel
def interpolate(x: Array, rows: Array, columns: Array) -> Array:
    """y[n,i,j,c] = sum over h,w of rows[i,h] columns[j,w] x[n,h,w,c]: an image of another size.

    x (N, H, W, C), rows (OH, H), columns (OW, W) -> y (N, OH, OW, C). Its own gradient, with the
    matrices transposed.
    """
    n, h, w, c = x.shape
    y = rows @ x.reshape(n, h, w * c)  # (N, OH, W*C)
    return columns @ y.reshape(n, len(rows), w, c)


@kernel
def global_avg_pool2d(x: Array) -> Array:
    """The mean of each image and channel. x (N, H, W, C) -> y (N, 1, 1, C)."""
    return x.mean(axis=(1, 2), keepdims=True)


@kernel
def global_avg_pool2d_grad(dy: Array, x_shape: tuple[int, ...]) -> Array:
    """Each gradient in equal shares to its image. dy (N, 1, 1, C) -> dx (N, H, W, C)."""
    dx = namespace(dy).empty(x_shape, dy.dtype)
    dx[...] = dy / (x_shape[1] * x_shape[2])
    return dx
