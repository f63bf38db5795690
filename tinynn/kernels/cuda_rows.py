"""CUDA drop-ins for what works row by row: softmax, its logarithm, layer normalisation."""

from __future__ import annotations

from typing import Any

from tinynn.kernels import reference_norm, reference_softmax
from tinynn.kernels.cuda_launch import drop_in, float32, int32, kernel, like
from tinynn.kernels.cuda_norm import layer_norm_sums
from tinynn.kernels.reference import Array, namespace

WARP, WARPS = 32, 4  # lanes for a row, rows for a block


def _per_row(name: str, rows: int, *arguments: Any) -> None:
    """Launch a kernel with one warp for each row. The first argument is an array."""
    launch = kernel(namespace(arguments[0]), "rows", name)
    launch((-(-rows // WARPS),), (WARP, WARPS), arguments)


def _is_last(x: Array, axis: int) -> bool:
    return axis in (-1, x.ndim - 1)


@drop_in(reference_softmax.softmax)
def softmax(x: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.softmax along the last axis."""
    return _softmax(x, 0) if _is_last(x, axis) else reference_softmax.softmax(x, axis)


@drop_in(reference_softmax.log_softmax)
def log_softmax(x: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.log_softmax along the last axis."""
    return _softmax(x, 1) if _is_last(x, axis) else reference_softmax.log_softmax(x, axis)


@drop_in(reference_softmax.softmax_grad)
def softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.softmax_grad along the last axis."""
    return (
        _softmax_grad(dy, y, 0)
        if _is_last(y, axis)
        else reference_softmax.softmax_grad(dy, y, axis)
    )


@drop_in(reference_softmax.log_softmax_grad)
def log_softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.log_softmax_grad along the last axis."""
    last = _is_last(y, axis)
    return _softmax_grad(dy, y, 1) if last else reference_softmax.log_softmax_grad(dy, y, axis)


def _softmax(x: Array, logarithm: int) -> Array:
    y, d = like(x), x.shape[-1]
    _per_row("softmax", x.size // d, x, y, int32(x.size // d), int32(d), int32(logarithm))
    return y


def _softmax_grad(dy: Array, y: Array, logarithm: int) -> Array:
    dx, d = like(y), y.shape[-1]
    sizes = int32(y.size // d), int32(d)
    _per_row("softmax_grad", y.size // d, dy, y, dx, *sizes, int32(logarithm))
    return dx


@drop_in(reference_norm.layer_norm)
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.layer_norm."""
    (rows, d), xp = x.shape, namespace(x)
    y, mean, rstd = like(x), xp.empty((rows, 1), x.dtype), xp.empty((rows, 1), x.dtype)
    sizes = int32(rows), int32(d), float32(eps)
    _per_row("layer_norm", rows, x, weight, bias, y, mean, rstd, *sizes)
    return y, mean, rstd


@drop_in(reference_norm.layer_norm_grad)
def layer_norm_grad(
    dy: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.layer_norm_grad."""
    (rows, d), dx = x.shape, like(x)
    _per_row("layer_norm_grad", rows, dy, x, weight, mean, rstd, dx, int32(rows), int32(d))
    return dx, *layer_norm_sums(dy, x, mean, rstd)
