"""Batch normalisation and sums over rows, in one pass each. Drop-ins for the reference's.

NumPy makes an array of every intermediate result; a loop keeps it in a register. Sums are in
float64, as the reference's, and of blocks of rows whose number is always the same: so they are the
same bit for bit, however many threads there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types, void

from tinynn.kernels import reference, reference_norm
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like
from tinynn.kernels.plain_threads import (
    BOOL,
    MATRIX,
    NEW_MATRIX,
    SMALL,
    VECTOR,
    array,
    compiled,
    in_parts,
    share_out,
)

Array = Any
BLOCKS = 32  # of rows
SUMS = array(types.float64, 2, write=True)  # two of each channel, or one
NOTHING = types.none  # numba compiles a version for each kind of argument

# ---------------------------------------------------------------------------------------------
# Loops over rows (M, C)
# ---------------------------------------------------------------------------------------------


@compiled(void(MATRIX, SUMS))
def moments(x, sums):
    """The sums of x and of x^2."""
    for i in range(len(x)):
        for k in range(x.shape[1]):
            v = np.float64(x[i, k])
            sums[0, k] += v
            sums[1, k] += v * v


@compiled(*(void(MATRIX, MATRIX, y, SUMS, VECTOR) for y in (MATRIX, NOTHING)))
def gradient_sums(dy, x, y, sums, mean):
    """The sums of dz and of dz (x - mean), with dz = dy where y, if given, is positive."""
    for i in range(len(x)):
        for k in range(x.shape[1]):
            dz = dy[i, k]
            if y is not None:
                dz = dz if y[i, k] > 0 else np.float32(0)
            sums[0, k] += dz
            sums[1, k] += np.float64(dz) * (x[i, k] - mean[k])


@compiled(void(MATRIX, SUMS))
def plain_sums(dy, sums):
    for i in range(len(dy)):
        for k in range(dy.shape[1]):
            sums[0, k] += dy[i, k]


@compiled(
    *(
        void(MATRIX, residual, NEW_MATRIX, VECTOR, VECTOR, VECTOR, BOOL)
        for residual in (MATRIX, NOTHING)
    )
)
def normalise(x, residual, y, mean, scale, bias, relu):
    """y = (x - mean) scale + bias [+ residual], [max(., 0)]."""
    for i in range(len(x)):
        for k in range(x.shape[1]):
            v = (x[i, k] - mean[k]) * scale[k] + bias[k]
            if residual is not None:
                v += residual[i, k]
            y[i, k] = np.float32(0) if relu and v < 0 else v  # NaN stays


@compiled(
    *(
        void(MATRIX, MATRIX, y, NEW_MATRIX, dz, VECTOR, VECTOR, VECTOR, VECTOR)
        for y in (MATRIX, NOTHING)
        for dz in (NEW_MATRIX, NOTHING)
    )
)
def normalise_grad(dy, x, y, dx, dz, mean, a, b, c):
    """dx = a dz + b (x - mean) + c, with dz as in `gradient_sums`, kept if there is an array."""
    for i in range(len(x)):
        for k in range(x.shape[1]):
            v = dy[i, k]
            if y is not None:
                v = v if y[i, k] > 0 else np.float32(0)
            if dz is not None:
                dz[i, k] = v
            dx[i, k] = a[k] * v + b[k] * (x[i, k] - mean[k]) + c[k]


@compiled(void(NEW_MATRIX, VECTOR, BOOL))
def add_to_rows(y, bias, relu):
    """y + bias, [max(., 0)], in place."""
    for i in range(len(y)):
        for k in range(y.shape[1]):
            v = y[i, k] + bias[k]
            y[i, k] = np.float32(0) if relu and v < 0 else v  # NaN stays


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


def rows(x: Array) -> Array:
    """(..., C) -> (M, C)."""
    return x.reshape(-1, x.shape[-1])


def sum_blocks(loop: Any, count: int, arrays: Sequence[Any], *others: Any) -> Array:
    """What a loop sums over blocks of rows, in their order: (count, C) in float64."""
    m, channels = arrays[0].shape
    sums = np.zeros((BLOCKS, count, channels))

    def part(lo: int, hi: int) -> None:
        for block in range(lo, hi):
            rows = slice(m * block // BLOCKS, m * (block + 1) // BLOCKS)
            loop(*(None if a is None else a[rows] for a in arrays), sums[block], *others)

    in_parts(BLOCKS, part, arrays[0].size >= SMALL)
    return sums.sum(axis=0)


@float32_only(reference_norm.batch_norm)
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.batch_norm: one pass for both moments, one for the rest."""
    m = x.size // x.shape[-1]
    total, square = sum_blocks(moments, 2, [rows(x)])
    mean = total / m
    var = np.maximum(square / m - mean * mean, 0).astype(np.float32)
    mean = mean.astype(np.float32)
    return batch_norm_inference(x, weight, bias, mean, var, residual, relu, eps), mean, var


@float32_only(reference_norm.batch_norm_inference)
def batch_norm_inference(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    residual: Array | None,
    relu: bool,
    eps: float,
) -> Array:
    """Drop-in for reference_norm.batch_norm_inference."""
    y = empty_like(x)
    scale = weight * (var + np.float32(eps)) ** -0.5
    added = None if residual is None else rows(residual)
    share_out(normalise, [rows(x), added, rows(y)], mean, scale, bias, relu)
    return y


@float32_only(reference_norm.batch_norm_grad)
def batch_norm_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None = None,
    out_bias: Array | None = None,
    in_place: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference_norm.batch_norm_grad: one pass for sums, one for gradients."""
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return _norm_grad(*given, constant=False)


@float32_only(reference_norm.batch_norm_inference_grad)
def batch_norm_inference_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None = None,
    out_bias: Array | None = None,
    in_place: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference_norm.batch_norm_inference_grad."""
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return _norm_grad(*given, constant=True)


def _norm_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None,
    out_bias: Array | None,
    *,
    constant: bool,
) -> tuple[Array, Array, Array, Array | None]:
    """`constant`: the statistics are, so dx = weight rstd dz."""
    rstd = (var.astype(np.float64) + eps) ** -0.5
    if not relu:
        y = None
    elif y is None:
        y = batch_norm_inference(x, weight, bias, mean, var, None, True, eps)
    given = rows(dy), rows(x), None if y is None else rows(y)
    dbias, dweight = sum_blocks(gradient_sums, 2, given, mean)
    dweight *= rstd
    m = x.size // x.shape[-1]
    a = weight * rstd
    b, c = (0 * a, 0 * a) if constant else (-a * rstd * dweight / m, -a * dbias / m)
    dx, dz = empty_like(x), empty_like(x) if needs_residual else None
    numbers = [v.astype(np.float32) for v in (a, b, c)]
    results = rows(dx), None if dz is None else rows(dz)
    share_out(normalise_grad, [*given, *results], mean, *numbers)
    dweight = reference.put(dweight.astype(np.float32), out_weight)
    return dx, dweight, reference.put(dbias.astype(np.float32), out_bias), dz


@float32_only(reference.add_bias)
def add_bias(y: Array, bias: Array) -> None:
    """Drop-in for reference.add_bias."""
    share_out(add_to_rows, [rows(y)], bias, False)


@float32_only(reference.column_sum)
def column_sum(dy: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.column_sum."""
    return reference.put(sum_blocks(plain_sums, 1, [rows(dy)])[0].astype(np.float32), out)
