"""Drop-in simple recurrence for float32 on the CPU, and its gradient: a walk over the steps.

Each step is a small product of the states before it with one matrix, and an activation. NumPy takes
five calls and as many new arrays for it. Samples know nothing of each other, so a task is some of
them, which walk through all the steps by themselves; the matrix is copied once, and stays in the
cache:

      step     t-1                    t
             [ s s ]   [ m m ]      [ a a ]                [ s s ]
             [ s s ] X [ m m ]  +   [ a a ]   activated    [ s s ]   in its place

Forward the states are y, what is added x and the matrix w'. Backward the walk begins at the end:
the states are dx, what is added dy, the matrix w, and the activation's gradient takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray

from tinynn.kernels import cpu_matmul, reference_rnn
from tinynn.kernels.cpu_activation import (
    relu_grad_loop,
    relu_loop,
    tanh_grad_loop,
    tanh_loop,
)
from tinynn.kernels.cpu_direct_conv import integers
from tinynn.kernels.cpu_llvm import fitting_tile, load_int
from tinynn.kernels.cpu_loops import Elementwise
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows, pack_panel
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, run, scratch
from tinynn.kernels.cpu_threads import call
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like
from tinynn.kernels.threads import get_num_threads

Array = Any
SMALL = 1 << 16  # multiplications: fewer NumPy has done before a walk has begun
QUICK = 1 << 20  # multiplications: fewer are done before a second thread would take its share
SAMPLES = 48  # of a task, at most
ACTIVATIONS = {"tanh": (tanh_loop, tanh_grad_loop), "relu": (relu_loop, relu_grad_loop)}

WALK = job_type(
    "micro matrix k_step column_step packed states added rows no_offset"
    " first next steps samples task_samples hidden activation activation_job"
)


@kernel(WALK)
def pack(lo, hi, thread, job_pointer):
    """Task = panel of the matrix's columns."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    for panel in range(lo, hi):
        pack_panel(
            job.micro, job.matrix + 4 * panel * width * job.column_step, job.k_step,
            job.column_step, job.hidden, min(width, job.hidden - panel * width),
            job.packed + 4 * panel * width * job.hidden,
        )  # fmt: skip


@kernel(WALK)
def walk(lo, hi, thread, job_pointer):
    """Task = some samples, through all steps. The first one's sum is there already."""
    job = carray(job_pointer, 1)[0]
    width, hidden = load_int(job.micro, WIDTH), job.hidden
    for task in range(lo, hi):
        begin = task * job.task_samples
        end = min(begin + job.task_samples, job.samples)
        for step in range(job.steps):
            t = job.first + step * job.next
            place = (t * job.samples + begin) * hidden
            before = place - job.next * job.samples * hidden
            for column in range(0, hidden, width):
                if step > 0:
                    multiply_rows(
                        job.micro, job.states + 4 * before, job.rows, job.no_offset,
                        job.packed + 4 * column * hidden, job.no_offset, 1, hidden, 1, width,
                        job.states + 4 * (place + column), job.rows, end - begin,
                        min(width, hidden - column), job.added + 4 * (place + column), 0,
                    )  # fmt: skip
            last = place + (end - begin) * hidden
            call(job.activation, place, last, thread, job.activation_job)


@dataclass(frozen=True)
class Prepared:
    """All of a walk that depends on shapes only."""

    job: Job
    tasks: int
    panels: int
    packed: int  # floats


@lru_cache(maxsize=256)
def prepare(steps: int, samples: int, hidden: int, backward: bool, threads: int) -> Prepared:
    micro = microkernel(fitting_tile(hidden))
    width = micro.tile.width
    panels = -(-hidden // width)
    task_samples = min(SAMPLES, -(-samples // threads))
    job = Job(
        WALK, micro=micro.table, k_step=hidden if backward else 1,
        column_step=1 if backward else hidden, rows=np.arange(task_samples) * hidden,
        no_offset=integers([0]), first=steps - 1 if backward else 0, next=-1 if backward else 1,
        steps=steps, samples=samples, task_samples=task_samples, hidden=hidden,
    )  # fmt: skip
    return Prepared(job, -(-samples // task_samples), panels, panels * width * hidden)


def walk_through(
    states: Array, added: Array, w: Array, activation: Elementwise, activation_job: Job,
    backward: bool,
) -> None:  # fmt: skip
    """Fill `states` (T, N, H), whose first step holds its sum."""
    prepared = prepare(*states.shape, backward, get_num_threads())
    job = prepared.job.bind(
        matrix=w, packed=scratch("matrix", prepared.packed), states=states, added=added,
        activation=activation.address, activation_job=activation_job.address,
    )  # fmt: skip
    run(pack, job, prepared.panels, quick=True)
    run(walk, job, prepared.tasks, quick=states.size * len(w) < QUICK)


@float32_only(reference_rnn.rnn)
def rnn(x: Array, h: Array, w: Array, nonlinearity: str) -> Array:
    """Drop-in for reference_rnn.rnn."""
    if x.size * len(w) <= SMALL:
        return reference_rnn.rnn(x, h, w, nonlinearity)
    y, (loop, _) = empty_like(x), ACTIVATIONS[nonlinearity]
    np.add(x[0], cpu_matmul.matmul(h, w.T), out=y[0])
    walk_through(y, x, w, loop, loop.job.bind(x=y, y=y), backward=False)
    return y


@float32_only(reference_rnn.rnn_grad)
def rnn_grad(dy: Array, y: Array, w: Array, nonlinearity: str) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.rnn_grad."""
    if y.size * len(w) <= SMALL:
        return reference_rnn.rnn_grad(dy, y, w, nonlinearity)
    dx, (_, loop) = empty_like(y), ACTIVATIONS[nonlinearity]
    dx[-1] = dy[-1]
    walk_through(dx, dy, w, loop, loop.job.bind(dy=dx, y=y, dx=dx), backward=True)
    return dx, cpu_matmul.matmul(dx[0], w)
