"""Layer normalisation, row by row. Drop-ins for the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import reference_norm
from tinynn.kernels.cpu_formulas import sqrt
from tinynn.kernels.cpu_rows import Row, rows
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any
BLOCKS = 64  # of rows at most, each with sums of its own: the same for any number of threads
LEAST = 16  # rows in a block

# ---------------------------------------------------------------------------------------------
# Formulas
# ---------------------------------------------------------------------------------------------


@rows("x y", shared="weight bias", numbers="mean rstd eps share")
def layer_norm_rows(row: Row) -> None:
    share = row.constant("share")  # 1 / D
    mean = row.sum(lambda x: x) * share
    var = row.sum(lambda x: (x - mean) * (x - mean)) * share
    rstd = 1 / sqrt(var + row.constant("eps"))
    row.each("y", lambda x, weight, bias: (x - mean) * rstd * weight + bias)
    row.store("mean", mean)
    row.store("rstd", rstd)


@rows("dy x dx", shared="weight", blocks="dweight dbias", numbers="mean rstd share")
def layer_norm_grad_rows(row: Row) -> None:
    mean, rstd, share = row.number("mean"), row.number("rstd"), row.constant("share")

    def sums(dy, x, weight, dweight, dbias):
        xhat = (x - mean) * rstd
        dxhat = dy * weight
        return dweight + dy * xhat, dbias + dy, dxhat, dxhat * xhat

    total, product = row.sum(sums, 2, into="dweight dbias")
    a, b = total * share * rstd, product * share * rstd * rstd
    row.each("dx", lambda dy, x, weight: dy * weight * rstd - a - (x - mean) * b)


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference_norm.layer_norm)
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.layer_norm."""
    if not x.size:
        return reference_norm.layer_norm(x, weight, bias, eps)
    m, d = x.shape
    y, mean, rstd = empty_like(x), np.empty((m, 1), np.float32), np.empty((m, 1), np.float32)
    arrays = {"x": x, "weight": weight, "bias": bias, "y": y, "mean": mean, "rstd": rstd}
    layer_norm_rows(x.shape, eps=float(eps), share=1 / d, **arrays)
    return y, mean, rstd


@float32_only(reference_norm.layer_norm_grad)
def layer_norm_grad(
    dy: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.layer_norm_grad: the sums over rows and columns in one pass."""
    if not x.size:
        return reference_norm.layer_norm_grad(dy, x, weight, mean, rstd)
    m, d = x.shape
    height = max(-(-m // BLOCKS), LEAST)
    dx, sums = empty_like(dy), np.zeros((2, -(-m // height), d), np.float32)
    arrays = {"dy": dy, "x": x, "weight": weight, "mean": mean, "rstd": rstd, "dx": dx}
    arrays |= {"dweight": sums[0], "dbias": sums[1]}
    layer_norm_grad_rows(x.shape, height, share=1 / d, **arrays)
    dweight, dbias = sums.sum(axis=1)
    return dx, dweight, dbias
