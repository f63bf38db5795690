"""CUDA drop-ins for softmax cross-entropy: one launch for the losses, one for
their mean, one for the gradient."""

from __future__ import annotations

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cuda_launch import drop_in, float32, int32, kernel, like, per_element
from tinynn.kernels.reference import Array, namespace

FILE = "softmax"
WARP, WARPS = 32, 4  # lanes for a row, rows for a block
THREADS = 256  # of the one block that takes a mean, as in softmax.cu
MOST_LOSSES = 1 << 16  # of which one block takes it


@drop_in(reference.label_cross_entropy)
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference.label_cross_entropy: one warp for each row."""
    rows, classes = logits.shape
    xp = namespace(logits)
    losses, top, total = (xp.empty(rows, logits.dtype) for _ in range(3))
    sizes = int32(rows), int32(classes), np.int64(ignore_index), float32(label_smoothing)
    launch = kernel(xp, FILE, "label_cross_entropy")
    given = logits, labels.astype(np.int64, copy=False), losses, top, total, *sizes
    launch((-(-rows // WARPS),), (WARP, WARPS), given)
    return losses, top, total


@drop_in(reference.label_cross_entropy_grad)
def label_cross_entropy_grad(
    dlosses: Array,
    logits: Array,
    labels: Array,
    top: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """Drop-in for reference.label_cross_entropy_grad."""
    dlogits, classes = like(logits), int32(logits.shape[1])
    labels = labels.astype(np.int64, copy=False)
    per_element(
        FILE, "label_cross_entropy_grad", logits.size, dlosses, logits, labels, top, total,
        dlogits, int32(logits.size), classes, np.int64(ignore_index), float32(label_smoothing),
    )  # fmt: skip
    return dlogits


@drop_in(reference.mean_over_labels)
def mean_over_labels(losses: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """Drop-in for reference.mean_over_labels: one launch for five, always in the same order."""
    if losses.size > MOST_LOSSES:
        return reference.mean_over_labels(losses, labels, ignore_index)
    xp = namespace(losses)
    mean, count = xp.empty((), losses.dtype), xp.empty((), losses.dtype)
    sizes = int32(losses.size), np.int64(ignore_index)
    given = losses, labels.astype(np.int64, copy=False), mean, count, *sizes
    kernel(xp, FILE, "mean_over_labels")((1,), (THREADS,), given)
    return mean, count
