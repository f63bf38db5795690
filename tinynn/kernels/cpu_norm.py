"""Batch normalisation in two passes over an (M, C) matrix, residual and ReLU folded in.

Drop-ins for the reference's; the passes are in `cpu_norm_passes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tinynn.kernels import reference_norm
from tinynn.kernels.cpu_loops import QUICK, ROWS, Columns, folds
from tinynn.kernels.cpu_norm_passes import (
    NORM,
    RUNNING,
    backward_numbers,
    combine,
    combine_relu,
    finish_moments,
    forward_numbers,
    gradient_sums,
    gradient_sums_kept,
    gradient_sums_relu,
    moments,
    normalise,
    normalise_add,
    normalise_add_relu,
    normalise_relu,
    scaled,
    scaled_relu,
    sum_parts,
    update_running,
)
from tinynn.kernels.cpu_parallel import Job, address, scratch
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like
from tinynn.kernels.threads import get_num_threads

Array = Any
SMALL = 1 << 11  # elements: fewer NumPy normalises before a job has begun
PARTS = 64  # of the rows, at most; of whole ROWS but the last
EMPTY = Job(RUNNING)
COMBINE, SCALED = {False: combine, True: combine_relu}, {False: scaled, True: scaled_relu}


@dataclass(frozen=True, eq=False)  # compared by identity: `plan` keeps them
class Plan:
    """What depends on the shape (..., C) only.

    Narrow rows are laid side by side: with 16 channels, two rows of x are one row of 32 columns,
    which fill the registers; a channel then has `fold` columns, whose sums are added.
    """

    c: int
    fold: int
    rows: int
    height: int  # rows of a part
    parts: int
    quick: bool

    def floats(self, threads: int) -> int:
        """Scratch numbers, as `prepare` hands them out."""
        return (4 * self.parts + 3 * threads + 6) * self.c * self.fold


@lru_cache(maxsize=256)
def plan(shape: tuple[int, ...]) -> Plan:
    """For x of this shape."""
    c, m, fold = shape[-1], math.prod(shape[:-1]), folds(shape)
    rows = m // fold
    height = ROWS * max(1, -(-rows // (ROWS * PARTS)))
    return Plan(c, fold, rows, height, -(-rows // height), m * c < QUICK)


@lru_cache(maxsize=256)
def prepare(plan: Plan, threads: int, memory: int) -> Job:
    """The job of a plan, with its scratch numbers at an address."""
    channels = plan.c * plan.fold
    job = Job(
        NORM, threads, m=plan.rows * plan.fold, fold=plan.fold, rows=plan.rows, channels=channels,
        parts=plan.parts, height=plan.height,
    )  # fmt: skip
    rows = dict(totals=2 * plan.parts, squares=2 * plan.parts)  # of float64, which counts twice
    rows |= dict(shift=threads, total=threads, square=threads)
    rows |= dict.fromkeys(("center", "scale", "offset", "a", "b", "c"), 1)
    for name, count in rows.items():
        job.fill(**{name: memory})
        memory += 4 * channels * count
    return job


def begin(x: Array) -> tuple[Plan, Job, np.ndarray]:
    """The plan for x, the job for its kernels, and its scratch numbers, which keep what one run
    leaves there for the next. (Hold them as long.)"""
    threads, planned = get_num_threads(), plan(x.shape)
    numbers = scratch("normalisation", planned.floats(threads))
    return planned, prepare(planned, threads, address(numbers)), numbers


def normalising(residual: Array | None, relu: bool) -> Columns:
    """The formula of y."""
    if residual is None:
        return normalise_relu if relu else normalise
    return normalise_add_relu if relu else normalise_add


def normalise_few(
    x: Array, weight: Array, bias: Array, mean: Array, var: Array, residual: Array | None,
    relu: bool, eps: float,
) -> Array:  # fmt: skip
    """As reference_norm.batch_norm_inference, in as few new arrays as can be."""
    scale = var + eps
    np.sqrt(scale, out=scale)
    np.divide(weight, scale, out=scale)
    y = x - mean
    y *= scale
    y += bias
    if residual is not None:
        y += residual
    return np.maximum(y, 0, out=y) if relu else y


@float32_only(reference_norm.batch_norm)
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.batch_norm: one pass for the statistics, one for the output."""
    y, mean, var = empty_like(x), np.empty_like(weight), np.empty_like(weight)
    plan, job, _numbers = begin(x)
    job.run(
        sum_parts, plan.parts, plan.quick,
        finish_moments, plan.c, True,
        forward_numbers, 1, True,
        normalising(residual, relu).address, plan.rows, plan.quick,
        loop=moments.address, shifted=True,
        x=x, y=y, residual=residual, weight=weight, bias=bias, mean=mean, var=var, eps=float(eps),
    )  # fmt: skip
    return y, mean, var


