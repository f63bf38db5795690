"""Batch and layer normalisation in plain array code.

Sums over many rows run in float64: in float32 a plain column sum of 100,000 numbers loses three
digits.
"""

from __future__ import annotations

import numpy as np

from tinynn.kernels.geometry import Padding, Pair
from tinynn.kernels.reference import (
    Array,
    conv2d,
    kernel,
    namespace,
    put,
    relu_grad,
)


@kernel
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) / sqrt(var + eps) + bias [+ residual], [max(., 0)]; training mode.

    x (..., C), statistics over all other axes -> y (..., C), mean (C,), biased var (C,).
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    rows = x.reshape(-1, x.shape[-1])  # (M, C)
    mean = rows.mean(axis=0, dtype=np.float64).astype(x.dtype)
    var = ((rows - mean) ** 2).mean(axis=0, dtype=np.float64).astype(x.dtype)
    y = batch_norm_inference(x, weight, bias, mean, var, residual, relu, eps)
    return y, mean, var


@kernel
def update_running_statistics(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    momentum: float | None,
    count: int,
    batches: Array | None = None,
) -> None:
    """running <- (1 - momentum) running + momentum batch, in place. All (C,).

    Of the variance the unbiased one is averaged: `var` times count / (count - 1). `batches` (),
    integer: how many there were; it counts on. Without momentum all of them have the same share.
    """
    if batches is not None:
        batches += 1
        momentum = 1 / batches if momentum is None else momentum
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)


@kernel
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
    """-> dx (..., C), dweight (C,), dbias (C,), and dresidual (..., C) or None if not needed.

    dx = weight rstd (dz - mean(dz) - xhat mean(dz xhat)) with xhat = (x - mean) rstd and dz the
    gradient before the ReLU, which is also dresidual: the statistics depend on x too. y, needed
    only with a residual and relu, tells where the ReLU was open; else x does, with one array less
    to read. `out_weight`, `out_bias`: where to put dweight and dbias. `in_place`: a gradient may be
    written in place of dy, where that saves time.
    """
    rstd = (var + eps) ** -0.5
    dz, dweight, dbias, xhat = batch_norm_sums(dy, x, y, weight, bias, mean, rstd, relu)
    m = x.size // x.shape[-1]
    dx = (weight * rstd) * (dz - dbias / m - xhat * (dweight / m))
    return dx, put(dweight, out_weight), put(dbias, out_bias), dz if needs_residual else None


@kernel
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
    """The same formula with given statistics: evaluation mode. x (..., C) -> y (..., C)."""
    y = (x - mean) * (weight * (var + eps) ** -0.5) + bias
    if residual is not None:
        y = y + residual
    return namespace(x).maximum(y, 0) if relu else y


@kernel
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
    """`batch_norm_inference` of `conv2d`."""
    y = conv2d(x, w, stride, padding, dilation, groups)
    return batch_norm_inference(y, weight, bias, mean, var, residual, relu, eps)


@kernel
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
    """As `batch_norm_grad` with constant statistics: dx = weight rstd dz."""
    rstd = (var + eps) ** -0.5
    dz, dweight, dbias, _ = batch_norm_sums(dy, x, y, weight, bias, mean, rstd, relu)
    dx, dweight, dbias = dz * (weight * rstd), put(dweight, out_weight), put(dbias, out_bias)
    return dx, dweight, dbias, dz if needs_residual else None


def batch_norm_sums(
    dy: Array, x: Array, y: Array | None, weight: Array, bias: Array, mean: Array, rstd: Array,
    relu: bool,
):  # fmt: skip
    """-> dz (..., C) through the ReLU, sum(dz xhat) (C,), sum(dz) (C,), xhat (..., C)."""
    xhat = (x - mean) * rstd
    if y is None:
        y = (x - mean) * (weight * rstd) + bias
    dz = relu_grad(dy, y) if relu else dy
    axes = tuple(range(x.ndim - 1))
    dweight = (dz * xhat).sum(axis=axes, dtype=np.float64).astype(x.dtype)
    return dz, dweight, dz.sum(axis=axes, dtype=np.float64).astype(x.dtype), xhat


@kernel
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) rstd + bias for each row. x (M, D) -> y (M, D), mean, rstd (M, 1)."""
    mean = x.mean(axis=1, keepdims=True)
    rstd = (((x - mean) ** 2).mean(axis=1, keepdims=True) + eps) ** -0.5
    return (x - mean) * rstd * weight + bias, mean, rstd


@kernel
def layer_norm_grad(
    dy: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """-> dx (M, D), dweight (D,), dbias (D,)."""
    xhat = (x - mean) * rstd
    dxhat = dy * weight
    dx = rstd * (
        dxhat
        - dxhat.mean(axis=1, keepdims=True)
        - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
    )
    return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)
