"""A bias for the rows of an (M, C) matrix, and its gradient: sums of columns. Drop-ins.

Narrow rows are laid side by side: with 6 channels, 16 rows are one row of 96 columns, which fills
vector registers. Sums run over ROWS rows in float32 registers, and from there on in float64; each
block of rows has its own, so that they are the same whichever thread does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
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
from tinynn.kernels.cpu_parallel import Job, address, job_type, kernel, scratch
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any
BIAS = job_type("rows channels height loop y bias dy dz total totals parts columns sums")
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


@kernel(BIAS)
def add_parts(lo, hi, thread, job_pointer):
    """Task = column: its sum, of the `parts` in all blocks and of rows side by side."""
    job = carray(job_pointer, 1)[0]
    totals = carray(as_doubles(job.totals), (job.parts, job.columns))
    sums = carray(as_floats(job.sums), job.columns)
    for k in range(lo, hi):
        total = 0.0
        for part in range(job.parts):
            total += totals[part, k]
        sums[k] = total


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
    EMPTY.run(add_to_rows.address, rows, y.size < QUICK, channels=channels, y=y, bias=wide)


@float32_only(reference.column_sum)
def column_sum(dy: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.column_sum."""
    if dy.size <= SMALL:
        return dy.reshape(-1, dy.shape[-1]).sum(axis=0, out=out)
    return sums(sum_rows, dy, out)


def relu_bias_grad(dy: Array, y: Array, out: Array | None, in_place: bool) -> tuple[Array, Array]:
    """dy where y is positive, and its column sums: one pass."""
    dz = dy if in_place else empty_like(dy)
    return dz, sums(close_and_sum_rows, dy, out, y=y, dz=dz)


@dataclass(frozen=True)
class Prepared:
    """All of the sums of columns that depends on the shape only."""

    job: Job
    blocks: int
    numbers: int  # float64 and float32 ones, as many of each
    quick: bool


@lru_cache(maxsize=256)
def prepare(shape: tuple[int, ...]) -> Prepared:
    c, size, fold = shape[-1], math.prod(shape), folds(shape)
    rows = size // (fold * c)
    height = ROWS * -(-rows // (ROWS * BLOCKS))
    blocks = -(-rows // height)
    parts = blocks * fold
    job = Job(BIAS, rows=rows, channels=fold * c, height=height, parts=parts, columns=c)
    return Prepared(job, blocks, parts * c, size < QUICK)


def sums(loop: Columns, dy: Array, out: Array | None, **others: Array) -> Array:
    """The column sums of what a loop adds up to `total`."""
    prepared = prepare(dy.shape)
    if out is None:
        out = np.empty(dy.shape[-1], np.float32)
    memory = scratch("sums of columns", 3 * prepared.numbers)
    totals = address(memory)
    prepared.job.run(
        sum_blocks, prepared.blocks, prepared.quick,
        add_parts, out.size, True,
        loop=loop.address, dy=dy, totals=totals, total=totals + 8 * prepared.numbers, sums=out,
        **others,
    )  # fmt: skip
    return out
