"""The CTC loss: a labelling is compared with an output that says not where its labels stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array, current_backend
from tinynn.functions.loss import check_reduction, reduce_loss
from tinynn.functions.math import as_tensor
from tinynn.functions.shape import reshape
from tinynn.kernels.reference import namespace
from tinynn.tensor import Tensor


class CTCLoss(Function):
    """losses[n] = -log of the probability of all paths that read as labelling n."""

    def __init__(self, labelling: tuple[Array, ...], blank: int, zero_infinity: bool):
        self.labelling = *labelling, blank  # targets, input_lengths, target_lengths, blank
        self.zero_infinity = zero_infinity

    def forward(self, log_probs: Array) -> Array:
        losses, alpha = self.kernels.ctc_loss(log_probs, *self.labelling)
        self.save(log_probs, losses, alpha)
        return self.without_infinity(losses, losses)

    def backward(self, dy: Array) -> Array:
        log_probs, losses, alpha = self.saved
        dx = self.kernels.ctc_loss_grad(dy, log_probs, *self.labelling, losses, alpha)
        return self.without_infinity(losses[:, None], dx)

    def without_infinity(self, losses: Array, values: Array) -> Array:
        """The values, 0 where the loss is infinite and is not to count."""
        xp = namespace(values)
        return xp.where(xp.isinf(losses), 0, values) if self.zero_infinity else values


def at_hand(given: Any) -> Array:
    """An array of the host where it is given there, so that it can be looked at; of the backend
    otherwise: those of a device are not looked at, for the host would wait."""
    if isinstance(given, Tensor):
        return given.data
    return given if current_backend().owns(given) else np.asarray(given)


def check_lengths(name: str, lengths: Array, count: int, most: int, what: str) -> Array:
    """The lengths as integers (N,). ValueError unless there is one a sample, from 0 to `most`."""
    if lengths.dtype.kind not in "iu" or lengths.ndim > 1 or lengths.size != count:
        raise ValueError(
            f"ctc_loss: {name} are {lengths.dtype} {lengths.shape}, expected {count} integers, "
            "one for each sample"
        )
    lengths = lengths.reshape(-1).astype("int64")
    if not isinstance(lengths, np.ndarray):
        return namespace(lengths).clip(lengths, 0, most)
    wrong = (lengths < 0) | (lengths > most)
    if wrong.any():
        n = int(wrong.argmax())
        raise ValueError(
            f"ctc_loss: {name}[{n}] is {int(lengths[n])}, expected 0 to {most}, {what}"
        )
    return lengths


def padded_labels(targets: Array, lengths: Array, classes: int, blank: int) -> Array:
    """Labels, in rows (N, S) or one after the other, as rows with blanks behind their ends.

    ValueError for a label that is no class, or is the blank; on a device it becomes a blank.
    """
    xp, looked_at = namespace(lengths), isinstance(lengths, np.ndarray)
    longest = (lengths.max() if lengths.size else 0) if looked_at else targets.shape[-1]
    inside = xp.arange(longest) < lengths[:, None]  # (N, longest)
    joined = targets.ndim == 1
    begins = lengths.cumsum() - lengths if joined else xp.arange(len(targets)) * targets.shape[1]
    place = xp.minimum(begins[:, None] + xp.arange(longest), targets.size - 1)
    labels = xp.where(inside, targets.reshape(-1)[place].astype("int64"), blank)
    wrong = inside & ((labels < 0) | (labels >= classes) | (labels == blank))
    if not looked_at:
        return xp.where(wrong, blank, labels)
    if wrong.any():
        n, s = divmod(int(wrong.argmax()), int(longest))
        raise ValueError(
            f"ctc_loss: label {s} of sample {n} is {int(labels[n, s])}, expected a class, 0 to "
            f"{classes - 1}, other than the blank {blank}"
        )
    return labels


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The loss of connectionist temporal classification, in nats.

    log_probs (T, N, C), of log_softmax, or (T, C) for one sample; targets integers (N, S), what is
    behind their length ignored, or all labels one after the other; input_lengths, steps of each
    sample, and target_lengths, integers (N,). "mean" divides each loss by its number of labels (by
    1 if there is none) and takes the mean over the samples.

    A labelling that needs more steps than there are (labels + equal neighbours) has loss inf; with
    `zero_infinity` loss and gradient 0. The gradient is the derivative by each log-probability;
    PyTorch adds exp(log_probs) to it, which vanishes behind log_softmax. Labels and lengths that
    lie on a device are not checked there.
    Source: Graves et al. 2006.
    """
    check_reduction("ctc_loss", reduction)
    x, labels = as_tensor(log_probs), at_hand(targets)
    single = x.ndim == 2
    if x.ndim not in (2, 3) or 0 in x.shape:
        raise ValueError(f"ctc_loss: log_probs must be (T, N, C) or (T, C), not {x.shape}")
    steps, count, classes = (len(x), 1, x.shape[1]) if single else x.shape
    if not 0 <= blank < classes:
        raise ValueError(
            f"ctc_loss: blank is {blank}, expected 0 to {classes - 1} for log_probs {x.shape}"
        )
    if labels.ndim not in (1, 2) or (labels.dtype.kind not in "iu" and labels.size):
        raise ValueError(
            f"ctc_loss: targets are {labels.dtype} {labels.shape}, expected integers ({count}, S) "
            "or all labels one after the other"
        )
    most = labels.shape[-1]
    inputs, lengths = at_hand(input_lengths), at_hand(target_lengths)
    inputs = check_lengths("input_lengths", inputs, count, steps, f"the steps of {x.shape}")
    lengths = check_lengths(
        "target_lengths", lengths, count, most, f"the labels in targets {labels.shape}"
    )
    total = int(lengths.sum()) if isinstance(lengths, np.ndarray) else most
    if labels.shape not in ((total,), (count, most)):
        raise ValueError(
            f"ctc_loss: targets are {labels.shape}, expected ({count}, S) or ({total},), the sum "
            "of target_lengths"
        )
    asarray = current_backend().asarray
    if not (isinstance(labels, np.ndarray) and isinstance(lengths, np.ndarray)):
        labels, lengths = asarray(labels), asarray(lengths)
    padded = padded_labels(labels, lengths, classes, blank)
    labelling = asarray(padded), asarray(inputs), asarray(lengths)
    batch = reshape(x, (steps, 1, classes)) if single else x
    losses = CTCLoss(labelling, blank, zero_infinity)(batch)
    if reduction == "mean":
        xp = current_backend().xp
        losses = losses / Tensor(xp.maximum(labelling[2], 1).astype(x.dtype))
    return reduce_loss(reshape(losses, ()) if single else losses, reduction)
