"""CUDA drop-ins for pooling: one launch each, and gradients that are gathered, not scattered.

And for another sum over an image's pixels, the gradient of a factor of its channels.
"""

from __future__ import annotations

import math

import numpy as np

from tinynn.kernels import reference, reference_pool
from tinynn.kernels.cuda_launch import drop_in, int32, per_element, result
from tinynn.kernels.geometry import Pair
from tinynn.kernels.reference import Array
from tinynn.kernels.reference_pool import pool_geometry

FILE = "pool"


@drop_in(reference_pool.max_pool2d)
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Drop-in for reference_pool.max_pool2d, for windows whose taps a byte can count."""
    if math.prod(kernel_size) > 256:
        return reference_pool.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)
    n, h, w, c = x.shape
    out, _ = pool_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = result(x, (n, *out, c))
    tap = result(x, y.shape, np.uint8)
    sizes = map(int32, (y.size, h, w, c, *out, *kernel_size, *stride, *padding, *dilation))
    per_element(FILE, "max_pool2d", y.size, x, y, tap, *sizes)
    return y, tap


@drop_in(reference_pool.max_pool2d_grad)
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
    if tap.dtype != np.uint8:
        return reference_pool.max_pool2d_grad(
            dy, tap, x_shape, kernel_size, stride, padding, dilation, ceil_mode
        )
    dx = result(dy, x_shape)
    shapes = *x_shape[1:], *dy.shape[1:3]
    sizes = map(int32, (dx.size, *shapes, *kernel_size, *stride, *padding, *dilation))
    per_element(FILE, "max_pool2d_grad", dx.size, dy, tap, dx, *sizes)
    return dx


@drop_in(reference_pool.avg_pool2d)
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
    n, h, w, c = x.shape
    out, _ = pool_geometry(x.shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    y = result(x, (n, *out, c))
    divisor = count_include_pad, divisor_override or 0
    sizes = map(int32, (y.size, h, w, c, *out, *kernel_size, *stride, *padding, *divisor))
    per_element(FILE, "avg_pool2d", y.size, x, y, *sizes)
    return y


@drop_in(reference_pool.avg_pool2d_grad)
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
    dx = result(dy, x_shape)
    shapes, divisor = (*x_shape[1:], *dy.shape[1:3]), (count_include_pad, divisor_override or 0)
    sizes = map(int32, (dx.size, *shapes, *kernel_size, *stride, *padding, *divisor))
    per_element(FILE, "avg_pool2d_grad", dx.size, dy, dx, *sizes)
    return dx


@drop_in(reference_pool.global_avg_pool2d)
def global_avg_pool2d(x: Array) -> Array:
    """Drop-in for reference_pool.global_avg_pool2d."""
    n, h, w, c = x.shape
    y = result(x, (n, 1, 1, c))
    per_element(FILE, "global_avg_pool2d", y.size, x, y, int32(y.size), int32(h * w), int32(c))
    return y


@drop_in(reference_pool.global_avg_pool2d_grad)
def global_avg_pool2d_grad(dy: Array, x_shape: tuple[int, ...]) -> Array:
    """Drop-in for reference_pool.global_avg_pool2d_grad."""
    dx = result(dy, x_shape)
    sizes = int32(dx.size), int32(x_shape[1] * x_shape[2]), int32(x_shape[3])
    per_element(FILE, "global_avg_pool2d_grad", dx.size, dy, dx, *sizes)
    return dx


@drop_in(reference.mul_grad)
def mul_grad(dy: Array, other: Array, shape: tuple[int, ...]) -> Array:
    """Drop-in for reference.mul_grad where a factor (N, 1, 1, C) scales the channels of images, as
    squeeze-and-excitation does: the products are summed as they are made."""
    same = dy.ndim == 4 and getattr(other, "shape", ()) == dy.shape
    if not same or shape != (len(dy), 1, 1, dy.shape[-1]):
        return reference.mul_grad(dy, other, shape)
    total = result(dy, shape)
    sizes = int32(total.size), int32(dy.size // total.size), int32(dy.shape[-1])
    per_element(FILE, "sum_products", total.size, dy, other, total, *sizes)
    return total
