"""Losses. Classes stand on the last axis: logits (..., C), integer labels (...)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array, current_backend
from tinynn.functions.activation import relu
from tinynn.functions.math import as_tensor, where
from tinynn.functions.reduce import mean
from tinynn.functions.reduce import sum as sum_
from tinynn.functions.shape import reshape
from tinynn.tensor import Tensor


class CrossEntropy(Function):
    """loss[m] = -sum over c of target[m,c] log softmax(logits[m])[c]; target is constant."""

    def __init__(self, target: Array):
        self.target = target

    def forward(self, logits: Array) -> Array:
        self.save(logits)
        return self.kernels.cross_entropy(logits, self.target)

    def backward(self, dy: Array) -> Array:
        (logits,) = self.saved
        return self.kernels.cross_entropy_grad(dy, logits, self.target)


class LabelCrossEntropy(Function):
    """The same for integer labels (M,), and their sum or their mean over the labels that count.

    target[m] = (1 - e) onehot(label[m]) + e / C, e = label_smoothing.
    """

    def __init__(self, labels: Array, ignore_index: int, label_smoothing: float, reduction: str):
        self.labels, self.options = labels, (ignore_index, label_smoothing)
        self.reduction = reduction

    def forward(self, logits: Array) -> Array:
        kernel = self.kernels.label_cross_entropy
        losses, top, total = kernel(logits, self.labels, *self.options)
        self.save(logits, self.labels, top, total)
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            self.divisor: Any = 1
            return self.kernels.xp.asarray(losses.sum())
        loss, self.divisor = self.kernels.mean_over_labels(losses, self.labels, self.options[0])
        return loss

    def backward(self, dy: Array) -> Array:
        logits, *statistics = self.saved
        if self.reduction != "none":
            share, dy = dy / self.divisor, self.kernels.xp.empty(len(logits), dy.dtype)
            dy[...] = share
        return self.kernels.label_cross_entropy_grad(dy, logits, *statistics, *self.options)


def check_reduction(name: str, reduction: str) -> None:
    """Raise ValueError unless reduction is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """mean, sum or the losses themselves."""
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum_(loss)


def check_labels(
    name: str, scores: Tensor, target: Tensor, ignore_index: int | None, given: Any
) -> Array:
    """The labels as one row (M,). ValueError for one that is neither a class nor ignored.

    `given`: what the user called the loss with. Labels of the host are looked at there; those of a
    device are not, for the host would wait for all that is still to be computed: there one that is
    no class gives a wrong loss.
    """
    classes = scores.shape[-1]
    labels = current_backend().at_hand(given.data if isinstance(given, Tensor) else given)
    # Without sign a negative number is a large one: one look for two.
    if labels is None or not labels.size or labels.astype(np.uint64).max() < classes:
        return target.data.reshape(-1)
    labels = labels.reshape(-1)
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if bool(wrong.any()):
        at = int(wrong.argmax())
        raise ValueError(
            f"{name}: label {int(labels[at])} (sample {at}) is not one of the {classes} classes "
            f"0..{classes - 1} of logits {scores.shape}"
        )
    return target.data.reshape(-1)


def label_distribution(
    name: str,
    scores: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    given: Any,
) -> tuple[Array, Array]:
    """Integer labels (M,) -> weighted target probabilities (M, C), and each row's weight (M,).

    Row m is weight * ((1 - e) onehot + e / C); an ignored label gives a row of zeros.
    """
    xp = current_backend().xp
    classes = scores.shape[-1]
    labels = check_labels(name, scores, target, ignore_index, given)
    counted = xp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    safe = xp.where(counted, labels, 0)
    onehot = (safe[:, None] == xp.arange(classes)).astype(scores.dtype)
    smooth = onehot * (1 - label_smoothing) + label_smoothing / classes
    class_weight = xp.ones(classes, scores.dtype) if weight is None else weight.data
    keep = counted.astype(scores.dtype)
    return smooth * class_weight * keep[:, None], class_weight[safe] * keep


