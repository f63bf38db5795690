"""Convolution over NHWC images: a Function over the adjoint triplet of kernels, and its wrapper."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor
from tinynn.kernels.geometry import Padding, Pair, conv_output_size
from tinynn.tensor import Tensor

Geometry = tuple[Pair, Padding, Pair, int]  # stride, padding, dilation, groups


class Conv2d(Function):
    """y[n,i,j,o] = sum over kh,kw,c of x[n, i s - p + kh d, j s - p + kw d, c] w[o,kh,kw,c]
    [+ b[o]]."""

    new_grads = True

    def __init__(self, geometry: Geometry):
        self.geometry = geometry

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.save(x if self.needs[1] else None, w if self.needs[0] else None)
        self.x_shape, self.w_shape = x.shape, w.shape
        y = self.kernels.conv2d(x, w, *self.geometry)
        if b is not None:
            self.kernels.add_bias(y, b)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        dx = dw = db = None
        if self.needs[0]:
            dx = self.kernels.conv2d_input_grad(
                dy, w, self.x_shape, *self.geometry, *self.take_grad(0)
            )
        if self.needs[1]:
            dw = self.kernels.conv2d_weight_grad(
                dy, x, self.w_shape, *self.geometry, self.grad_storage(1)
            )
        if self.needs[2]:
            db = self.kernels.column_sum(dy, self.grad_storage(2))
        return dx, dw, db


def pair(value: int | tuple[int, int], name: str, least: int = 1) -> Pair:
    """An int, or two of them for height and width. ValueError below `least`."""
    if isinstance(value, int):
        both = (value, value)
    elif isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value):
        both = tuple(value)  # type: ignore[assignment]
    else:
        raise TypeError(f"{name} must be an int or two ints, not {value!r}")
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{name} must be one or two integers of at least {least}, not {value!r}")
    return both


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """(before, after) along one axis for ceil(size / stride) windows, an odd pixel after."""
    windows = -(-size // stride)
    total = max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def resolve_padding(
    padding: Any, size: Pair, kernel_size: Pair, stride: Pair, dilation: Pair
) -> Padding:
    """((top, bottom), (left, right)) from an int, a pair (height, width), two pairs, "same" or
    "valid", for an image of `size` (height, width)."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        rows, columns = map(same_padding, size, kernel_size, stride, dilation)
        return rows, columns
    if isinstance(padding, str):
        raise ValueError(f"conv2d: padding must be 'same', 'valid' or numbers, not {padding!r}")
    if isinstance(padding, (tuple, list)) and isinstance(padding[0], (tuple, list)):
        sides = (
            pair(tuple(padding[0]), "padding (top, bottom)", 0),
            pair(tuple(padding[1]), "padding (left, right)", 0),
        )
        return sides
    height, width = pair(padding, "padding", 0)
    return (height, height), (width, width)


@lru_cache(maxsize=1024, typed=True)  # a network asks the same again at every step
def conv_geometry(
    x: tuple[int, ...], w: tuple[int, ...], stride: Any, padding: Any, dilation: Any, groups: int
) -> Geometry:
    """What the kernels want to know, from the shapes of x and w and conv2d's arguments.

    ValueError, naming both shapes and the fix, unless the convolution is possible.
    """
    strides, dilations = pair(stride, "conv2d: stride"), pair(dilation, "conv2d: dilation")
    shapes = f"(x {x}, w {w})"
    if len(x) != 4 or len(w) != 4:
        raise ValueError(f"conv2d: x must be (N, H, W, C) and w (OC, KH, KW, C/groups) {shapes}")
    sides = resolve_padding(padding, x[1:3], w[1:3], strides, dilations)
    if x[3] != w[3] * groups:
        raise ValueError(
            f"conv2d: x has {x[3]} channels, w expects {w[3] * groups} {shapes}; "
            f"use Conv2d(in_channels={x[3]}), or permute NCHW images to (N, H, W, C)"
        )
    if groups < 1 or w[0] % groups:
        raise ValueError(f"conv2d: {w[0]} filters do not divide into {groups} groups")
    for axis, name in enumerate(("height", "width")):
        size = x[1 + axis], w[1 + axis]
        if conv_output_size(*size, strides[axis], sides[axis], dilations[axis]) < 1:
            raise ValueError(
                f"conv2d: the {name} {size[0]} with padding {sides[axis]} is smaller than the "
                f"filter, {size[1]} taps at dilation {dilations[axis]} {shapes}; pad the input"
            )
    return strides, sides, dilations, groups


@lru_cache(maxsize=1024)
def conv_shape(x: tuple[int, ...], w: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """(N, OH, OW, OC): the shape of a convolution of arrays of these shapes."""
    sides = zip(x[1:3], w[1:3], *geometry[:3])
    return x[0], *(conv_output_size(*side) for side in sides), w[0]


def hashable(argument: Any) -> Any:
    """Lists as tuples."""
    return tuple(map(hashable, argument)) if isinstance(argument, (list, tuple)) else argument


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlate images with filters.

    input (N, H, W, C), weight (OC, KH, KW, C/groups), bias (OC,) -> (N, OH, OW, OC) with
    OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1. `padding`: an int, a pair
    (height, width), ((top, bottom), (left, right)), "same" or "valid". "same" pads until
    OH = ceil(H / stride), an odd pixel at the bottom and right: at a stride above 1 as Keras does
    (PyTorch refuses it there). groups = C: depthwise.
    """
    x, w = as_tensor(input), as_tensor(weight)
    options = stride, padding, dilation
    try:
        hash(options)
    except TypeError:  # lists
        options = hashable(options)
    geometry = conv_geometry(x.shape, w.shape, *options, groups)
    b = None if bias is None else as_tensor(bias)
    if b is not None and b.shape != (w.shape[0],):
        raise ValueError(f"conv2d: bias has shape {b.shape}, expected ({w.shape[0]},)")
    return Conv2d(geometry)(x, w, b)
