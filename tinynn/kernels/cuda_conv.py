"""CUDA drop-ins for convolutions and matrix products, on the tensor cores. See cuda/conv.cu.

Taps that only ever see padding are left out: of a 3 x 3 filter over a 1 x 1 image one is left.
Convolutions in groups have kernels of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import cuda_grouped_conv as grouped
from tinynn.kernels import reference
from tinynn.kernels.cuda_launch import MOST, drop_in, int32, kernel, per_element
from tinynn.kernels.geometry import Padding, Pair, conv_output_size, live_taps
from tinynn.kernels.precision import PRECISIONS, get_float32_matmul_precision
from tinynn.kernels.reference import Array, namespace

FILE = "conv"
TILE, DEPTH, THREADS = 64, 32, 128  # as in conv.cu
SHARED = 4 * 4 * TILE * (DEPTH + 4)  # two pairs of tiles, in bytes
BLOCKS = 264  # that a large GPU runs at once: two for each of 132 multiprocessors
POINTWISE = (1, 1), ((0, 0), (0, 0)), (1, 1), 1
SHARE_LEAST = 4 * DEPTH  # output pixels that are worth a block of their own


@drop_in(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d."""
    if groups != 1:
        return grouped.conv2d(x, w, stride, padding, dilation, groups)
    geometry = _geometry(x.shape, w.shape, stride, padding, dilation)
    (n, _, _, c), oc, out = x.shape, w.shape[0], geometry[3:5]
    y = namespace(x).empty((n, *out, oc), x.dtype)
    rows = y.size // oc
    options = _options(x, w, by_four=c % 4 == 0)
    _launch("conv2d", options, (rows, oc, 1), x, w, y, rows, *geometry)
    return y


@drop_in(reference.conv2d_input_grad)
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
    if groups != 1:
        return grouped.conv2d_input_grad(dy, w, x_shape, stride, padding, dilation, groups)
    c, oc = x_shape[3], w.shape[0]
    dx = namespace(dy).empty(x_shape, dy.dtype)
    geometry = _geometry(x_shape, w.shape, stride, padding, dilation)
    rows, options = dx.size // c, _options(dy, w, by_four=c % 4 == 0 and oc % 4 == 0)
    _launch("conv2d_input_grad", options, (rows, c, 1), dy, w, dx, rows, *geometry)
    return dx


@drop_in(reference.conv2d_weight_grad)
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
    """Drop-in for reference.conv2d_weight_grad: blocks share the pixels, their sums are added in
    order."""
    if groups != 1:
        return grouped.conv2d_weight_grad(dy, x, w_shape, stride, padding, dilation, groups, out)
    xp, c, oc = namespace(dy), x.shape[3], w_shape[0]
    geometry = _geometry(x.shape, w_shape, stride, padding, dilation)
    columns, pixels = geometry[-3] * geometry[-1] * c, dy.size // oc
    dw = xp.empty(w_shape, dy.dtype) if out is None else out
    tiles = -(-oc // TILE) * max(1, -(-columns // TILE))
    splits = max(1, min(BLOCKS // tiles, pixels // SHARE_LEAST))
    share = -(-pixels // splits)
    partial = xp.empty((splits, oc, columns), dy.dtype)
    options = _options(dy, x, by_four=c % 4 == 0 and oc % 4 == 0)
    if columns:
        sizes = oc, columns, splits
        _launch("conv2d_weight_grad", options, sizes, dy, x, partial, pixels, share, *geometry)
    per_element(
        FILE, "sum_shares", dw.size, partial, dw, *map(int32, (dw.size, splits, *geometry)),
        options=options,
    )  # fmt: skip
    return dw


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.matmul: what a linear layer and its gradients ask for is a convolution
    of 1 x 1 images and one of its gradients. cuBLAS, which multiplies the rest, cannot be recorded.
    """
    arrays = (a, b) if out is None else (a, b, out)
    if any(m.ndim != 2 or m.dtype != np.float32 or not 0 < m.size < MOST for m in arrays):
        return reference.matmul(a, b, out)
    if a.flags.c_contiguous and b.T.flags.c_contiguous:
        y = conv2d(_pixels(a), _pixels(b.T), *POINTWISE)
    elif a.flags.c_contiguous and b.flags.c_contiguous:
        shape = len(a), 1, 1, b.shape[1]
        y = conv2d_input_grad(_pixels(a), _pixels(b), shape, *POINTWISE)
    elif a.T.flags.c_contiguous and b.flags.c_contiguous:
        shape = a.shape[0], 1, 1, b.shape[1]
        y = conv2d_weight_grad(_pixels(a.T), _pixels(b), shape, *POINTWISE)
    else:
        return reference.matmul(a, b, out)
    y = y.reshape(a.shape[0], b.shape[1])
    if out is None:
        return y
    out[...] = y
    return out


def _pixels(matrix: Array) -> Array:
    """(M, C) -> (M, 1, 1, C): images of one pixel, or filters of one tap."""
    return matrix.reshape(len(matrix), 1, 1, -1)


def _geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> tuple[int, ...]:
    """The numbers of GEOMETRY in conv.cu, in its order."""
    sides = list(zip(x_shape[1:3], w_shape[1:3], stride, padding, dilation))
    live = [live_taps(*side) for side in sides]
    taps = [(seen[0], seen[-1] - seen[0] + 1) if seen else (0, 0) for seen in live]
    return (
        *x_shape[1:4], *(conv_output_size(*side) for side in sides), w_shape[0], *w_shape[1:3],
        *stride, padding[0][0], padding[1][0], *dilation, *taps[0], *taps[1],
    )  # fmt: skip


def _options(a: Array, b: Array, *, by_four: bool) -> tuple[str, ...]:
    """What conv.cu is compiled for, to multiply these: copied by four where their channels allow,
    and their addresses, for views into an optimiser's flat storage begin anywhere."""
    by_four = by_four and a.data.ptr % 16 == b.data.ptr % 16 == 0
    precision = PRECISIONS[get_float32_matmul_precision()]
    return f"-DPRECISION={precision}", f"-DVECTOR={4 if by_four else 1}"


def _launch(
    name: str, options: tuple[str, ...], sizes: tuple[int, int, int], *arguments: Any
) -> None:
    """Launch a product of (rows, columns, splits); the first three arguments are arrays."""
    arrays, numbers = arguments[:3], map(int32, arguments[3:])
    grid = -(-sizes[0] // TILE), -(-sizes[1] // TILE), sizes[2]
    function = kernel(namespace(arrays[0]), FILE, name, options)
    function(grid, (THREADS,), (*arrays, *numbers), shared_mem=SHARED)
