"""Sums and products of large arrays of one shape, and products of images with one number for each
image's channel, as squeeze-and-excitation takes them. Drop-ins; the reference has other shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from tinynn.kernels import reference
from tinynn.kernels.cpu_llvm import INT, Emitter, Tile
from tinynn.kernels.cpu_loops import QUICK, Columns, elementwise, strips
from tinynn.kernels.cpu_parallel import job_type
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any

SMALL = 1 << 14  # elements: fewer NumPy adds before a job begins
SCALE = job_type("channels pixels x y dy scale total")


class Images(Columns):
    """For every element of images (N, pixels, channels); the numbers are rows of (N, channels),
    and the sums run over an image's pixels. A task is an image."""

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        build = emit.build
        lo, hi, _, _ = emit.function.args
        channels, pixels = (self.field(emit, name, INT) for name in ("channels", "pixels"))
        with emit.loop(build.sub(hi, lo), []) as loop:
            row = build.mul(build.add(lo, loop.index), channels)
            first = dict.fromkeys(self.arrays, build.mul(row, pixels))
            first |= dict.fromkeys(self.numbers, row)
            arrays = {name: self.array(emit, name, first[name]) for name in self.names}
            for offset, vectors in strips(emit, tile, channels):
                places = {name: emit.at(a, offset) for name, a in arrays.items()}
                self.emit_strip(emit, places, pixels, channels, vectors)
        emit.finish()

    def __call__(self, shape: tuple[int, ...], **arrays: Array) -> None:
        n, *sizes, c = shape
        quick = math.prod(shape) < QUICK
        self.job.run(self.address, n, quick, channels=c, pixels=math.prod(sizes), **arrays)


def images(outputs: str) -> Callable[[Callable[..., Any]], Images]:
    return lambda formula: Images(formula, outputs, SCALE)


@elementwise("y")
def sums(a, b):
    return a + b


@elementwise("y")
def products(a, b):
    return a * b


@images("y")
def scaled(x, *, scale):
    return x * scale


@images("total")
def summed(dy, x, *, total):
    return total + dy * x


def scales(shape: tuple[int, ...], x_shape: tuple[int, ...]) -> bool:
    """(N, 1, 1, C) for (N, H, W, C): one number for each image's channel?"""
    return len(x_shape) > 2 and shape == (x_shape[0], *[1] * (len(x_shape) - 2), x_shape[-1])


def are_float32(*operands: Any) -> bool:
    return all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in operands)


def alike(a: Any, b: Any) -> bool:
    """Large arrays of one shape, and not numbers?"""
    return are_float32(a, b) and a.shape == b.shape and a.size >= SMALL


@float32_only(reference.add)
def add(a: Array, b: Array) -> Array:
    """Drop-in for reference.add."""
    if not alike(a, b):
        return reference.add(a, b)
    y = empty_like(a)
    sums(a=a, b=b, y=y)
    return y


@float32_only(reference.mul)
def mul(a: Array, b: Array) -> Array:
    """Drop-in for reference.mul."""
    if alike(a, b):
        y = empty_like(a)
        products(a=a, b=b, y=y)
        return y
    if not are_float32(a, b):  # one may be a number
        return reference.mul(a, b)
    x, scale = (a, b) if a.size > b.size else (b, a)
    if not scales(scale.shape, x.shape):
        return reference.mul(a, b)
    y = empty_like(x)
    scaled(x.shape, x=x, scale=scale, y=y)
    return y


@float32_only(reference.mul_grad)
def mul_grad(dy: Array, other: Array, shape: tuple[int, ...]) -> Array:
    """Drop-in for reference.mul_grad."""
    if not are_float32(dy, other) or dy.shape != other.shape or not scales(shape, dy.shape):
        return reference.unbroadcast(mul(dy, other), shape)
    total = np.zeros(shape, np.float32)
    summed(dy.shape, dy=dy, x=other, total=total)
    return total
