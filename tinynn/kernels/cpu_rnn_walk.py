"""What recurrent layers have in common on the CPU: a walk over the steps of a sequence.

Each step is a small product of the states before it with one matrix, and what the layer's cell
makes of it, element by element. NumPy takes a dozen calls and as many new arrays for it. Samples
know nothing of each other, so a task is some of them, which walk through all the steps by
themselves; the matrix is copied once, and stays in the cache:

      step     t-1                    t
             [ s s ]   [ m m ]      [ a a ]           [ s s ]
             [ s s ] X [ m m ]  +   [ a a ]   cell    [ s s ]
                                     sums

Backward the walk begins at the end, and the matrix is the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray

from tinynn.kernels.cpu_direct_conv import integers
from tinynn.kernels.cpu_llvm import INT, Emitter, Tile, fitting_tile, load_int
from tinynn.kernels.cpu_loops import ArrayLoop, Elementwise, strips
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows, pack_panel
from tinynn.kernels.cpu_parallel import Job, address, job_type, kernel, scratch
from tinynn.kernels.cpu_threads import call
from tinynn.kernels.threads import get_num_threads

Array = Any
SAMPLES = 48  # of a task, at most
QUICK = 1 << 20  # multiplications: fewer are done before a second thread would take its share

# ---------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------


class Cells(ArrayLoop):
    """For every unit of some rows: row t N + n is sample n of N at step t. A task is a row.

    The rows of each array lie `<name>_step` apart, as those of gates that stand side by side do.
    """

    def __init__(self, formula: Callable[..., Any], outputs: str):
        super().__init__(formula, outputs)
        steps = [f"{name}_step" for name in self.names]
        self.kind = job_type(" ".join(["hidden", *self.names, *steps]))
        self.fields = self.kind.names or ()

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        build = emit.build
        lo, hi, _, _ = emit.function.args
        hidden = self.field(emit, "hidden", INT)
        steps = {name: self.field(emit, f"{name}_step", INT) for name in self.names}
        arrays = {name: self.array(emit, name, build.mul(lo, steps[name])) for name in self.names}
        with emit.loop(build.sub(hi, lo), list(arrays.values())) as rows:
            row = dict(zip(self.names, rows.carried, strict=True))
            for offset, (vector,) in strips(emit, tile, hidden, several=1):
                place = {
                    name: emit.at(emit.at(pointer, offset), vector) for name, pointer in row.items()
                }
                values = {name: self.load(emit, name, place[name]) for name in self.inputs}
                for name, value in self.results(emit, values).items():
                    emit.store_vector(value, place[name])
            rows.carried = [emit.at(row[name], steps[name]) for name in self.names]
        emit.finish()

    def of(self, hidden: int, **arrays: Array) -> Job:
        """The job for arrays (T, N, hidden), or views of such; their rows may be one (hidden,)."""
        steps = {
            f"{name}_step": array.strides[-2] // 4 if array.ndim > 1 else 0
            for name, array in arrays.items()
        }
        return self.job.bind(hidden=hidden, **arrays, **steps)

    def of_steps(self, hidden: int, first: Array, states: Array, **arrays: Array) -> list[Job]:
        """The jobs for the first step and for all others; `before` is the state of the step before:
        `first` (N, hidden), and then those of `states` (T, N, hidden)."""
        jobs = [self.of(hidden, before=before, **arrays) for before in (first, states)]
        jobs[1].fill(before=address(states) - 4 * first.size)  # row t N + n is of step t - 1
        return jobs


def cells(outputs: str) -> Callable[[Callable[..., Any]], Cells]:
    return lambda formula: Cells(formula, outputs)


# ---------------------------------------------------------------------------------------------
# The walk
# ---------------------------------------------------------------------------------------------

WALK = job_type(
    "micro matrix k_step column_step packed states sums added state_rows sum_rows no_offset"
    " state_step sum_step first next steps samples task_samples depth columns"
    " cell unit cell_of_first cell_of_others"
)


@kernel(WALK)
def pack(lo, hi, thread, job_pointer):
    """Task = panel of the matrix's columns."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    for panel in range(lo, hi):
        pack_panel(
            job.micro, job.matrix + 4 * panel * width * job.column_step, job.k_step,
            job.column_step, job.depth, min(width, job.columns - panel * width),
            job.packed + 4 * panel * width * job.depth,
        )  # fmt: skip


