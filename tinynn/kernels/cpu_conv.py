"""Drop-in convolution for float32 on the CPU: which method does what.

Direct (`cpu_direct_conv`, `cpu_direct_weights`), Winograd (`cpu_winograd`, `cpu_winograd_weights`)
or dot products (`cpu_dot_conv`), by the shape; depthwise (`cpu_depthwise`) if every channel is a
group, else group by group; float64 is left to the reference. No BLAS: its threads go on spinning
after each call and take the cores from the next kernel. The same number of threads gives the same
results bit for bit.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from tinynn.kernels import (
    cpu_depthwise,
    cpu_direct_conv,
    cpu_direct_weights,
    cpu_dot_conv,
    cpu_winograd,
    cpu_winograd_weights,
    reference,
    reference_norm,
)
from tinynn.kernels.cpu_arithmetic import add
from tinynn.kernels.cpu_direct_conv import axes_of
from tinynn.kernels.cpu_microkernel import microkernel
from tinynn.kernels.cpu_norm import normalise_into
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Padding, Pair
from tinynn.kernels.memory import empty

Array = Any
SMALL_GROUP = 1 << 16  # multiplications of a group: fewer are done before a kernel has started


@float32_only(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d."""
    geometry = stride, padding, dilation
    method, _ = choose("conv2d", x.shape, w.shape, *geometry, groups)
    if method is reference:
        return reference.conv2d(x, w, *geometry, groups)
    axes = axes_of(x.shape, w.shape, *geometry)
    if groups == 1 or method is cpu_depthwise:
        return method.conv2d(x, w, *axes)
    pairs = zip(split(x, 3, groups), split(w, 0, groups), strict=True)
    return np.concatenate([method.conv2d(a, b, *axes) for a, b in pairs], axis=3)


@float32_only(reference_norm.conv2d_batch_norm)
def conv2d_batch_norm(
    x: Array,
    w: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    residual: Array | None,
    relu: bool,
    eps: float,
) -> Array:
    """Drop-in for reference_norm.conv2d_batch_norm: in one kernel of few pixels, else in place."""
    geometry = stride, padding, dilation
    norm = weight, bias, mean, var, residual, relu, eps
    method, _ = choose("conv2d", x.shape, w.shape, *geometry, groups)
    if method is cpu_dot_conv and groups == 1:
        return cpu_dot_conv.conv2d(x, w, *axes_of(x.shape, w.shape, *geometry), norm=norm)
    y = conv2d(x, w, *geometry, groups)
    return normalise_into(y, y, *norm)


@float32_only(reference.conv2d_input_grad)
def conv2d_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    residual: Array | None = None,
    in_place: bool = False,
) -> Array:
    """Drop-in for reference.conv2d_input_grad: the residual is added as dx is written,
    and where only some pixels of x were seen, the others need not be."""
    geometry = stride, padding, dilation
    method, _ = choose("conv2d_input_grad", x_shape, w.shape, *geometry, groups)
    if method is reference:
        return reference.conv2d_input_grad(dy, w, x_shape, *geometry, groups, residual)
    axes = axes_of(x_shape, w.shape, *geometry)
    if groups == 1 and method is not cpu_depthwise:
        out = residual if in_place else None
        return method.conv2d_input_grad(dy, w, *axes, residual=residual, out=out)
    if method is cpu_depthwise:
        dx = cpu_depthwise.conv2d_input_grad(dy, w, groups, *axes)
    else:
        pairs = zip(split(dy, 3, groups), split(w, 0, groups), strict=True)
        dx = np.concatenate([method.conv2d_input_grad(a, b, *axes) for a, b in pairs], axis=3)
    return dx if residual is None else add(dx, residual)


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
    geometry = stride, padding, dilation
    method, _ = choose("conv2d_weight_grad", x.shape, w_shape, *geometry, groups)
    if method is reference:
        return reference.conv2d_weight_grad(dy, x, w_shape, *geometry, groups, out)
    axes = axes_of(x.shape, w_shape, *geometry)
    if groups == 1 or method is cpu_depthwise:
        return method.conv2d_weight_grad(dy, x, *axes, out=out)
    dw = empty(w_shape) if out is None else out
    parts = split(dy, 3, groups), split(x, 3, groups), np.split(dw, groups)
    for a, b, part in zip(*parts, strict=True):
        method.conv2d_weight_grad(a, b, *axes, out=part)
    return dw


@lru_cache(maxsize=256)
def choose(
    kernel: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[ModuleType, str]:
    """The fastest method for one of the three kernels and a shape (of one group, if there are
    several): direct, Winograd, dot products, depthwise or the reference. And why it is."""
    if 0 in (*x_shape, *w_shape):
        return reference, "an empty array"
    if groups == x_shape[3] > 1:
        return cpu_depthwise, "a filter for each channel"
    axes = axes_of(x_shape, w_shape, stride, padding, dilation)
    if groups > 1:
        out = math.prod(axis.out for axis in axes)
        if x_shape[0] * out * math.prod(w_shape) // groups < SMALL_GROUP:
            return reference, f"{groups} groups of less than {SMALL_GROUP:,} multiply-adds"
    channels = x_shape[3] // groups, w_shape[0] // groups
    tile = microkernel().tile
    if kernel == "conv2d":
        dots, reason = cpu_dot_conv.worthwhile(*axes, channels, x_shape[0], tile.lanes)
        if dots:
            return cpu_dot_conv, reason
    winograd, reason = cpu_winograd.worthwhile(*axes, channels, x_shape[0], tile.width)
    if kernel == "conv2d_weight_grad":
        return cpu_winograd_weights if winograd else cpu_direct_weights, reason
    return cpu_winograd if winograd else cpu_direct_conv, reason


def split(array: Array, axis: int, groups: int) -> list[Array]:
    """Each group's part, contiguous."""
    return [np.ascontiguousarray(part) for part in np.split(array, groups, axis)]
