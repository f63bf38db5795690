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


def as_array(given: Any) -> Array:
    """An array where it is given: of the host, so that its values are at hand, or of a device."""
    if isinstance(given, Tensor):
        return given.data
    return given if current_backend().owns(given) else np.asarray(given)


def check_lengths(name: str, lengths: Array, count: int, most: int, what: str) -> None:
    """ValueError unless there is an integer for each sample, if at hand from 0 to `most`."""
    if lengths.dtype.kind not in "iu" or lengths.ndim > 1 or lengths.size != count:
        raise ValueError(
            f"ctc_loss: {name} are {lengths.dtype} {lengths.shape}, expected {count} integers, "
            "one for each sample"
        )
    values = current_backend().at_hand(lengths)
    if values is None:
        return
    values = values.reshape(-1)
    wrong = (values < 0) | (values > most)
    if wrong.any():
        n = int(wrong.argmax())
        raise ValueError(f"ctc_loss: {name}[{n}] is {int(values[n])}, expected 0 to {most}, {what}")


def in_range(lengths: Array, most: int) -> Array:
    """Lengths (N,) in int64, from 0 to `most`."""
    return namespace(lengths).clip(lengths.reshape(-1).astype("int64"), 0, most)


def check_labels(labels: Array, wrong: Array, classes: int, blank: int) -> None:
    """ValueError for a label that is wrong, if they are at hand."""
    values = current_backend().at_hand(wrong)
    if values is not None and values.any():
        n, s = divmod(int(values.argmax()), values.shape[1])
        raise ValueError(
            f"ctc_loss: label {s} of sample {n} is {int(labels[n, s])}, expected a class, 0 to "
            f"{classes - 1}, other than the blank {blank}"
        )


def padded_labels(
    targets: Array, lengths: Array, longest: int, classes: int, blank: int
) -> tuple[Array, Array]:
    """Labels, in rows (N, S) or one after the other, as rows (N, longest) with blanks behind their
    ends; and which of them are no classes, or are the blank."""
    xp = namespace(lengths)
    inside = xp.arange(longest) < lengths[:, None]  # (N, longest)
    joined = targets.ndim == 1
    begins = lengths.cumsum() - lengths if joined else xp.arange(len(targets)) * targets.shape[1]
    place = xp.minimum(begins[:, None] + xp.arange(longest), targets.size - 1)
    labels = xp.where(inside, targets.reshape(-1)[place].astype("int64"), blank)
    return labels, inside & ((labels < 0) | (labels >= classes) | (labels == blank))


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
    lie on a device are not looked at: there a length is brought into its range, and a label that is
    no class counts as a blank.
    Source: Graves et al. 2006.
    """
    check_reduction("ctc_loss", reduction)
    x, labels = as_tensor(log_probs), as_array(targets)
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
    backend, most = current_backend(), labels.shape[-1]
    inputs, lengths = as_array(input_lengths), as_array(target_lengths)
    check_lengths("input_lengths", inputs, count, steps, f"the steps of {x.shape}")
    check_lengths("target_lengths", lengths, count, most, f"the labels in targets {labels.shape}")
    known = backend.at_hand(lengths)
    total, longest = (most, most) if known is None else (int(known.sum()), int(known.max()))
    if labels.shape not in ((total,), (count, most)):
        raise ValueError(
            f"ctc_loss: targets are {labels.shape}, expected ({count}, S) or ({total},), the sum "
            "of target_lengths"
        )
    if namespace(labels) is not namespace(lengths):
        labels, lengths = backend.asarray(labels), backend.asarray(lengths)
    inputs, lengths = in_range(inputs, steps), in_range(lengths, most)
    padded, wrong = padded_labels(labels, lengths, longest, classes, blank)
    check_labels(padded, wrong, classes, blank)
    padded = namespace(padded).where(wrong, blank, padded)
    labelling = tuple(map(backend.asarray, (padded, inputs, lengths)))
    batch = reshape(x, (steps, 1, classes)) if single else x
    losses = CTCLoss(labelling, blank, zero_infinity)(batch)
    if reduction == "mean":
        losses = losses / Tensor(backend.xp.maximum(labelling[2], 1).astype(x.dtype))
    return reduce_loss(reshape(losses, ()) if single else losses, reduction)
