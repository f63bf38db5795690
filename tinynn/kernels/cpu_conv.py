"""Drop-in convolution and matrix product for float32 on the CPU: which method does what.

Direct (`cpu_direct_conv`, `cpu_direct_weights`) or Winograd (`cpu_winograd`), by the shape;
depthwise (`cpu_depthwise`) if every channel is a group, else group by group; float64 is left to
the reference. No BLAS: its threads go on spinning after each call and take the cores from the
next kernel. The same number of threads gives the same results bit for bit.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from tinynn.kernels import (
    cpu_depthwise,
    cpu_direct_conv,
    cpu_direct_weights,
    cpu_winograd,
    reference,
)
from tinynn.kernels.cpu_direct_conv import Axis, axes_of
from tinynn.kernels.cpu_microkernel import microkernel
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Padding, Pair
from tinynn.kernels.memory import empty

Array = Any
SMALL_PRODUCT = 1 << 18  # up to so many multiplications BLAS starts no threads, and starts sooner
SMALL_GROUP = 1 << 16  # multiplications of a group: fewer are done before a kernel has started


@float32_only(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d."""
    if not x.size or not w.size or few_products(x, w.shape, groups):
        return reference.conv2d(x, w, stride, padding, dilation, groups)
    axes = axes_of(x.shape, w.shape, stride, padding, dilation)
    if groups == x.shape[3] > 1:
        return cpu_depthwise.conv2d(x, w, *axes)
    if groups > 1:
        pairs = zip(split(x, 3, groups), split(w, 0, groups), strict=True)
        parts = [conv2d(a, b, stride, padding, dilation, 1) for a, b in pairs]
        return np.concatenate(parts, axis=3)
    return choose(axes, x.shape, w.shape, cpu_direct_conv).conv2d(x, w, *axes)


@float32_only(reference.conv2d_input_grad)
def conv2d_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    """Drop-in for reference.conv2d_input_grad."""
    if not dy.size or not w.size or few_products(dy, w.shape, groups):
        return reference.conv2d_input_grad(dy, w, x_shape, stride, padding, dilation, groups)
    axes = axes_of(x_shape, w.shape, stride, padding, dilation)
    if groups == x_shape[3] > 1:
        return cpu_depthwise.conv2d_input_grad(dy, w, groups, *axes)
    if groups > 1:
        shape = (*x_shape[:3], w.shape[3])
        pairs = zip(split(dy, 3, groups), split(w, 0, groups), strict=True)
        parts = [conv2d_input_grad(a, b, shape, stride, padding, dilation, 1) for a, b in pairs]
        return np.concatenate(parts, axis=3)
    return choose(axes, x_shape, w.shape, cpu_direct_conv).conv2d_input_grad(dy, w, *axes)


@float32_only(reference.conv2d_weight_grad)
def conv2d_weight_grad(
    dy: Array,
    x: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    out: Array | None = None,
) -> Array:
    """Drop-in for reference.conv2d_weight_grad."""
    if not dy.size or not x.size or few_products(dy, w_shape, groups):
        return reference.conv2d_weight_grad(dy, x, w_shape, stride, padding, dilation, groups, out)
    axes = axes_of(x.shape, w_shape, stride, padding, dilation)
    if groups == x.shape[3] > 1:
        return cpu_depthwise.conv2d_weight_grad(dy, x, *axes, out=out)
    if groups > 1:
        dw = empty(w_shape) if out is None else out
        parts = split(dy, 3, groups), split(x, 3, groups), np.split(dw, groups)
        for a, b, part in zip(*parts, strict=True):
            conv2d_weight_grad(a, b, part.shape, stride, padding, dilation, 1, part)
        return dw
    method = choose(axes, x.shape, w_shape, cpu_direct_weights)
    return method.conv2d_weight_grad(dy, x, *axes, out=out)


def choose(
    axes: tuple[Axis, Axis], x_shape: tuple[int, ...], w_shape: tuple[int, ...], direct: ModuleType
) -> ModuleType:
    """The faster method for a shape."""
    channels, width = (x_shape[3], w_shape[0]), microkernel().tile.width
    return cpu_winograd if cpu_winograd.worthwhile(*axes, channels, x_shape[0], width) else direct


def few_products(images: Array, w_shape: tuple[int, ...], groups: int) -> bool:
    """Is a group too small to be worth a kernel call? (A depthwise convolution is one call.)"""
    products = math.prod(images.shape[:3]) * math.prod(w_shape) // groups
    return groups > 1 and w_shape[3] > 1 and products < SMALL_GROUP


def split(array: Array, axis: int, groups: int) -> list[Array]:
    """Each group's part, contiguous."""
    return [np.ascontiguousarray(part) for part in np.split(array, groups, axis)]


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.matmul: two matrices as a 1x1 convolution of 1x1 images.

    A linear layer's products are the triplet: y = x w' is conv2d, dx = dy w the input gradient,
    dw = dy' x the weight gradient. A transposed view is read as what it is a view of.
    """
    matrices = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]
    if not (matrices and a.dtype == b.dtype == np.float32 and a.size * b.shape[1] > SMALL_PRODUCT):
        return reference.matmul(a, b, out)
    axes = Axis(1, 1, 1, (0, 0), 1), Axis(1, 1, 1, (0, 0), 1)
    if a.flags.c_contiguous and b.flags.c_contiguous:  # dy (N, OC) @ w (OC, C)
        product = cpu_direct_conv.conv2d_input_grad(pixels(a), pixels(b), *axes)
    elif a.flags.c_contiguous and b.T.flags.c_contiguous:  # x (N, C) @ w (OC, C)'
        product = cpu_direct_conv.conv2d(pixels(a), pixels(b.T), *axes)
    elif a.T.flags.c_contiguous and b.flags.c_contiguous:  # dy (N, OC)' @ x (N, C)
        dw = None if out is None else pixels(out)
        product = cpu_direct_weights.conv2d_weight_grad(pixels(a.T), pixels(b), *axes, out=dw)
    else:
        return reference.matmul(a, b, out)
    return product.reshape(a.shape[0], b.shape[1]) if out is None else out


def pixels(matrix: Array) -> Array:
    """(N, C) -> N images of one pixel."""
    return matrix[:, None, None, :]