def check_class_weight(name: str, weight: Any, scores: Tensor) -> Tensor | None:
    """The class weights as a tensor of the scores' dtype, one for each class, or None."""
    if weight is None:
        return None
    w, classes = as_tensor(weight), scores.shape[-1]
    if w.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {w.shape}, expected ({classes},)")
    return Tensor(w.data.astype(scores.dtype))


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy in nats, from logits.

    input (..., C); target integer labels (...) or probabilities (..., C); weight (C,) a factor for
    each class. "mean" divides by the total weight of the labels that count (by the number of
    samples for probabilities). Labels equal to `ignore_index` add nothing.
    """
    check_reduction("cross_entropy", reduction)
    logits, labels = as_tensor(input), as_tensor(target)
    if logits.ndim < 1 or not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: input {logits.shape} needs a class axis, label_smoothing "
            f"{label_smoothing} must be from 0 to 1"
        )
    classes = logits.shape[-1]
    rows = logits if logits.ndim == 2 else reshape(logits, (-1, classes))
    w = check_class_weight("cross_entropy", weight, logits)
    if labels.dtype.kind == "f":
        if labels.shape != logits.shape:
            raise ValueError(
                f"cross_entropy: target probabilities {labels.shape} and input {logits.shape} must "
                "have one shape; integer labels have one axis fewer"
            )
        q = labels.data.reshape(-1, classes).astype(logits.dtype)
        q = q * (1 - label_smoothing) + label_smoothing / classes
        distribution = q if w is None else q * w.data
        divisor: Any = len(q)
    else:
        if labels.shape != logits.shape[:-1]:
            raise ValueError(
                f"cross_entropy: labels {labels.shape} do not match input {logits.shape}; "
                f"expected {logits.shape[:-1]}"
            )
        if w is None:
            plain = check_labels("cross_entropy", logits, labels, ignore_index, target)
            loss = LabelCrossEntropy(plain, ignore_index, label_smoothing, reduction)(rows)
            return loss if reduction != "none" else reshape(loss, logits.shape[:-1])
        distribution, row_weight = label_distribution(
            "cross_entropy", logits, labels, w, ignore_index, label_smoothing, target
        )
        divisor = Tensor(current_backend().asarray(row_weight.sum()))
    losses = CrossEntropy(distribution)(rows)
    if reduction == "none":
        return reshape(losses, logits.shape[:-1])
    total = sum_(losses)
    return total if reduction == "sum" else total / divisor


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of labels (...) under log-probabilities (..., C)."""
    check_reduction("nll_loss", reduction)
    log_p, labels = as_tensor(input), as_tensor(target)
    if labels.shape != log_p.shape[:-1]:
        raise ValueError(
            f"nll_loss: labels {labels.shape} do not match input {log_p.shape}; "
            f"expected {log_p.shape[:-1]}"
        )
    w = check_class_weight("nll_loss", weight, log_p)
    distribution, row_weight = label_distribution(
        "nll_loss", log_p, labels, w, ignore_index, 0.0, target
    )
    factor = distribution.reshape(log_p.shape)
    picked = where(factor != 0, log_p, 0.0) * Tensor(
        factor
    )  # -inf elsewhere must not spoil the sum
    losses = -sum_(picked, -1)
    if reduction == "none":
        return losses
    total = sum_(losses)
    return (
        total if reduction == "sum" else total / Tensor(current_backend().asarray(row_weight.sum()))
    )


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The squared difference."""
    check_reduction("mse_loss", reduction)
    x, y = as_tensor(input), as_tensor(target)
    if x.shape != y.shape:
        raise ValueError(f"mse_loss: input {x.shape} and target {y.shape} must have one shape")
    difference = x - y
    return reduce_loss(difference * difference, reduction)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The multi-class hinge: sum over c != y of max(0, margin - s_y + s_c)^p / C.

    input scores (N, C), target labels (N,); `weight[y]` scales a sample's loss.
    """
    check_reduction("multi_margin_loss", reduction)
    scores, labels = as_tensor(input), as_tensor(target)
    if p not in (1, 2) or scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"multi_margin_loss: needs input (N, C), labels (N,) and p of 1 or 2, not "
            f"{scores.shape}, {labels.shape}, p={p}"
        )
    classes = scores.shape[1]
    w = check_class_weight("multi_margin_loss", weight, scores)
    onehot, _ = label_distribution("multi_margin_loss", scores, labels, None, None, 0.0, target)
    true_score = sum_(scores * Tensor(onehot), 1, keepdim=True)
    hinge = relu(scores - true_score + margin) * Tensor(1 - onehot)
    if p == 2:
        hinge = hinge * hinge
    losses = sum_(hinge, 1) / classes
    if w is not None:
        losses = losses * Tensor(w.data[labels.data])
    return reduce_loss(losses, reduction)


hinge_loss = multi_margin_loss
