"""Convolution as the reference does it, a matrix product of patches and filters, but of a few rows
of pixels at a time: their patches stay in the cache, and threads take different images.

    images lo to hi   | some rows -> patches -> product | next rows -> ... | ...      one thread

The patches of a whole batch are nine times its size, which NumPy writes to memory and BLAS reads
back. Products are BLAS's, on one thread each. Taps that only ever see padding are left out: in the
last layers of a ResNet-18 on small images that is most of a filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numba import types, void

from tinynn.kernels import plain_depthwise, reference
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.geometry import Padding, Pair, conv_output_size, live_taps
from tinynn.kernels.memory import empty
from tinynn.kernels.plain_norm import batch_norm_inference
from tinynn.kernels.plain_threads import (
    IMAGES,
    INT,
    NEW_IMAGES,
    PAIR,
    array,
    compiled,
    in_parts,
)

Array = Any
NEW_PATCHES = array(types.float32, 3, write=True)  # (pixels, KH KW, C)
CHUNK = 1 << 17  # floats of patches at a time: half a megabyte
LONG = 512  # pixels at a time, at least: BLAS copies all filters for every product
FEW = 1 << 22  # multiply-adds: a convolution of fewer is done before another thread is awake


@compiled(void(IMAGES, NEW_PATCHES, PAIR, PAIR, PAIR, PAIR, PAIR, INT, INT))
def im2col(x, patches, kernel_size, stride, padding, dilation, out, lo, hi):
    """The patch under each pixel of rows lo to hi - 1 of the output, all images counted through."""
    _, h, w, c = x.shape
    for r in range(lo, hi):
        n, i = r // out[0], r % out[0]
        for j in range(out[1]):
            pixel = (r - lo) * out[1] + j
            for p in range(kernel_size[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                for q in range(kernel_size[1]):
                    column = j * stride[1] - padding[1] + q * dilation[1]
                    tap = p * kernel_size[1] + q
                    if 0 <= row < h and 0 <= column < w:
                        for k in range(c):  # indices, not views, which numba counts references of
                            patches[pixel, tap, k] = x[n, row, column, k]
                    else:
                        for k in range(c):
                            patches[pixel, tap, k] = 0


@compiled(void(NEW_PATCHES, NEW_IMAGES, PAIR, PAIR, PAIR, PAIR, PAIR, INT, INT))
def col2im(patches, dx, kernel_size, stride, padding, dilation, out, lo, hi):
    """Add each patch back onto the pixels that `im2col` reads it from."""
    _, h, w, c = dx.shape
    for r in range(lo, hi):
        n, i = r // out[0], r % out[0]
        for j in range(out[1]):
            pixel = (r - lo) * out[1] + j
            for p in range(kernel_size[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                for q in range(kernel_size[1]):
                    column = j * stride[1] - padding[1] + q * dilation[1]
                    tap = p * kernel_size[1] + q
                    if 0 <= row < h and 0 <= column < w:
                        for k in range(c):
                            dx[n, row, column, k] += patches[pixel, tap, k]


class Patches:
    """Where the patches of a convolution lie. `taps`: the part of a filter that sees the images,
    as slices of w; `depth`: its numbers."""

    def __init__(
        self,
        x_shape: tuple[int, ...],
        w_shape: tuple[int, ...],
        stride: Pair,
        padding: Padding,
        dilation: Pair,
    ):
        sides = list(zip(x_shape[1:3], w_shape[1:3], stride, padding, dilation))
        self.out = self.oh, self.ow = [conv_output_size(*side) for side in sides]
        live = [live_taps(*side) or [0] for side in sides]
        self.taps = (slice(None), *(slice(taps[0], taps[-1] + 1) for taps in live))
        kernel_size = tuple(taps[-1] + 1 - taps[0] for taps in live)
        start = tuple(p[0] - t[0] * d for p, t, d in zip(padding, live, dilation))
        self.geometry = kernel_size, stride, start, dilation, tuple(self.out)
        self.depth = kernel_size[0] * kernel_size[1] * x_shape[3]
        pixels = x_shape[0] * math.prod(self.out)
        self.many = pixels * self.depth * w_shape[0] >= FEW
        # Each patch is one pixel, in order: the images themselves are the patches.
        self.pixels = kernel_size == stride == (1, 1) and start == (0, 0)
        self.pixels &= self.out == list(x_shape[1:3])

    def filters(self, w: Array) -> Array:
        """(OC, KH KW C), of the live taps."""
        return w[self.taps].reshape(len(w), self.depth)

    def chunks(self, lo: int, hi: int) -> Iterator[tuple[int, int, slice]]:
        """Few rows of output pixels of images lo to hi - 1: the first, the end, their pixels."""
        rows = max(CHUNK // (self.ow * self.depth), -(-LONG // self.ow))
        for first in range(lo * self.oh, hi * self.oh, rows):
            end = min(first + rows, hi * self.oh)
            yield first, end, slice(first * self.ow, end * self.ow)

    def room(self, lo: int, hi: int) -> Array:
        """Memory for the patches of the largest chunk: (pixels, KH KW, C)."""
        _, _, first = next(self.chunks(lo, hi))
        taps = math.prod(self.geometry[0])
        return empty((0 if self.pixels else first.stop - first.start, taps, self.depth // taps))

    def of(self, x: Array, room: Array, first: int, end: int) -> Array:
        """(pixels, KH KW C): the patches of these rows."""
        if self.pixels:
            return x.reshape(-1, self.depth)[first * self.ow : end * self.ow]
        patches = room[: (end - first) * self.ow]
        im2col(x, patches, *self.geometry, first, end)
        return patches.reshape(-1, self.depth)


patches_of = lru_cache(maxsize=1024)(Patches)


@float32_only(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d."""
    if groups > 1:
        return plain_depthwise.conv2d(x, w, stride, padding, dilation, groups)
    patches = patches_of(x.shape, w.shape, stride, padding, dilation)
    y = empty((len(x), *patches.out, len(w)))
    pixels, filters = y.reshape(-1, len(w)), patches.filters(w).T

    def convolve(lo: int, hi: int) -> None:
        room = patches.room(lo, hi)
        for first, end, chunk in patches.chunks(lo, hi):
            np.matmul(patches.of(x, room, first, end), filters, out=pixels[chunk])

    in_parts(len(x), convolve, patches.many)
    return y


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
    """Drop-in for reference_norm.conv2d_batch_norm."""
    y = conv2d(x, w, stride, padding, dilation, groups)
    return batch_norm_inference(y, weight, bias, mean, var, residual, relu, eps)


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
    """Drop-in for reference.conv2d_input_grad."""
    if groups > 1:
        geometry = stride, padding, dilation, groups
        return plain_depthwise.conv2d_input_grad(dy, w, x_shape, *geometry, residual)
    patches = patches_of(x_shape, w.shape, stride, padding, dilation)
    dx = empty(x_shape)
    pixels, filters = dy.reshape(-1, len(w)), patches.filters(w)

    def convolve(lo: int, hi: int) -> None:
        dx[lo:hi] = 0 if residual is None else residual[lo:hi]
        room = patches.room(lo, hi)
        for first, end, chunk in patches.chunks(lo, hi):
            dpatches = room[: chunk.stop - chunk.start]
            np.matmul(pixels[chunk], filters, out=dpatches.reshape(-1, patches.depth))
            col2im(dpatches, dx, *patches.geometry, first, end)

    def multiply(lo: int, hi: int) -> None:
        chunk = slice(lo * patches.oh * patches.ow, hi * patches.oh * patches.ow)
        np.matmul(pixels[chunk], filters, out=dx.reshape(-1, patches.depth)[chunk])
        if residual is not None:
            dx[lo:hi] += residual[lo:hi]

    in_parts(len(dx), multiply if patches.pixels else convolve, patches.many)
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
    out: Array | None = None,
) -> Array:
    """Drop-in for reference.conv2d_weight_grad: each thread's sum, then theirs."""
    if groups > 1:
        geometry = stride, padding, dilation, groups
        return plain_depthwise.conv2d_weight_grad(dy, x, w_shape, *geometry, out)
    patches = patches_of(x.shape, w_shape, stride, padding, dilation)
    pixels = dy.reshape(-1, w_shape[0])
    sums: dict[int, Array] = {}  # of images lo to hi - 1, by lo

    def convolve(lo: int, hi: int) -> None:
        room = patches.room(lo, hi)
        total, product = empty((2, w_shape[0], patches.depth))
        for first, end, chunk in patches.chunks(lo, hi):
            begins = first == lo * patches.oh
            target = total if begins else product
            np.matmul(pixels[chunk].T, patches.of(x, room, first, end), out=target)
            if not begins:
                total += product
        sums[lo] = total

    in_parts(len(x), convolve, patches.many, parts=1)
    dw = np.empty(w_shape, np.float32) if out is None else out
    dw[...] = 0
    for lo in sorted(sums):
        dw[patches.taps] += sums[lo].reshape(dw[patches.taps].shape)
    return dw
