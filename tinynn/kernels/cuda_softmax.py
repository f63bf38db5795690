"""CUDA drop-ins for softmax cross-entropy: one launch for the losses, one for the mean over labels,
one for the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import reference_softmax
from tinynn.kernels.cuda_launch import drop_in, float32, int32, kernel, like, per_element
from tinynn.kernels.reference import Array, namespace

FILE = "softmax"
WARP, WARPS = 32, 4  # lanes for a row, rows for a block
THREADS = 256  # of the one block that takes a mean, as in softmax.cu
MOST_LOSSES = 1 << 16  # of which one block takes it


def _per_row(name: str, logits: Array, given: tuple[Array, ...], *options: Any) -> None:
    """Launch a kernel with one warp for each row of logits."""
    rows, classes = logits.shape
    launch = kernel(namespace(logits), FILE, name)
    sizes = int32(rows), int32(classes)
    launch((-(-rows // WARPS),), (WARP, WARPS), (*given, *sizes, *options))


@drop_in(reference_softmax.cross_entropy)
def cross_entropy(logits: Array, target: Array) -> Array:
    """Drop-in for reference_softmax.cross_entropy: a warp for each row, one launch for eleven."""
    losses = namespace(logits).empty(len(logits), logits.dtype)
    _per_row("cross_entropy", logits, (logits, target, losses))
    return losses


@drop_in(reference_softmax.cross_entropy_grad)
def cross_entropy_grad(dloss: Array, logits: Array, target: Array) -> Array:
    """Drop-in for reference_softmax.cross_entropy_grad: one launch in place of nine."""
    dlogits = like(logits)
    _per_row("cross_entropy_grad", logits, (dloss, logits, target, dlogits))
    return dlogits


@drop_in(reference_softmax.label_cross_entropy)
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_softmax.label_cross_entropy: one warp for each row."""
    xp, options = namespace(logits), (np.int64(ignore_index), float32(label_smoothing))
    losses, top, total = (xp.empty(len(logits), logits.dtype) for _ in range(3))
    given = logits, labels.astype(np.int64, copy=False), losses, top, total
    _per_row("label_cross_entropy", logits, given, *options)
    return losses, top, total


@drop_in(reference_softmax.label_cross_entropy_grad)
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
    dlogits, classes = like(logits), int32(logits.shape[1])
    labels = labels.astype(np.int64, copy=False)
    per_element(
        FILE, "label_cross_entropy_grad", logits.size, dlosses, logits, labels, top, total,
        dlogits, int32(logits.size), classes, np.int64(ignore_index), float32(label_smoothing),
    )  # fmt: skip
    return dlogits


@drop_in(reference_softmax.mean_over_labels)
def mean_over_labels(losses: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """Drop-in for reference_softmax.mean_over_labels: one launch for five, always in one order."""
    if losses.size > MOST_LOSSES:
        return reference_softmax.mean_over_labels(losses, labels, ignore_index)
    xp = namespace(losses)
    mean, count = xp.empty((), losses.dtype), xp.empty((), losses.dtype)
    sizes = int32(losses.size), np.int64(ignore_index)
    given = losses, labels.astype(np.int64, copy=False), mean, count, *sizes
    kernel(xp, FILE, "mean_over_labels")((1,), (THREADS,), given)
    return mean, count
