"""Which of the classes does an image show?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.errors import UserError
from hwr.statistics import describe_accuracy, wilson_interval
from hwr.tasks.task import tasks
from tinynn import functional as F
from tinynn.backend import current_backend
from tinynn.tensor import Tensor


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a dataset.

    `loss` is the mean cross-entropy in nats; `confusion[t, p]` counts images of class t read as p.
    Of patches of lines, `lines_right` are the lines that most of their patches read right, of
    `lines_total`; 0 of 0 for other images.
    """

    loss: float
    confusion: np.ndarray  # (classes, classes) int64
    lines_right: int = 0
    lines_total: int = 0

    @property
    def measure(self) -> str:
        """What reports call `accuracy`."""
        return "accuracy"

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of images read right."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The share read right, from 0 to 1."""
        return self.correct / self.total

    def figures(self) -> dict[str, Any]:
        """What JSON reports beside loss and accuracy."""
        figures: dict[str, Any] = {"confusion": self.confusion.tolist()}
        if self.lines_total:
            low, high = wilson_interval(self.lines_right, self.lines_total)
            figures |= {"lines_right": self.lines_right, "lines_total": self.lines_total}
            figures |= {"line_accuracy": self.lines_right / self.lines_total}
            figures |= {"line_interval": [low, high]}
        return figures

    def lines(self, classes: Sequence[str]) -> list[str]:
        """Lines by the vote of their patches; the most frequent errors."""
        voted = describe_accuracy(self.lines_right, self.lines_total) if self.lines_total else ""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        pairs = np.argsort(wrong, axis=None)[::-1][:5]
        shown = [
            f"{classes[t]} read as {classes[p]} {wrong[t, p]} times"
            for t, p in (np.unravel_index(i, wrong.shape) for i in pairs)
            if wrong[t, p]
        ]
        lines = [f"lines, by vote of their patches: {voted}"] if voted else []
        return lines + (["most frequent errors: " + ", ".join(shown)] if shown else [])


class Classification:
    """Logits (N, classes), labels (N,): softmax and cross-entropy."""

    batch = 500

    def loss(
        self,
        output: Tensor,
        labels: NDArray[np.int64],
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The cross-entropy. UserError for an output that is no (N, classes)."""
        check(output, labels)
        return F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction=reduction)

    def read(self, output: Tensor) -> Tensor:
        """The class of the highest logit, (N,)."""
        return output.argmax(1)

    def right(self, readings: np.ndarray, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each image is read as its class: (N,)."""
        return readings == labels

    def result(
        self, loss: float, readings: np.ndarray, labels: NDArray[np.int64], dataset: Dataset
    ) -> Evaluation:
        """The confusion of all images, and of patches the vote of each line's."""
        confusion = np.zeros((len(dataset.classes),) * 2, np.int64)
        np.add.at(confusion, (labels, readings), 1)
        if "line" not in dataset.groups:
            return Evaluation(loss, confusion)
        _, first, line = np.unique(dataset.groups["line"], return_index=True, return_inverse=True)
        votes = np.zeros((len(first), len(dataset.classes)), np.int64)
        np.add.at(votes, (line, readings), 1)
        right = int((votes.argmax(1) == labels[first]).sum())  # of equals the first class wins
        return Evaluation(loss, confusion, right, len(first))


class SquaredError(Classification):
    """The same, trained by the squared difference of softmax and one-hot label."""

    def loss(
        self,
        output: Tensor,
        labels: NDArray[np.int64],
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """1/K sum_k (softmax(output)_k - [k = label])^2, of K classes.

        Source: Arora and Bhatia, equation 2. UserError for an output that is no (N, classes).
        """
        check(output, labels)
        classes = output.shape[1]
        # The labels may lie on a device.
        onehot = Tensor(labels).data[:, None] == current_backend().xp.arange(classes)
        target = (1 - label_smoothing) * onehot + label_smoothing / classes
        target = target.astype(output.dtype)
        loss = F.mse_loss(F.softmax(output, 1), target, reduction)
        return loss / classes if reduction == "sum" else loss


def check(output: Tensor, labels: NDArray[np.int64]) -> None:
    """UserError unless these are logits (N, classes) and labels (N,)."""
    if output.ndim != 2 or labels.ndim != 1:
        raise UserError(
            f"classification needs logits (N, classes) and labels (N,), but the model gives "
            f"{output.shape} and the data {labels.shape}; choose a recipe of another task, or "
            "another --model"
        )


tasks.register("classification")(Classification())
tasks.register("classification-mse")(SquaredError())
