"""Softmax, its logarithm and its loss, row by row. Drop-ins for the reference's.

Each is a formula that `cpu_rows` compiles: the exponentials are vector code, and a row is read
from memory once, where the reference's array expressions read the whole matrix five to ten times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from tinynn.kernels import reference_softmax
from tinynn.kernels.cpu_formulas import exp, log, where
from tinynn.kernels.cpu_llvm import load_float, load_int, store_float
from tinynn.kernels.cpu_parallel import Job, job_type, kernel
from tinynn.kernels.cpu_rows import Row, rows
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any

# ---------------------------------------------------------------------------------------------
# Formulas
# ---------------------------------------------------------------------------------------------


@rows("x y")
def softmax_rows(row: Row) -> None:
    top = row.largest(lambda x: x)

    def power(x):
        e = exp(x - top)
        return e, e

    scale = 1 / row.sum(power, into="y")
    row.each("y", lambda y: y * scale)


@rows("x y")
def log_softmax_rows(row: Row) -> None:
    top = row.largest(lambda x: x)
    shift = log(row.sum(lambda x: exp(x - top)))
    row.each("y", lambda x: x - top - shift)


@rows("dy y dx")
def softmax_grad_rows(row: Row) -> None:
    total = row.sum(lambda dy, y: dy * y)
    row.each("dx", lambda dy, y: y * (dy - total))


@rows("dy y dx")
def log_softmax_grad_rows(row: Row) -> None:
    total = row.sum(lambda dy: dy)
    row.each("dx", lambda dy, y: dy - exp(y) * total)


@rows("x", numbers="labels losses tops totals ignore_index smoothing rest")
def cross_entropy_rows(row: Row) -> None:
    top = row.largest(lambda x: x)
    total, below = row.sum(lambda x: (exp(x - top), x - top), 2)
    label, counts = labelled(row)
    smoothing = row.constant("smoothing")
    uniform = where(smoothing > 0, smoothing * below, 0)  # 0 (-inf) is NaN
    target = row.constant("rest") * (row.element("x", label) - top) + uniform
    row.store("losses", row.choose(counts, log(total) - target, 0 * smoothing))
    row.store("tops", top)
    row.store("totals", total)


@rows("x dx", numbers="labels dlosses tops totals ignore_index smoothing rest")
def cross_entropy_grad_rows(row: Row) -> None:
    label, counts = labelled(row)
    dloss, smoothing = row.number("dlosses"), row.constant("smoothing")
    top, scale = row.number("tops"), 1 / row.number("totals")
    zero = 0 * smoothing
    row.each("dx", lambda x: row.choose(counts, dloss * (exp(x - top) * scale - smoothing), zero))
    rest = row.choose(counts, dloss * row.constant("rest"), zero)
    row.store_element("dx", label, row.element("dx", label) - rest)


def labelled(row: Row) -> tuple[Any, Any]:
    """The row's label, and whether it counts; 0 if it does not."""
    label = row.index("labels")
    counts = row.emit.build.icmp_signed("!=", label, row.integer("ignore_index"))
    return row.choose(counts, label, label.type(0)), counts


MEAN = job_type("losses labels samples ignore_index results")
EMPTY = Job(MEAN)


@kernel(MEAN)
def mean_of_counted(lo, hi, thread, job_pointer):
    """One task: the mean, and how many count."""
    job = carray(job_pointer, 1)[0]
    total, count = 0.0, 0
    for i in range(job.samples):
        total += load_float(job.losses, i)
        count += load_int(job.labels, i) != job.ignore_index
    store_float(job.results, 0, np.float32(total / count))
    store_float(job.results, 1, np.float32(count))


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


def fits(x: Array, axis: int) -> bool:
    """Whether `axis` runs along contiguous rows."""
    return x.size > 0 and axis in (-1, x.ndim - 1)


def matrix(x: Array) -> tuple[int, int]:
    """The rows and columns of x."""
    return x.size // x.shape[-1], x.shape[-1]


@float32_only(reference_softmax.softmax)
def softmax(x: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.softmax along the last axis."""
    if not fits(x, axis):
        return reference_softmax.softmax(x, axis)
    y = empty_like(x)
    softmax_rows(matrix(x), x=x, y=y)
    return y


@float32_only(reference_softmax.log_softmax)
def log_softmax(x: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.log_softmax along the last axis."""
    if not fits(x, axis):
        return reference_softmax.log_softmax(x, axis)
    y = empty_like(x)
    log_softmax_rows(matrix(x), x=x, y=y)
    return y


@float32_only(reference_softmax.softmax_grad)
def softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.softmax_grad along the last axis."""
    if not fits(y, axis):
        return reference_softmax.softmax_grad(dy, y, axis)
    dx = empty_like(dy)
    softmax_grad_rows(matrix(y), dy=dy, y=y, dx=dx)
    return dx


@float32_only(reference_softmax.log_softmax_grad)
def log_softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """Drop-in for reference_softmax.log_softmax_grad along the last axis."""
    if not fits(y, axis):
        return reference_softmax.log_softmax_grad(dy, y, axis)
    dx = empty_like(dy)
    log_softmax_grad_rows(matrix(y), dy=dy, y=y, dx=dx)
    return dx


def label_fields(labels: Array, classes: int, ignore_index: int, smoothing: float) -> Any:
    """What both formulas of the loss read."""
    labels = np.ascontiguousarray(labels, np.int64)
    return dict(
        labels=labels,
        ignore_index=ignore_index,
        smoothing=smoothing / classes,
        rest=1.0 - smoothing,
    )


@float32_only(reference_softmax.label_cross_entropy)
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_softmax.label_cross_entropy."""
    losses, tops, totals = np.empty((3, len(logits)), np.float32)
    fields = label_fields(labels, logits.shape[1], ignore_index, label_smoothing)
    cross_entropy_rows(logits.shape, x=logits, losses=losses, tops=tops, totals=totals, **fields)
    return losses, tops, totals


@float32_only(reference_softmax.mean_over_labels)
def mean_over_labels(losses: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """Drop-in for reference_softmax.mean_over_labels: one call for five."""
    results, labels = np.empty(2, np.float32), np.ascontiguousarray(labels, np.int64)
    EMPTY.run(
        mean_of_counted, 1, True,
        losses=losses, labels=labels, samples=losses.size, ignore_index=ignore_index,
        results=results,
    )  # fmt: skip
    return results[0, ...], results[1, ...]


@float32_only(reference_softmax.label_cross_entropy_grad)
def label_cross_entropy_grad(
    dlosses: Array,
    logits: Array,
    labels: Array,
    top: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """Drop-in for reference_softmax.label_cross_entropy_grad."""
    dx = empty_like(logits)
    fields = label_fields(labels, logits.shape[1], ignore_index, label_smoothing)
    cross_entropy_grad_rows(
        logits.shape, x=logits, dx=dx, dlosses=dlosses, tops=top, totals=total, **fields
    )
    return dx
