"""Convolution as BLAS products over patches, a slice of the batch at a time.

Drop-ins for the reference's triplet. Two tricks: patches are copied by all threads, for as many
samples as stay in the cache; and taps of the filter that only ever see padding are left out
(on a 1x1 map a 3x3 filter has one live tap of nine).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.geometry import Padding, Pair, conv_output_size, live_taps
from tinynn.kernels.numba_setup import float32_only, parallel

Array = Any
PATCH_BYTES = 4 << 20  # patches of one slice of the batch


class Geometry(NamedTuple):
    """What a convolution's shapes fix: output size, live taps, and where each tap reads."""

    out: Pair
    rows: np.ndarray  # live taps along the height
    columns: np.ndarray  # and along the width
    row_offset: np.ndarray  # of each live row of taps from the window's position, in pixels
    column_offset: np.ndarray
    pointwise: bool  # a 1x1 filter at stride 1: the image already is the matrix of patches
    all_live: bool


@lru_cache(maxsize=512)
def geometry(size: Pair, taps: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Geometry:
    """The geometry of one convolution layer, worked out once."""
    axes = range(2)
    oh, ow = (conv_output_size(size[a], taps[a], stride[a], padding[a], dilation[a]) for a in axes)
    rows, columns = (
        # One tap stays where a filter sees padding alone: empty products need no special case.
        np.array(live_taps(size[a], taps[a], stride[a], padding[a], dilation[a]) or [0])
        for a in axes
    )
    return Geometry(
        (oh, ow),
        rows,
        columns,
        rows * dilation[0] - padding[0][0],
        columns * dilation[1] - padding[1][0],
        taps == (1, 1) and stride == (1, 1) and padding == ((0, 0), (0, 0)),
        len(rows) == taps[0] and len(columns) == taps[1],
    )


@parallel
def gather(x, patches, row_offset, column_offset, stride_h, stride_w):
    """x (N, H, W, C) -> patches (N, OH, OW, KH, KW, C), zero outside the image."""
    n, h, w, c = x.shape
    _, oh, ow, kh, kw, _ = patches.shape
    for job in numba.prange(n * oh):
        sample = job // oh
        i = job - sample * oh
        for j in range(ow):
            for a in range(kh):
                y = i * stride_h + row_offset[a]
                for b in range(kw):
                    z = j * stride_w + column_offset[b]
                    if 0 <= y < h and 0 <= z < w:
                        for k in range(c):
                            patches[sample, i, j, a, b, k] = x[sample, y, z, k]
                    else:
                        for k in range(c):
                            patches[sample, i, j, a, b, k] = 0


@parallel
def scatter(patches, x, row_offset, column_offset, stride_h, stride_w):
    """The adjoint of `gather`: x (N, H, W, C) = each patch added where it was read."""
    n, h, w, c = x.shape
    _, oh, ow, kh, kw, _ = patches.shape
    for sample in numba.prange(n):
        x[sample] = 0
        for i in range(oh):
            for j in range(ow):
                for a in range(kh):
                    y = i * stride_h + row_offset[a]
                    for b in range(kw):
                        z = j * stride_w + column_offset[b]
                        if 0 <= y < h and 0 <= z < w:
                            for k in range(c):
                                x[sample, y, z, k] += patches[sample, i, j, a, b, k]


def slices(n: int, sample_size: int) -> list[slice]:
    """The batch in equal slices whose patches take about PATCH_BYTES."""
    step = max(1, min(n, PATCH_BYTES // (4 * sample_size)))
    return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]


def live_weights(w: Array, g: Geometry) -> Array:
    """(OC, KH, KW, C) -> (OC, live KH, live KW, C)."""
    return w if g.all_live else np.ascontiguousarray(w[:, g.rows[:, None], g.columns])


@float32_only(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d; grouped convolutions are left to it."""
    if groups != 1:
        return reference.conv2d(x, w, stride, padding, dilation, groups)
    n, h, width, c = x.shape
    g = geometry((h, width), w.shape[1:3], stride, padding, dilation)
    oc, (oh, ow) = len(w), g.out
    filters = live_weights(w, g).reshape(oc, -1).T  # (K, OC)
    if g.pointwise:
        return (x.reshape(-1, c) @ filters).reshape(n, oh, ow, oc)
    y = np.empty((n, oh, ow, oc), np.float32)
    for part in slices(n, oh * ow * len(filters)):
        patches = new_patches(part, g, c)
        gather(x[part], patches, g.row_offset, g.column_offset, *stride)
        np.matmul(patches.reshape(-1, len(filters)), filters, out=y[part].reshape(-1, oc))
    return y


def new_patches(part: slice, g: Geometry, c: int) -> Array:
    """An uninitialised array of patches for a slice of the batch."""
    shape = (part.stop - part.start, *g.out, len(g.rows), len(g.columns), c)
    return np.empty(shape, np.float32)


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
    if groups != 1:
        return reference.conv2d_input_grad(dy, w, x_shape, stride, padding, dilation, groups)
    n, h, width, c = x_shape
    g = geometry((h, width), w.shape[1:3], stride, padding, dilation)
    oc = len(w)
    filters = live_weights(w, g).reshape(oc, -1)  # (OC, K)
    if g.pointwise:
        return (dy.reshape(-1, oc) @ filters).reshape(x_shape)
    dx = np.empty(x_shape, np.float32)
    for part in slices(n, g.out[0] * g.out[1] * filters.shape[1]):
        patches = new_patches(part, g, c)
        np.matmul(dy[part].reshape(-1, oc), filters, out=patches.reshape(-1, filters.shape[1]))
        scatter(patches, dx[part], g.row_offset, g.column_offset, *stride)
    return dx


@float32_only(reference.conv2d_weight_grad)
def conv2d_weight_grad(
    dy: Array,
    x: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    """Drop-in for reference.conv2d_weight_grad."""
    if groups != 1:
        return reference.conv2d_weight_grad(dy, x, w_shape, stride, padding, dilation, groups)
    n, h, width, c = x.shape
    g = geometry((h, width), w_shape[1:3], stride, padding, dilation)
    oc = w_shape[0]
    if g.pointwise:
        return (dy.reshape(-1, oc).T @ x.reshape(-1, c)).reshape(w_shape)
    live = np.zeros((oc, len(g.rows) * len(g.columns) * c), np.float32)
    for part in slices(n, g.out[0] * g.out[1] * live.shape[1]):
        patches = new_patches(part, g, c)
        gather(x[part], patches, g.row_offset, g.column_offset, *stride)
        live += dy[part].reshape(-1, oc).T @ patches.reshape(-1, live.shape[1])
    live = live.reshape(oc, len(g.rows), len(g.columns), c)
    if g.all_live:
        return live
    dw = np.zeros(w_shape, np.float32)
    dw[:, g.rows[:, None], g.columns] = live
    return dw
