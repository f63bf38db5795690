"""Softmax, its logarithm and its loss in plain array code."""

from __future__ import annotations

from tinynn.kernels.reference import (
    Array,
    kernel,
    namespace,
)


@kernel
def log_softmax(x: Array, axis: int) -> Array:
    """x - log(sum(exp(x))) along `axis`, shifted by the maximum so that exp cannot overflow."""
    xp = namespace(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


@kernel
def log_softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """dy - softmax(x) sum(dy), with softmax(x) = exp(y)."""
    return dy - namespace(y).exp(y) * dy.sum(axis=axis, keepdims=True)


@kernel
def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    e = namespace(x).exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@kernel
def softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """y (dy - sum(dy y))."""
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


@kernel
def cross_entropy(logits: Array, target: Array) -> Array:
    """loss[m] = -sum over c of target[m,c] log softmax(logits[m])[c], in nats.

    logits, target (M, C) -> (M,). `target` holds probabilities times class weights; a row of
    zeros is a sample to ignore.
    """
    log_p = namespace(logits).where(target == 0, 0, log_softmax(logits, 1))  # 0 (-inf) is NaN
    return -(target * log_p).sum(axis=1)


@kernel
def cross_entropy_grad(dloss: Array, logits: Array, target: Array) -> Array:
    """dlogits[m] = dloss[m] (softmax(logits[m]) sum(target[m]) - target[m]). dloss (M,)."""
    p = softmax(logits, 1)
    return dloss[:, None] * (p * target.sum(axis=1, keepdims=True) - target)


@kernel
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """`cross_entropy` of the target (1 - e) onehot(label) + e / C, e = label_smoothing.

    logits (M, C), integer labels (M,) -> losses (M,); and top and total (M,) for the gradient:
    softmax(logits[m]) = exp(logits[m] - top[m]) / total[m]. A label `ignore_index` gives 0.
    """
    xp = namespace(logits)
    target, counts = label_target(logits, labels, ignore_index, label_smoothing)
    losses = xp.where(counts, cross_entropy(logits, target), 0)
    top = logits.max(axis=1)
    return losses, top, xp.exp(logits - top[:, None]).sum(axis=1)


@kernel
def label_cross_entropy_grad(
    dlosses: Array,
    logits: Array,
    labels: Array,
    top: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """dlogits[m] = dlosses[m] (softmax(logits[m]) - target[m]); 0 for an ignored label."""
    xp = namespace(logits)
    target, counts = label_target(logits, labels, ignore_index, label_smoothing)
    p = xp.exp(logits - top[:, None]) / total[:, None]
    return xp.where(counts[:, None], dlosses[:, None] * (p - target), 0)


@kernel
def mean_over_labels(losses: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """The mean of the losses (M,) whose labels are not to be ignored; and how many these are.

    The others are 0. Both stay where the losses lie: the host would wait for an `int`.
    """
    xp = namespace(losses)
    count = xp.asarray(xp.count_nonzero(labels != ignore_index), losses.dtype)
    return xp.asarray(losses.sum() / count), count


def label_target(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array]:
    """-> target probabilities (M, C), and which labels count (M,)."""
    classes = logits.shape[1]
    onehot = (labels[:, None] == namespace(logits).arange(classes)).astype(logits.dtype)
    target = onehot * (1 - label_smoothing) + label_smoothing / classes
    return target, labels != ignore_index