@float32_only(reference_norm.update_running_statistics)
def update_running_statistics(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    momentum: float | None,
    count: int,
    batches: Array | None = None,
) -> None:
    """Drop-in for reference_norm.update_running_statistics: four small arrays, one call."""
    if batches is not None:
        batches += 1
        momentum = 1 / int(batches) if momentum is None else momentum
    EMPTY.run(
        update_running, 1, True,
        channels=mean.size, running_mean=running_mean, running_var=running_var, mean=mean,
        var=var, momentum=float(momentum or 0), unbias=count / (count - 1),
    )  # fmt: skip


@float32_only(reference_norm.batch_norm_inference)
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
    """Drop-in for reference_norm.batch_norm_inference: one pass."""
    if x.size <= SMALL:
        return normalise_few(x, weight, bias, mean, var, residual, relu, eps)
    return normalise_into(empty_like(x), x, weight, bias, mean, var, residual, relu, eps)


def normalise_into(
    y: Array, x: Array, weight: Array, bias: Array, mean: Array, var: Array,
    residual: Array | None, relu: bool, eps: float,
) -> Array:  # fmt: skip
    """As reference_norm.batch_norm_inference; y may be x."""
    plan, job, _numbers = begin(x)
    job.run(
        forward_numbers, 1, True,
        normalising(residual, relu).address, plan.rows, plan.quick,
        x=x, y=y, residual=residual, weight=weight, bias=bias, mean=mean, var=var, eps=float(eps),
    )  # fmt: skip
    return y


def backward(
    combine: dict[bool, Columns], dy: Array, x: Array, y: Array | None, weight: Array,
    bias: Array, mean: Array, var: Array, relu: bool, eps: float, needs_residual: bool,
    out_weight: Array | None, out_bias: Array | None, in_place: bool,
) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
    """The sums, then dx by the formula `combine` (by whether it still has to apply the ReLU).

    dz is written only where y, which is one array more to read, has to tell it: in what x tells,
    it costs less to form it twice. In place of dy goes what is written first.
    """
    dweight = np.empty_like(weight) if out_weight is None else out_weight
    dbias = np.empty_like(weight) if out_bias is None else out_bias
    if relu and needs_residual and y is None:
        y = normalise_into(empty_like(x), x, weight, bias, mean, var, None, relu, eps)
    first = dy if in_place else empty_like(dy)
    if relu and y is not None:
        dz, dx = first, empty_like(x) if needs_residual else first
        sums, last = gradient_sums_kept, combine[False]
    else:
        dz, dx = dy, empty_like(x) if in_place and needs_residual else first
        sums, last = gradient_sums_relu if relu else gradient_sums, combine[relu]
    plan, job, _numbers = begin(x)
    job.run(
        forward_numbers, 1, True,
        sum_parts, plan.parts, plan.quick,
        backward_numbers, plan.c, True,
        loop=sums.address, x=x, dy=dy, y=y, dz=dz, weight=weight, bias=bias, mean=mean, var=var,
        eps=float(eps), dweight=dweight, dbias=dbias,
    )  # fmt: skip
    job.run(last.address, plan.rows, plan.quick, x=x, dy=dz, dx=dx)
    return dx, dweight, dbias, dz if needs_residual else None


@float32_only(reference_norm.batch_norm_grad)
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
    """Drop-in for reference_norm.batch_norm_grad: one pass for the sums, one for dx."""
    norm = weight, bias, mean, var, relu, eps, needs_residual
    given = dy, x, y, *norm, out_weight, out_bias, in_place
    return backward(COMBINE, *given)


@float32_only(reference_norm.batch_norm_inference_grad)
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
    """Drop-in for reference_norm.batch_norm_inference_grad: as batch_norm_grad, with dx = a dz."""
    norm = weight, bias, mean, var, relu, eps, needs_residual
    given = dy, x, y, *norm, out_weight, out_bias, in_place
    return backward(SCALED, *given)
