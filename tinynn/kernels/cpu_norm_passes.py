"""The passes of batch normalisation over an (M, C) matrix, which `cpu_norm` calls.

The formulas below are compiled into loops by `cpu_loops`. Sums run over 64 rows in float32
registers; the sums of these blocks are added in float64, part by part, and those of the parts in
their order: so they are the same bit for bit, whichever thread does a part.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from tinynn.kernels.cpu_formulas import relu, where
from tinynn.kernels.cpu_loops import ROWS, as_doubles, as_float, as_floats, call_loop, columns
from tinynn.kernels.cpu_parallel import job_type, kernel

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
# Sums over the matrix, and what follows from them for each channel
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
    """One task: y = (x - center) scale + offset, for every column."""
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


RUNNING = job_type("channels running_mean running_var mean var momentum unbias")


@kernel(RUNNING)
def update_running(lo, hi, thread, job_pointer):
    """One task: the averages of all channels."""
    job = carray(job_pointer, 1)[0]
    c, momentum = job.channels, as_float(job.momentum)
    running_mean, mean = carray(as_floats(job.running_mean), c), carray(as_floats(job.mean), c)
    running_var, var = carray(as_floats(job.running_var), c), carray(as_floats(job.var), c)
    for k in range(c):
        running_mean[k] += momentum * (mean[k] - running_mean[k])
        running_var[k] += momentum * (var[k] * as_float(job.unbias) - running_var[k])
