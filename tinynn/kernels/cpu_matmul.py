"""Drop-in matrix product for float32 on the CPU: C = A B in tiles, however A and B lie in memory.

              panel of B: `width` columns,
              copied so that its rows follow one another
                     |    |
          A          v    v
      [ . . . . ]   [ b b b b ]      a task: some rows and one panel; the panel stays in the cache
      [ a a a a ]   [ b b b b ]      while all the rows meet it, 12 at a time
      [ . . . . ]   [ b b b b ]

A linear layer asks for three forms: y = x w', dx = dy w and dw = dy' x. The tiles take rows of A
as they lie if their numbers follow one another, as in the first two; a transposed view, as in the
third, is copied first. A long sum is added up in lots, which keeps float32 accurate.

Few multiplications are left to BLAS, which starts sooner (and has one thread: see `threads.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray

from tinynn.kernels import cpu_dot_conv, reference
from tinynn.kernels.cpu_direct_conv import Axis, integers
from tinynn.kernels.cpu_llvm import (
    Tile,
    fitting_tile,
    host_tile,
    load_float,
    load_int,
    store_float,
)
from tinynn.kernels.cpu_microkernel import (
    LANES,
    TRANSPOSE,
    WIDTH,
    call_transpose,
    microkernel,
    multiply_rows,
    pack_panel,
)
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, run, scratch
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

Array = Any
SMALL = 1 << 20  # multiplications
LOT = 1024  # of a sum
GROUP_BYTES = 1 << 19  # of A: its rows stay in the cache from panel to panel
GROUP_ROWS = 96  # at least: fewer do not repay the copying of a panel
TASKS = 4  # for each thread, so that all end together
ONE_PIXEL = Axis(1, 1, 1, (0, 0), 1)

PRODUCT = job_type(
    "micro a a_rows a_row_step a_step packed_a b b_step b_column_step packed_b c c_rows"
    " rows columns depth lot group_rows panels no_offset"
)


@kernel(PRODUCT)
def pack_left(lo, hi, thread, job_pointer):
    """Task = as many rows as there are lanes: A -> [row][depth]."""
    job = carray(job_pointer, 1)[0]
    lanes = load_int(job.micro, LANES)
    for first in range(lo * lanes, hi * lanes, lanes):
        rows = min(lanes, job.rows - first)
        for k in range(0, job.depth, lanes):
            depth = min(lanes, job.depth - k)
            read = job.a + 4 * (first * job.a_row_step + k * job.a_step)
            write = job.packed_a + 4 * (first * job.depth + k)
            if rows == depth == lanes and job.a_row_step == 1:
                transpose = load_int(job.micro, TRANSPOSE)
                call_transpose(transpose, read, job.a_step, write, job.depth)
            else:
                for r in range(rows):
                    for j in range(depth):
                        value = load_float(read, r * job.a_row_step + j * job.a_step)
                        store_float(write, r * job.depth + j, value)


@kernel(PRODUCT)
def multiply(lo, hi, thread, job_pointer):
    """Task = (group of rows, panel of columns)."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    panel_of_b = job.packed_b + 4 * thread * job.lot * width
    for task in range(lo, hi):
        first = task // job.panels * job.group_rows
        rows = min(job.group_rows, job.rows - first)
        column = task % job.panels * width
        columns = min(width, job.columns - column)
        c = job.c + 4 * column
        for k in range(0, job.depth, job.lot):
            depth = min(job.lot, job.depth - k)
            b = job.b + 4 * (k * job.b_step + column * job.b_column_step)
            pack_panel(job.micro, b, job.b_step, job.b_column_step, depth, columns, panel_of_b)
            multiply_rows(
                job.micro, job.a + 4 * k, job.a_rows + 8 * first, job.no_offset,
                panel_of_b, job.no_offset, 1, depth, 1, width,
                c, job.c_rows + 8 * first, rows, columns, c if k > 0 else 0, 0,
            )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All of a product that depends on shapes and steps only."""

    job: Job
    packed_a: int  # floats; 0 if A is used as it lies
    packed_b: int
    lots_of_rows: int  # tasks of `pack_left`
    tasks: int


@lru_cache(maxsize=256)
def prepare(
    rows: int, depth: int, columns: int, a_steps: tuple[int, int], b_steps: tuple[int, int],
    tile: Tile | None, threads: int,
) -> Prepared:  # fmt: skip
    """Steps are in floats, from row to row and from column to column."""
    micro = microkernel(tile or fitting_tile(columns))
    width, lot = micro.tile.width, min(depth, LOT)
    panels = -(-columns // width)
    groups = max(-(-TASKS * threads // panels), 4 * rows * depth // GROUP_BYTES)
    groups = max(1, min(groups, rows // GROUP_ROWS))
    group_rows = -(-rows // groups)
    as_it_lies = a_steps[1] == 1
    job = Job(
        PRODUCT, micro=micro.table, a_row_step=a_steps[0], a_step=a_steps[1],
        a_rows=np.arange(rows) * (a_steps[0] if as_it_lies else depth),
        b_step=b_steps[0], b_column_step=b_steps[1], c_rows=np.arange(rows) * columns,
        rows=rows, columns=columns, depth=depth, lot=lot, group_rows=group_rows, panels=panels,
        no_offset=integers([0]),
    )  # fmt: skip
    tasks = panels * -(-rows // group_rows)
    packed_a = 0 if as_it_lies else rows * depth
    return Prepared(job, packed_a, threads * lot * width, -(-rows // micro.tile.lanes), tasks)


def multiply_into(c: np.ndarray, a: np.ndarray, b: np.ndarray, tile: Tile | None = None) -> None:
    """C = A B for float32 matrices; C is contiguous."""
    a_steps, b_steps = ((m.strides[0] // 4, m.strides[1] // 4) for m in (a, b))
    prepared = prepare(*a.shape, b.shape[1], a_steps, b_steps, tile, get_num_threads())
    job = prepared.job.bind(a=a, b=b, c=c, packed_b=scratch("panels", prepared.packed_b))
    if prepared.packed_a:
        packed_a = scratch("rows", prepared.packed_a)
        run(pack_left, job.bind(packed_a=packed_a), prepared.lots_of_rows)
        job = job.bind(a=packed_a)
    run(multiply, job, prepared.tasks)


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.matmul."""
    method, _ = choose(a, b)
    if method == "BLAS" or not (out is None or (out.flags.c_contiguous and out.dtype == a.dtype)):
        return reference.matmul(a, b, out)
    if method == "dot":
        y = cpu_dot_conv.conv2d(pixels(a), pixels(b.T), ONE_PIXEL, ONE_PIXEL)[:, 0, 0]
        if out is None:
            return y
        out[...] = y
        return out
    c = empty((a.shape[0], b.shape[1])) if out is None else out
    multiply_into(c, a, b)
    return c


def choose(a: Array, b: Array) -> tuple[str, str]:
    """How a @ b is computed: by "BLAS", "dot" products or "tiles"; and why."""
    if not (a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]):
        return "BLAS", "not two matrices that fit"
    if not (a.dtype == b.dtype == np.float32 and a.flags.aligned and b.flags.aligned):
        return "BLAS", "not float32"
    if a.size * b.shape[1] <= SMALL:
        return "BLAS", f"at most {SMALL:,} multiply-adds: BLAS starts sooner"
    if a.flags.c_contiguous and b.T.flags.c_contiguous:
        channels = a.shape[1], b.shape[1]
        dots, reason = cpu_dot_conv.worthwhile(
            ONE_PIXEL, ONE_PIXEL, channels, a.shape[0], host_tile().lanes
        )
        if dots:
            return "dot", reason
    return "tiles", "rows as they lie" if a.strides[1] == 4 else "rows copied first"


def pixels(matrix: Array) -> Array:
    """(N, C) -> N images of one pixel."""
    return matrix[:, None, None, :]
