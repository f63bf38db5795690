"""Which of the classes does an image show?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import UserError
from hwr.tasks.task import tasks
from tinynn import functional as F
from tinynn.tensor import Tensor


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a dataset.

    `loss` is the mean cross-entropy in nats; `confusion[t, p]` counts images of class t read as p.
    """

    loss: float
    confusion: np.ndarray  # (classes, classes) int64

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
        return {"confusion": self.confusion.tolist()}

    def lines(self, classes: Sequence[str]) -> list[str]:
        """The most frequent errors, for classes of these names."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        pairs = np.argsort(wrong, axis=None)[::-1][:5]
        shown = [
            f"{classes[t]} read as {classes[p]} {wrong[t, p]} times"
            for t, p in (np.unravel_index(i, wrong.shape) for i in pairs)
            if wrong[t, p]
        ]
        return ["most frequent errors: " + ", ".join(shown)] if shown else []


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
        self, loss: float, readings: np.ndarray, labels: NDArray[np.int64], classes: int
    ) -> Evaluation:
        """The confusion of all images."""
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (labels, readings), 1)
        return Evaluation(loss, confusion)


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
        target = (1 - label_smoothing) * np.eye(classes)[labels] + label_smoothing / classes
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
