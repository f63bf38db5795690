"""Batch normalisation in two passes over an (M, C) matrix, residual and ReLU folded in.

Drop-ins for the reference's. The formulas below are compiled into loops by `cpu_loops`. Sums run
over 64 rows in float32 registers; the sums of these blocks are added in float64, part by part, and
those of the parts in their order: so they are the same bit for bit, whichever thread does a part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray

from tinynn.kernels import reference
from tinynn.kernels.cpu_formulas import relu, where
from tinynn.kernels.cpu_loops import (
    QUICK,
    ROWS,
    Columns,
    as_doubles,
    as_float,
    as_floats,
    call_loop,
    columns,
    folds,
)
from tinynn.kernels.cpu_parallel import Job, address, job_type, kernel, run, scratch
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like
from tinynn.kernels.threads import get_num_threads

Array = Any
SMALL = 1 << 11  # elements: fewer NumPy normalises before a job has begun
PARTS = 64  # of the rows, at most; of whole ROWS but the last

# The matrix as the loops see it; arrays of its shape; of one number a channel; and, one a column,
# what the formulas read (what belongs to a channel, gathered) and what they sum.
NORM = job_type(
    "m fold rows channels parts height eps loop shifted"
    " x y residual dy dz dx"
    " weight bias mean var dweight dbias"
    " center scale offset a b c shift total square totals squares"
)

# ---------------------------------------------------------------------------------------------
# Formulas. What follows the * is one number for each channel.
# ---------------------------------------------------------------------------------------------


@columns("total square", NORM, scratch="shift total square")
def moments(x, *, shift, total, square):
    d = x - shift
    return total + d, square + d * d


def normal(x, center, scale, offset):
    return (x - center) * scale + offset


@columns("y", NORM)
def normalise(x, *, center, scale, offset):
    return normal(x, center, scale, offset)


@columns("y", NORM)
def normalise_relu(x, *, center, scale, offset):
    return relu(normal(x, center, scale, offset))


@columns("y", NORM)
def normalise_add(x, residual, *, center, scale, offset):
    return normal(x, center, scale, offset) + residual


@columns("y", NORM)
def normalise_add_relu(x, residual, *, center, scale, offset):
    return relu(normal(x, center, scale, offset) + residual)


@columns("total square", NORM, scratch="total square")
def gradient_sums(x, dy, *, center, total, square):
    return total + dy, square + dy * (x - center)


@columns("total square", NORM, scratch="total square")
def gradient_sums_relu(x, dy, *, center, scale, offset, total, square):
    dz = where(normal(x, center, scale, offset) > 0, dy, 0)
    return total + dz, square + dz * (x - center)


@columns("dz total square", NORM, scratch="total square")
def gradient_sums_kept(x, dy, y, *, center, total, square):
    dz = where(y > 0, dy, 0)
    return dz, total + dz, square + dz * (x - center)


@columns("dx", NORM)
def combine(x, dy, *, center, a, b, c):
    return a * dy + b * (x - center) + c


@columns("dx", NORM)
def combine_relu(x, dy, *, center, scale, offset, a, b, c):
    dz = where(normal(x, center, scale, offset) > 0, dy, 0)
    return a * dz + b * (x - center) + c


@columns("dx", NORM)
def scaled(dy, *, scale):
    return scale * dy


@columns("dx", NORM)
def scaled_relu(x, dy, *, center, scale, offset):
    return scale * where(normal(x, center, scale, offset) > 0, dy, 0)


# ---------------------------------------------------------------------------------------------
# Passes over the matrix
# ---------------------------------------------------------------------------------------------


@kernel(NORM)
def sum_parts(lo, hi, thread, job_pointer):
    """Task = part of `height` rows: its column sums in float64, ROWS rows at a time.

    `shifted`: those of x and x^2, summed as d = x - shift and d^2, which keeps the variance when
    the mean is much larger. shift is the median of three rows: near the mean, and not an outlier.
    """
    job = carray(job_pointer, 1)[0]
    size = job.channels
    shift = carray(as_floats(job.shift + 4 * thread * size), size)
    total = carray(as_floats(job.total + 4 * thread * size), size)
    square = carray(as_floats(job.square + 4 * thread * size), size)
    for part in range(lo, hi):
        totals = carray(as_doubles(job.totals + 8 * part * size), size)
        squares = carray(as_doubles(job.squares + 8 * part * size), size)
        totals[:] = 0
        squares[:] = 0
        end = min((part + 1) * job.height, job.rows)
        for row in range(part * job.height, end, ROWS):
            last = min(row + ROWS, end)
            n = last - row
            first = carray(as_floats(job.x + 4 * row * size), size)
            middle = carray(as_floats(job.x + 4 * (row + n // 2) * size), size)
            final = carray(as_floats(job.x + 4 * (last - 1) * size), size)
            for k in range(size):
                low, high = min(first[k], middle[k]), max(first[k], middle[k])
                shift[k] = max(low, min(high, final[k])) if job.shifted else np.float32(0)
                total[k] = 0
                square[k] = 0
            call_loop(job.loop, row, last, thread, job_pointer)
            for k in range(size):
                s, t = np.float64(shift[k]), np.float64(total[k])
                totals[k] += n * s + t
                squares[k] += square[k] + s * (2 * t + n * s)


@kernel(NORM)
def finish_moments(lo, hi, thread, job_pointer):
    """Task = channel: the mean and the biased variance, from all partial sums."""
    job = carray(job_pointer, 1)[0]
    c = job.channels // job.fold
    parts = job.parts * job.fold
    totals = carray(as_doubles(job.totals), parts * c)
    squares = carray(as_doubles(job.squares), parts * c)
    mean, var = carray(as_floats(job.mean), c), carray(as_floats(job.var), c)
    for k in range(lo, hi):
        total, square = 0.0, 0.0
        for part in range(parts):
            total += totals[part * c + k]
            square += squares[part * c + k]
        average = total / job.m
        variance = square / job.m - average * average
        mean[k] = average
        var[k] = 0.0 if variance < 0 else variance  # NaN stays


@kernel(NORM)
def forward_numbers(lo, hi, thread, job_pointer):
    """One task: y = (x - center) scale + offset, for every column; then y, if there is a loop."""
    job = carray(job_pointer, 1)[0]
    c = job.channels // job.fold
    weight, bias = carray(as_floats(job.weight), c), carray(as_floats(job.bias), c)
    mean, var = carray(as_floats(job.mean), c), carray(as_floats(job.var), c)
    center = carray(as_floats(job.center), job.channels)
    scale = carray(as_floats(job.scale), job.channels)
    offset = carray(as_floats(job.offset), job.channels)
    for k in range(c):
        factor = weight[k] / math.sqrt(np.float64(var[k]) + as_float(job.eps))
        for column in range(k, job.channels, c):
            center[column] = mean[k]
            scale[column] = factor
            offset[column] = bias[k]
    if job.loop != 0:
        call_loop(job.loop, 0, job.rows, thread, job_pointer)


@kernel(NORM)
def backward_numbers(lo, hi, thread, job_pointer):
    """Task = channel: its sums, and dx = a dz + b (x - center) + c in each of its columns."""
    job = carray(job_pointer, 1)[0]
    channels, c = job.channels, job.channels // job.fold
    parts = job.parts * job.fold
    totals = carray(as_doubles(job.totals), parts * c)
    squares = carray(as_doubles(job.squares), parts * c)
    weight, var = carray(as_floats(job.weight), c), carray(as_floats(job.var), c)
    dweight, dbias = carray(as_floats(job.dweight), c), carray(as_floats(job.dbias), c)
    a, b = carray(as_floats(job.a), channels), carray(as_floats(job.b), channels)
    shift = carray(as_floats(job.c), channels)
    for k in range(lo, hi):
        total, product = 0.0, 0.0
        for part in range(parts):
            total += totals[part * c + k]
            product += squares[part * c + k]
        rstd = 1 / math.sqrt(np.float64(var[k]) + as_float(job.eps))
        scale = weight[k] * rstd
        dbias[k] = total
        dweight[k] = product * rstd
        for column in range(k, channels, c):
            a[column] = scale
            b[column] = -scale * rstd * rstd * product / job.m
            shift[column] = -scale * total / job.m


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
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


class Normalisation:
    """One call of a kernel: its job, and the passes over it."""

    def __init__(self, x: Array, mean: Array, eps: float, **arrays: Array | None):
        threads, self.plan = get_num_threads(), plan(x.shape)
        self.numbers = scratch("normalisation", self.plan.floats(threads))
        job = prepare(self.plan, threads, address(self.numbers))
        self.job = job.bind(x=x, mean=mean, eps=float(eps), **arrays)

    def sum(self, loop: Columns, shifted: bool) -> None:
        """Fill `totals` and `squares` with the two sums of a formula."""
        self.job.fill(loop=loop.address, shifted=shifted)
        run(sum_parts, self.job, self.plan.parts, quick=self.plan.quick)

    def for_channels(self, numbers: Any) -> None:
        run(numbers, self.job, self.plan.c, quick=True)

    def apply(self, loop: Columns) -> None:
        run(loop, self.job, self.plan.rows, quick=self.plan.quick)


def forward(call: Normalisation, y: Array, residual: Array | None, relu: bool) -> Array:
    """y from x and the statistics."""
    if residual is None:
        loop = normalise_relu if relu else normalise
    else:
        loop = normalise_add_relu if relu else normalise_add
    quick = call.plan.quick
    call.job.fill(loop=loop.address if quick else 0)
    run(forward_numbers, call.job, 1)
    if not quick:
        call.apply(loop)
    return y


def normalise_few(
    x: Array, weight: Array, bias: Array, mean: Array, var: Array, residual: Array | None,
    relu: bool, eps: float,
) -> Array:  # fmt: skip
    """As reference.batch_norm_inference, in as few new arrays as can be."""
    scale = var + eps
    np.sqrt(scale, out=scale)
    np.divide(weight, scale, out=scale)
    y = x - mean
    y *= scale
    y += bias
    if residual is not None:
        y += residual
    return np.maximum(y, 0, out=y) if relu else y


@float32_only(reference.batch_norm)
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference.batch_norm: one pass for the statistics, one for the output."""
    y, mean, var = empty_like(x), np.empty_like(weight), np.empty_like(weight)
    call = Normalisation(x, mean, eps, y=y, residual=residual, weight=weight, bias=bias, var=var)
    call.sum(moments, shifted=True)
    call.for_channels(finish_moments)
    return forward(call, y, residual, relu), mean, var


