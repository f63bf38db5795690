"""CUDA kernels of convolutions in groups; `cuda_conv` turns to them. See cuda/grouped_conv.cu."""

from __future__ import annotations

from tinynn.kernels.cuda_launch import int32, per_element, result
from tinynn.kernels.geometry import Padding, Pair, conv_output_size
from tinynn.kernels.reference import Array, namespace

FILE = "grouped_conv"
SHARE = 512  # output pixels that one thread sums a weight's gradient over,
MOST_SUMS = 1 << 24  # or more, so as to leave no more sums than these


def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """As reference.conv2d: each thread one element of y."""
    geometry = _geometry(x.shape, w.shape, stride, padding, dilation, groups)
    y = result(x, (len(x), *geometry[3:5], len(w)))
    per_element(FILE, "conv2d", y.size, x, w, y, *map(int32, (y.size, *geometry)))
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
    """As reference.conv2d_input_grad: each thread one element of dx."""
    geometry = _geometry(x_shape, w.shape, stride, padding, dilation, groups)
    dx, added = result(dy, x_shape), residual is not None
    per_element(
        FILE, "conv2d_input_grad", dx.size, dy, w, dx, residual if added else dx,
        *map(int32, (added, dx.size, *geometry)),
    )  # fmt: skip
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
    """As reference.conv2d_weight_grad: threads share the pixels, their sums are added in order."""
    geometry, xp = _geometry(x.shape, w_shape, stride, padding, dilation, groups), namespace(dy)
    dw = result(dy, w_shape) if out is None else out
    pixels = dy.size // len(dw)
    share = min(pixels, max(SHARE, -(-pixels * dw.size // MOST_SUMS)))
    splits = -(-pixels // share)
    partial = xp.empty((splits, dw.size), dy.dtype)
    sizes = map(int32, (partial.size, pixels, share, *geometry))
    per_element(FILE, "conv2d_weight_grad", partial.size, dy, x, partial, *sizes)
    sizes = map(int32, (dw.size, splits, len(dw)))
    per_element(FILE, "sum_shares", dw.size, partial, dw, *sizes)
    return dw


def _geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[int, ...]:
    """The numbers of GEOMETRY in grouped_conv.cu, in its order."""
    sides = zip(x_shape[1:3], w_shape[1:3], stride, padding, dilation)
    out = (conv_output_size(*side) for side in sides)
    return (
        *x_shape[1:], *out, *w_shape[:3], *stride, padding[0][0], padding[1][0], *dilation, groups,
    )  # fmt: skip