@kernel(WALK)
def walk(lo, hi, thread, job_pointer):
    """Task = some samples, through all steps. The sums of the walk's first step are there."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    for task in range(lo, hi):
        begin = task * job.task_samples
        rows = min(job.task_samples, job.samples - begin)
        for step in range(job.steps):
            t = job.first + step * job.next
            row = t * job.samples + begin
            before = job.states + 4 * (row - job.next * job.samples) * job.state_step
            for column in range(0, job.columns if step > 0 else 0, width):
                place = 4 * (row * job.sum_step + column)
                multiply_rows(
                    job.micro, before, job.state_rows, job.no_offset,
                    job.packed + 4 * column * job.depth, job.no_offset, 1, job.depth, 1, width,
                    job.sums + place, job.sum_rows, rows, min(width, job.columns - column),
                    job.added + place if job.added else 0, 0,
                )  # fmt: skip
            cell_job = job.cell_of_others if t > 0 else job.cell_of_first
            call(job.cell, row * job.unit, (row + rows) * job.unit, thread, cell_job, 0)


@dataclass(frozen=True)
class Prepared:
    """All of a walk that depends on shapes only."""

    job: Job
    tasks: int
    panels: int
    packed: int  # floats


@lru_cache(maxsize=256)
def prepare(
    steps: int, samples: int, depth: int, columns: int, state_step: int, sum_step: int,
    backward: bool, threads: int,
) -> Prepared:  # fmt: skip
    micro = microkernel(fitting_tile(columns))
    width = micro.tile.width
    panels = -(-columns // width)
    tasks = threads * -(-samples // (SAMPLES * threads))
    task_samples = -(-samples // tasks)
    job = Job(
        WALK, micro=micro.table, k_step=columns if backward else 1,
        column_step=1 if backward else depth, no_offset=integers([0]),
        state_rows=np.arange(task_samples) * state_step, state_step=state_step,
        sum_rows=np.arange(task_samples) * sum_step, sum_step=sum_step,
        first=steps - 1 if backward else 0, next=-1 if backward else 1,
        steps=steps, samples=samples, task_samples=task_samples, depth=depth, columns=columns,
    )  # fmt: skip
    return Prepared(job, -(-samples // task_samples), panels, panels * width * depth)


def walk_through(
    states: Array, sums: Array, added: Array | None, w: Array, cell: Cells | Elementwise,
    jobs: list[Job], unit: int = 1, backward: bool = False,
) -> None:  # fmt: skip
    """Let a cell walk over the steps. `sums` (T, N, columns) of the walk's first step are there;
    the others become [added +] states (T, N, depth) of the step before times w, or w' (columns,
    depth) forward. Rows may lie further apart, those of `added` as those of `sums`.

    `jobs` of the cell: of step 0, and of all others. `unit`: its tasks in a row.
    """
    (steps, samples, depth), columns = states.shape, sums.shape[2]
    row_steps = states.strides[1] // 4, sums.strides[1] // 4
    threads = get_num_threads()
    prepared = prepare(steps, samples, depth, columns, *row_steps, backward, threads)
    prepared.job.run(
        pack, prepared.panels, True,
        walk, prepared.tasks, steps * samples * w.size < QUICK,
        matrix=w, packed=scratch("matrix", prepared.packed), states=states, sums=sums, added=added,
        cell=cell.address, unit=unit,
        cell_of_first=jobs[0].address, cell_of_others=jobs[-1].address,
    )  # fmt: skip
