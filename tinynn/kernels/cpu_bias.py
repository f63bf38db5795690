"""A bias for the rows of an (M, C) matrix, and its gradient: sums of columns. Drop-ins.

Narrow rows are laid side by side: with 6 channels, 16 rows are one row of 96 columns, which fills
vector registers. Sums run over ROWS rows in float32 registers, and from there on in float64; each
block of rows has its own, so that they are the same whichever thread does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from tinynn.kernels import reference
from tinynn.kernels.cpu_formulas import where
from tinynn.kernels.cpu_loops import (
    QUICK,
    ROWS,
    Columns,
    as_doubles,
    as_floats,
    call_loop,
    columns,
    folds,
)
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, run
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any
BIAS = job_type("rows channels height loop y bias dy dz total totals")
EMPTY = Job(BIAS)
SMALL = 1 << 15  # elements: up to so many NumPy is done sooner
BLOCKS = 32  # of rows, at most; of whole ROWS but the last

# ---------------------------------------------------------------------------------------------
# Formulas
# ---------------------------------------------------------------------------------------------


@columns("y", BIAS)
def add_to_rows(y, *, bias):
    return y + bias


@columns("total", BIAS, scratch="total")
def sum_rows(dy, *, total):
    return total + dy


@columns("dz total", BIAS, scratch="total")
def close_and_sum_rows(dy, y, *, total):
    dz = where(y > 0, dy, 0)
    return dz, total + dz


@kernel(BIAS)
def sum_blocks(lo, hi, thread, job_pointer):
    """Task = block of `height` rows, which has a row of `total` and of `totals` to itself."""
    job = carray(job_pointer, 1)[0]
    size = job.channels
    for block in range(lo, hi):
        total = carray(as_floats(job.total + 4 * block * size), size)
        totals = carray(as_doubles(job.totals + 8 * block * size), size)
        totals[:] = 0
        end = min((block + 1) * job.height, job.rows)
        for row in range(block * job.height, end, ROWS):
            total[:] = 0
            call_loop(job.loop, row, min(row + ROWS, end), block, job_pointer)
            for k in range(size):
                totals[k] += total[k]


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference.add_bias)
def add_bias(y: Array, bias: Array) -> None:
    """Drop-in for reference.add_bias."""
    if y.size <= SMALL:
        y += bias
        return
    fold = folds(y.shape)
    channels = fold * y.shape[-1]
    rows = y.size // channels
    wide = bias if fold == 1 else np.tile(bias, fold)
    job = EMPTY.bind(channels=channels, y=y, bias=wide)
    run(add_to_rows, job, rows, quick=y.size < QUICK)


@float32_only(reference.column_sum)
def column_sum(dy: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.column_sum."""
    if dy.size <= SMALL:
        return dy.reshape(-1, dy.shape[-1]).sum(axis=0, out=out)
    return reference.put(sums(sum_rows, dy), out)


@float32_only(reference.relu_bias_grad)
def relu_bias_grad(dy: Array, y: Array, out: Array | None = None) -> tuple[Array, Array]:
    """Drop-in for reference.relu_bias_grad: one pass."""
    if dy.size <= SMALL:
        dz = np.where(y > 0, dy, np.float32(0))
        return dz, dz.reshape(-1, dz.shape[-1]).sum(axis=0, out=out)
    dz = empty_like(dy)
    return dz, reference.put(sums(close_and_sum_rows, dy, y=y, dz=dz), out)


def sums(loop: Columns, dy: Array, **others: Array) -> Array:
    """The column sums of what a loop adds up to `total`."""
    c = dy.shape[-1]
    channels = folds(dy.shape) * c
    rows = dy.size // channels
    height = ROWS * -(-rows // (ROWS * BLOCKS))
    blocks = -(-rows // height)
    total = np.empty((blocks, channels), np.float32)
    totals = np.empty((blocks, channels), np.float64)
    job = EMPTY.bind(
        rows=rows, channels=channels, height=height, loop=loop.address, dy=dy,
        total=total, totals=totals, **others,
    )  # fmt: skip
    run(sum_blocks, job, blocks, quick=dy.size < QUICK)
    return totals.reshape(-1, c).sum(axis=0).astype(np.float32)