@float32_only(reference.batch_norm_inference)
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
    """Drop-in for reference.batch_norm_inference: one pass."""
    if x.size <= SMALL:
        return normalise_few(x, weight, bias, mean, var, residual, relu, eps)
    return normalise_into(empty_like(x), x, weight, bias, mean, var, residual, relu, eps)


def normalise_into(
    y: Array, x: Array, weight: Array, bias: Array, mean: Array, var: Array,
    residual: Array | None, relu: bool, eps: float,
) -> Array:  # fmt: skip
    """As reference.batch_norm_inference; y may be x."""
    call = Normalisation(x, mean, eps, y=y, residual=residual, weight=weight, bias=bias, var=var)
    return forward(call, y, residual, relu)


def backward(
    combine: dict[bool, Columns], dy: Array, x: Array, y: Array | None, weight: Array,
    bias: Array, mean: Array, var: Array, relu: bool, eps: float, needs_residual: bool,
    out_weight: Array | None, out_bias: Array | None,
) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
    """The sums, then dx by the formula `combine` (by whether it still has to apply the ReLU).

    dz is written only where y, which is one array more to read, has to tell it: in what x tells,
    it costs less to form it twice.
    """
    dx = empty_like(x)
    dweight = np.empty_like(weight) if out_weight is None else out_weight
    dbias = np.empty_like(weight) if out_bias is None else out_bias
    if relu and needs_residual and y is None:
        y = normalise_into(empty_like(x), x, weight, bias, mean, var, None, relu, eps)
    dz = empty_like(dy) if relu and y is not None else None
    call = Normalisation(
        x, mean, eps, dy=dy, y=y, dz=dz, dx=dx, weight=weight, bias=bias, var=var,
        dweight=dweight, dbias=dbias, loop=0,
    )  # fmt: skip
    run(forward_numbers, call.job, 1)
    if dz is not None:
        call.sum(gradient_sums_kept, shifted=False)
        call.job.fill(dy=dz)
    else:
        call.sum(gradient_sums_relu if relu else gradient_sums, shifted=False)
    call.for_channels(backward_numbers)
    call.apply(combine[relu and dz is None])
    return dx, dweight, dbias, (dz if relu else dy) if needs_residual else None


@float32_only(reference.batch_norm_grad)
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
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference.batch_norm_grad: one pass for the sums, one for dx."""
    formulas = {False: combine, True: combine_relu}
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return backward(formulas, *given)


@float32_only(reference.batch_norm_inference_grad)
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
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference.batch_norm_inference_grad: as batch_norm_grad, with dx = a dz."""
    formulas = {False: scaled, True: scaled_relu}
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return backward(formulas, *given)
