"""CTC, a sample a task. Drop-ins for the reference's.

A sample's states are walked in place: forwards from the last to the first, backwards from the first
to the last, so that each still finds its neighbours as they were. The walk is in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray, njit

from tinynn.kernels import reference_ctc
from tinynn.kernels.cpu_llvm import load_int
from tinynn.kernels.cpu_loops import as_doubles, as_floats
from tinynn.kernels.cpu_parallel import Job, Kernel, job_type, kernel
from tinynn.kernels.fallback import float32_only

Array = Any
CTC = job_type(
    "steps samples signs labels blank log_probs targets input_lengths target_lengths losses alpha "
    "walk dlosses dx"
)
QUICK = 1 << 9  # states of all samples and steps, below which one thread is quicker


@njit(error_model="numpy")
def log_sum(a, b, c):
    """log(exp a + exp b + exp c)."""
    top = max(a, max(b, c))
    if a == -math.inf and b == -math.inf and c == -math.inf:
        return -math.inf
    return top + math.log(math.exp(a - top) + math.exp(b - top) + math.exp(c - top))


@njit(error_model="numpy")
def sign(job, n, s):
    """The sign of state s of sample n."""
    return load_int(job.targets, n * job.labels + s // 2) if s % 2 else job.blank


@njit(error_model="numpy")
def skips(job, n, s):
    """Whether the way from state s - 2 of sample n to state s is open."""
    return s % 2 and s > 2 and sign(job, n, s) != sign(job, n, s - 2)


@kernel(CTC)
def forward(lo, hi, thread, job_pointer):
    """Task = sample."""
    job = carray(job_pointer, 1)[0]
    width = 2 * job.labels + 1
    losses = carray(as_floats(job.losses), job.samples)
    for n in range(lo, hi):
        walk = carray(as_doubles(job.walk + 8 * n * width), width)
        last, end = load_int(job.input_lengths, n) - 1, 2 * load_int(job.target_lengths, n)
        losses[n] = math.inf if end else 0.0  # without a step
        for t in range(job.steps):
            row = t * job.samples + n
            x = carray(as_floats(job.log_probs + 4 * row * job.signs), job.signs)
            alpha = carray(as_floats(job.alpha + 4 * row * width), width)
            for s in range(width - 1, -1, -1):
                if t == 0:
                    walk[s] = x[sign(job, n, s)] if s < 2 else -math.inf
                else:
                    before = walk[s - 1] if s > 0 else -math.inf
                    skip = walk[s - 2] if skips(job, n, s) else -math.inf
                    walk[s] = x[sign(job, n, s)] + log_sum(walk[s], before, skip)
                alpha[s] = walk[s]
            if t == last:
                at_label = walk[end - 1] if end else -math.inf
                losses[n] = -log_sum(walk[end], at_label, -math.inf)


@kernel(CTC)
def backward(lo, hi, thread, job_pointer):
    """Task = sample."""
    job = carray(job_pointer, 1)[0]
    width = 2 * job.labels + 1
    losses = carray(as_floats(job.losses), job.samples)
    dlosses = carray(as_floats(job.dlosses), job.samples)
    for n in range(lo, hi):
        walk = carray(as_doubles(job.walk + 8 * n * width), width)
        steps, end = load_int(job.input_lengths, n), 2 * load_int(job.target_lengths, n)
        loss = losses[n]
        for t in range(job.steps - 1, -1, -1):
            row = t * job.samples + n
            dx = carray(as_floats(job.dx + 4 * row * job.signs), job.signs)
            dx[:] = math.nan if loss == math.inf else 0.0
            if t >= steps or loss == math.inf:
                continue
            alpha = carray(as_floats(job.alpha + 4 * row * width), width)
            if t == steps - 1:
                walk[:end] = -math.inf
                walk[end] = 0.0
                if end:
                    walk[end - 1] = 0.0
            else:
                after = row + job.samples
                x = carray(as_floats(job.log_probs + 4 * after * job.signs), job.signs)
                for s in range(end + 1):
                    walk[s] += x[sign(job, n, s)]
                for s in range(end):  # the last state has none behind it
                    skip = walk[s + 2] if s + 2 < end and skips(job, n, s + 2) else -math.inf
                    walk[s] = log_sum(walk[s], walk[s + 1], skip)
            for s in range(end + 1):
                dx[sign(job, n, s)] -= dlosses[n] * math.exp(alpha[s] + walk[s] + loss)


EMPTY = Job(CTC)


def run(
    kernel: Kernel, log_probs: Array, targets: Array, *lengths: Array, blank: int, **arrays: Array
) -> None:
    """One of the two kernels, with what both read."""
    t, n, c = log_probs.shape
    labels = targets.shape[1]
    integers = [np.ascontiguousarray(array, np.int64) for array in (targets, *lengths)]
    names = "targets", "input_lengths", "target_lengths"
    walk = np.empty((n, 2 * labels + 1))
    fields: dict[str, Any] = {**arrays, **dict(zip(names, integers))}
    fields |= {"steps": t, "samples": n, "signs": c, "labels": labels, "blank": blank}
    quick = arrays["alpha"].size < QUICK
    EMPTY.run(kernel, n, quick, log_probs=log_probs, walk=walk, **fields)


@float32_only(reference_ctc.ctc_loss)
def ctc_loss(
    log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int
) -> tuple[Array, Array]:
    """Drop-in for reference.ctc_loss."""
    t, n, _ = log_probs.shape
    losses = np.empty(n, np.float32)
    alpha = np.empty((t, n, 2 * targets.shape[1] + 1), np.float32)
    arrays = {"losses": losses, "alpha": alpha}
    run(forward, log_probs, targets, input_lengths, target_lengths, blank=blank, **arrays)
    return losses, alpha


@float32_only(reference_ctc.ctc_loss_grad)
def ctc_loss_grad(
    dlosses: Array,
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int,
    losses: Array,
    alpha: Array,
) -> Array:
    """Drop-in for reference.ctc_loss_grad."""
    dx = np.empty_like(log_probs)
    arrays = {"losses": losses, "alpha": alpha, "dlosses": dlosses, "dx": dx}
    run(backward, log_probs, targets, input_lengths, target_lengths, blank=blank, **arrays)
    return dx
