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
third, is copied first. A long sum is added up in lots, which keeps float32 accurate. If the third
form has very long sums, over all steps of a sequence, it is left to the weight gradient of a 1x1
convolution, which copies a few samples at a time.

Few multiplications are left to BLAS, which starts sooner (and has one thread: see `threads.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, njit

from tinynn.kernels import cpu_direct_weights, cpu_dot_conv, reference
from tinynn.kernels.cpu_direct_conv import Axis, integers
from tinynn.kernels.cpu_llvm import (
    Tile,
    fitting_tile,
    host_tile,
    load_float,
    load_int,
    store_float,
    store_int,
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
from tinynn.kernels.cpu_parallel import Job, flags, job_type, kernel, scratch
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

Array = Any
SMALL, SMALL_TRANSPOSED = 1 << 20, 1 << 18  # multiplications; BLAS likes B transposed less
LOT = 1024  # of a sum
LONG = 1024  # sums: the rows of a copy of A would lie far apart
GROUP_BYTES = 1 << 19  # of A: its rows stay in the cache from panel to panel
GROUP_ROWS = 96  # at least: fewer do not repay the copying of a panel
TASKS = 4  # for each thread, so that all end together
ONE_PIXEL = Axis(1, 1, 1, (0, 0), 1)

PRODUCT = job_type(
    "micro a a_rows a_row_step a_step b b_step b_column_step c c_rows no_offset"
    " rows columns depth lot group_rows groups panels copies scratch scratch_of_a"
)


@njit
def copy_rows(job, first, rows, target):
    """Some rows of A -> [row][depth]: transposed in registers where its columns are contiguous."""
    lanes = load_int(job.micro, LANES)
    for row in range(first, first + rows, lanes):
        height = min(lanes, first + rows - row)
        for k in range(0, job.depth, lanes):
            depth = min(lanes, job.depth - k)
            read = job.a + 4 * (row * job.a_row_step + k * job.a_step)
            write = target + 4 * (row * job.depth + k)
            if height == depth == lanes and job.a_row_step == 1:
                transpose = load_int(job.micro, TRANSPOSE)
                call_transpose(transpose, read, job.a_step, write, job.depth)
            else:
                for r in range(height):
                    for j in range(depth):
                        value = load_float(read, r * job.a_row_step + j * job.a_step)
                        store_float(write, r * job.depth + j, value)


@kernel(PRODUCT)
def multiply(lo, hi, thread, job_pointer):
    """Task = (group of rows, panel of columns). Copies are the thread's own: to pass them from
    processor to processor would take longer than to make them."""
    job = carray(job_pointer, 1)[0]
    width, copied = load_int(job.micro, WIDTH), flags(job_pointer)
    rows_of_a = job.scratch + 4 * thread * (job.scratch_of_a + job.lot * width)
    panel_of_b = rows_of_a + 4 * job.scratch_of_a
    for task in range(lo, hi):
        group, panel = task // job.panels, task % job.panels
        first = group * job.group_rows
        rows = min(job.group_rows, job.rows - first)
        a = job.a
        if job.copies:
            a = rows_of_a
            if load_int(copied, thread * job.groups + group) == 0:
                copy_rows(job, first, rows, a)
                store_int(copied, thread * job.groups + group, 1)
        column = panel * width
        columns = min(width, job.columns - column)
        c = job.c + 4 * column
        for k in range(0, job.depth, job.lot):
            depth = min(job.lot, job.depth - k)
            b = job.b + 4 * (k * job.b_step + column * job.b_column_step)
            pack_panel(job.micro, b, job.b_step, job.b_column_step, depth, columns, panel_of_b)
            multiply_rows(
                job.micro, a + 4 * k, job.a_rows + 8 * first, job.no_offset,
                panel_of_b, job.no_offset, 1, depth, 1, width,
                c, job.c_rows + 8 * first, rows, columns, c if k > 0 else 0, 0,
            )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All of a product that depends on shapes and steps only."""

    job: Job
    tasks: int
    scratch_size: int  # floats


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
    groups = -(-rows // group_rows)
    copies = a_steps[1] != 1
    scratch_of_a = rows * depth if copies else 0
    job = Job(
        PRODUCT, threads, flags=threads * groups,
        micro=micro.table, a_row_step=a_steps[0], a_step=a_steps[1],
        a_rows=np.arange(rows) * (depth if copies else a_steps[0]),
        b_step=b_steps[0], b_column_step=b_steps[1], c_rows=np.arange(rows) * columns,
        no_offset=integers([0]), rows=rows, columns=columns, depth=depth, lot=lot,
        group_rows=group_rows, groups=groups, panels=panels, copies=copies,
        scratch_of_a=scratch_of_a,
    )  # fmt: skip
    return Prepared(job, groups * panels, threads * (scratch_of_a + lot * width))


def multiply_into(c: np.ndarray, a: np.ndarray, b: np.ndarray, tile: Tile | None = None) -> None:
    """C = A B for float32 matrices; C is contiguous."""
    a_steps, b_steps = ((m.strides[0] // 4, m.strides[1] // 4) for m in (a, b))
    prepared = prepare(*a.shape, b.shape[1], a_steps, b_steps, tile, get_num_threads())
    multiply_prepared(prepared, c, a, b)


def multiply_prepared(prepared: Prepared, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """The same for arrays whose shapes and steps are known."""
    memory = scratch("matrices", prepared.scratch_size)
    prepared.job.run(multiply, prepared.tasks, False, a=a, b=b, c=c, scratch=memory)


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
    if method == "pixels":
        one = ONE_PIXEL, ONE_PIXEL
        cpu_direct_weights.conv2d_weight_grad(pixels(a.T), pixels(b), *one, out=pixels(c))
    else:
        multiply_into(c, a, b)
    return c


def choose(a: Array, b: Array) -> tuple[str, str]:
    """How a @ b is computed: by "BLAS", "dot" products, as sums over "pixels" or by "tiles"; and
    why."""
    if not (a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]):
        return "BLAS", "not two matrices that fit"
    if not (a.dtype == b.dtype == np.float32 and a.flags.aligned and b.flags.aligned):
        return "BLAS", "not float32"
    small = SMALL_TRANSPOSED if b.strides[0] == 4 else SMALL
    if a.size * b.shape[1] <= small:
        return "BLAS", f"at most {small:,} multiply-adds: BLAS starts sooner"
    if a.flags.c_contiguous and b.T.flags.c_contiguous:
        channels = a.shape[1], b.shape[1]
        dots, reason = cpu_dot_conv.worthwhile(
            ONE_PIXEL, ONE_PIXEL, channels, a.shape[0], host_tile().lanes
        )
        if dots:
            return "dot", reason
    if a.strides[1] == 4:
        return "tiles", "rows as they lie"
    if a.shape[1] >= LONG and a.T.flags.c_contiguous and b.flags.c_contiguous:
        return "pixels", f"sums of {a.shape[1]:,} products, a few of all at a time"
    return "tiles", "rows copied first"


def pixels(matrix: Array) -> Array:
    """(N, C) -> N images of one pixel."""
    return matrix[:, None, None, :]
