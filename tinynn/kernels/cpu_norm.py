"""Batch normalisation in two passes over an (M, C) matrix, residual and ReLU folded in.

Drop-ins for the reference's. Rows are dealt to a fixed number of blocks whose float64 sums are
added in order, so that the result does not depend on which thread took which block.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.numba_setup import float32_only, parallel

Array = Any
BLOCKS = 16
NOTHING = np.empty((0, 0), np.float32)  # stands for an absent array: numba types are fixed


@parallel
def moments(x, sums, squares):
    """Block sums of x and x^2 over rows. x (M, C), sums and squares (BLOCKS, C) float64."""
    m, c = x.shape
    for block in numba.prange(BLOCKS):
        total, square = np.zeros(c), np.zeros(c)
        for i in range(m * block // BLOCKS, m * (block + 1) // BLOCKS):
            for k in range(c):
                v = np.float64(x[i, k])
                total[k] += v
                square[k] += v * v
        sums[block] = total
        squares[block] = square


@parallel
def affine(x, scale, shift, residual, relu, y):
    """y = scale x + shift [+ residual], [max(., 0)], row by row."""
    m, c = x.shape
    add = residual.size > 0
    for block in numba.prange(BLOCKS):
        for i in range(m * block // BLOCKS, m * (block + 1) // BLOCKS):
            if add:
                for k in range(c):
                    y[i, k] = x[i, k] * scale[k] + shift[k] + residual[i, k]
            else:
                for k in range(c):
                    y[i, k] = x[i, k] * scale[k] + shift[k]
            if relu:
                for k in range(c):
                    y[i, k] = y[i, k] if not (y[i, k] <= 0) else np.float32(0)  # NaN stays


@parallel
def gradient_sums(dy, x, y, mean, rstd, dz, sums, products):
    """dz = dy where y > 0 (if y is given), and block sums of dz and dz xhat (BLOCKS, C)."""
    m, c = x.shape
    masked = y.size > 0
    for block in numba.prange(BLOCKS):
        total, product = np.zeros(c), np.zeros(c)
        for i in range(m * block // BLOCKS, m * (block + 1) // BLOCKS):
            for k in range(c):
                g = dy[i, k]
                if masked:
                    g = g if y[i, k] > 0 else np.float32(0)
                    dz[i, k] = g
                total[k] += g
                product[k] += g * ((x[i, k] - mean[k]) * rstd[k])
        sums[block] = total
        products[block] = product


@parallel
def combine(dz, x, a, b, shift, dx):
    """dx = a dz + b x + shift, each channel with its own numbers."""
    m, c = x.shape
    for block in numba.prange(BLOCKS):
        for i in range(m * block // BLOCKS, m * (block + 1) // BLOCKS):
            for k in range(c):
                dx[i, k] = a[k] * dz[i, k] + b[k] * x[i, k] + shift[k]


def rows(x: Array | None) -> Array:
    """(..., C) -> (M, C)."""
    return NOTHING if x is None else x.reshape(-1, x.shape[-1])


@float32_only(reference.batch_norm)
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference.batch_norm: one pass for the statistics, one for the output."""
    m, c = x.size // x.shape[-1], x.shape[-1]
    sums, squares = np.empty((BLOCKS, c)), np.empty((BLOCKS, c))
    moments(rows(x), sums, squares)
    mean = sums.sum(axis=0) / m
    var = np.maximum(squares.sum(axis=0) / m - mean * mean, 0)
    mean, var = mean.astype(np.float32), var.astype(np.float32)
    return batch_norm_inference(x, weight, bias, mean, var, residual, relu, eps), mean, var


@float32_only(reference.batch_norm_inference)
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
    """Drop-in for reference.batch_norm_inference."""
    scale = weight * (var + np.float32(eps)) ** np.float32(-0.5)
    y = np.empty_like(x)
    affine(rows(x), scale, bias - mean * scale, rows(residual), relu, rows(y))
    return y


@float32_only(reference.batch_norm_grad)
def batch_norm_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference.batch_norm_grad: the gradient through the ReLU is formed once."""
    m, c = x.size // x.shape[-1], x.shape[-1]
    rstd = (var + np.float32(eps)) ** np.float32(-0.5)
    dz = np.empty_like(dy) if relu else dy
    sums, products = np.empty((BLOCKS, c)), np.empty((BLOCKS, c))
    masks = (rows(y), rows(dz)) if relu else (NOTHING, NOTHING)  # dy itself may be read-only
    gradient_sums(rows(dy), rows(x), masks[0], mean, rstd, masks[1], sums, products)
    dbias, dweight = sums.sum(axis=0), products.sum(axis=0)
    # dx = scale (dz - dbias/m - (x - mean) rstd dweight/m), gathered by what multiplies dz and x
    scale = (weight * rstd).astype(np.float64)
    b = -scale * rstd * dweight / m
    shift = -scale * dbias / m - b * mean
    dx = np.empty_like(x)
    a32, b32, shift32 = (v.astype(np.float32) for v in (scale, b, shift))
    combine(rows(dz), rows(x), a32, b32, shift32, rows(dx))
    dresidual = dz if needs_residual else None
    return dx, dweight.astype(np.float32), dbias.astype(np.float32), dresidual
