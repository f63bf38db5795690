"""Which string does an image show? Read by CTC, without cutting it into signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.decoding import Labels, collapse
from hwr.errors import UserError
from hwr.strings import PADDING, edit_distance, text, unpad
from hwr.tasks.task import tasks
from tinynn import functional as F
from tinynn.backend import current_backend
from tinynn.tensor import Tensor

BLANK = 0  # the sign of no class; class c is sign c + 1
SHOWN = 10  # misread strings in a report


@dataclass(frozen=True)
class StringEvaluation:
    """What a model makes of images of strings.

    `loss` is the mean CTC loss of a string in nats; `readings` and `truths` are tuples of classes.
    """

    loss: float
    readings: list[Labels]
    truths: list[Labels]

    @property
    def measure(self) -> str:
        """What reports call `accuracy`."""
        return "string accuracy"

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.truths)

    @property
    def correct(self) -> int:
        """Number of strings read without any error."""
        return self.distances.count(0)

    @property
    def accuracy(self) -> float:
        """The share of strings read without any error, from 0 to 1."""
        return self.correct / self.total

    @cached_property
    def distances(self) -> list[int]:
        """The edit distance of each reading from the truth."""
        return [edit_distance(*pair) for pair in zip(self.readings, self.truths)]

    @property
    def edit_distance(self) -> float:
        """The mean of the distances."""
        return sum(self.distances) / self.total

    @property
    def normalised_error(self) -> float:
        """All edits over all signs of the truth: the error rate of signs. It may exceed 1."""
        return sum(self.distances) / max(1, sum(map(len, self.truths)))

    def figures(self) -> dict[str, Any]:
        """What JSON reports beside loss and accuracy; strings as lists of class numbers."""
        return {
            "edit_distance": self.edit_distance,
            "normalised_error": self.normalised_error,
            "misread": [{"truth": truth, "reading": read} for truth, read in self._misread()],
        }

    def lines(self, classes: Sequence[str]) -> list[str]:
        """Distances, and some of the misread strings."""
        lines = [
            f"edit distance {self.edit_distance:.4f} a string, normalised error "
            f"{100 * self.normalised_error:.2f} % of the signs"
        ]
        shown = [
            f"{text(truth, classes)} read as {text(read, classes) or 'nothing'}"
            for truth, read in self._misread()[:SHOWN]
        ]
        return lines + (["misread: " + ", ".join(shown)] if shown else [])

    def _misread(self) -> list[tuple[Labels, Labels]]:
        pairs = zip(self.truths, self.readings, self.distances)
        return [(truth, read) for truth, read, distance in pairs if distance]


class Strings:
    """Logits (T, N, 1 + classes), labels (N, S) with `PADDING` behind their ends: CTC."""

    batch = 32  # the images are ten times as large

    def loss(
        self,
        output: Tensor,
        labels: NDArray[np.int64],
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The CTC loss of a string. UserError for a string longer than the output can say."""
        if label_smoothing:
            raise UserError(
                f"--label-smoothing {label_smoothing:g} is for classification; CTC has none: leave "
                "it out"
            )
        if output.ndim != 3 or labels.ndim != 2:
            raise UserError(
                f"strings need logits (T, N, 1 + classes) and labels (N, S), but the model gives "
                f"{output.shape} and the data {labels.shape}; choose a recipe of another task, or "
                "another --model"
            )
        values = current_backend().at_hand(labels)
        if values is not None:  # of a step that is recorded the first steps' were looked at
            check_steps(len(output), values)
        lengths = (labels != PADDING).sum(1)
        steps = 0 * lengths + len(output)
        log_probs = F.log_softmax(output, 2)
        losses = F.ctc_loss(log_probs, labels + 1, steps, lengths, BLANK, reduction="none")
        return losses.sum() if reduction == "sum" else losses.mean()

    def read(self, output: Tensor) -> Tensor:
        """The most probable path of each image, (N, T)."""
        return F.permute(output.argmax(2), (1, 0))

    def right(self, readings: np.ndarray, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each image is read without any error: (N,)."""
        pairs = zip(self.labellings(readings), unpad(labels))
        return np.array([read == truth for read, truth in pairs], bool)

    def result(
        self, loss: float, readings: np.ndarray, labels: NDArray[np.int64], dataset: Dataset
    ) -> StringEvaluation:
        """All strings, as read and as they are."""
        return StringEvaluation(loss, self.labellings(readings), unpad(labels))

    def labellings(self, paths: np.ndarray) -> list[Labels]:
        """The classes that paths (N, T) of signs read as."""
        return [tuple(sign - 1 for sign in signs) for signs in collapse(paths, BLANK)]


def check_steps(steps: int, labels: NDArray[np.int64]) -> None:
    """UserError, with the first such string, if one needs more steps than the output has.

    It needs one for each label, and one for the blank between two that are equal.
    """
    equal = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != PADDING)
    needed = (labels != PADDING).sum(1) + equal.sum(1)
    if needed.max(initial=0) > steps:
        n = int((needed > steps).argmax())
        raise UserError(
            f"the string of sample {n} of the batch, classes {list(unpad(labels[n : n + 1])[0])}, "
            f"needs {needed[n]} steps, and the model's output has {steps}; use wider images, or "
            "leave the string out"
        )


tasks.register("strings")(Strings())
