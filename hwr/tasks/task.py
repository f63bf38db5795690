"""What training and evaluation ask of a task, and the table of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.registry import Registry
from tinynn.tensor import Tensor


class Result(Protocol):
    """What a model makes of a dataset."""

    @property
    def measure(self) -> str:
        """What reports call `accuracy`."""

    @property
    def loss(self) -> float:
        """The mean loss in nats."""

    @property
    def total(self) -> int:
        """Number of images."""

    @property
    def correct(self) -> int:
        """Number of images read right."""

    @property
    def accuracy(self) -> float:
        """The share read right, from 0 to 1."""

    def figures(self) -> dict[str, Any]:
        """What JSON reports beside loss and accuracy."""

    def lines(self, classes: Sequence[str]) -> list[str]:
        """What text reports beside loss and accuracy, for classes of these names."""


class Task(Protocol):
    """The loss of a model's output for a batch, what it is read as, and whether that is right.

    `labels` are a batch's of the loader: its first axis is that of the images, and so is that of
    readings.
    """

    @property
    def batch(self) -> int:
        """Images to read at a time when nothing is trained."""

    def loss(
        self,
        output: Tensor,
        labels: NDArray[np.int64],
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """The loss in nats: "mean" of the images, or their "sum".

        Raises UserError for an output or labels that are not of this task.
        """

    def read(self, output: Tensor) -> Tensor:
        """What the images are read as, (N, ...), to be fetched later."""

    def right(self, readings: np.ndarray, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each image is read right: (N,)."""

    def result(
        self, loss: float, readings: np.ndarray, labels: NDArray[np.int64], dataset: Dataset
    ) -> Result:
        """All images of a dataset together, in its order; `loss` is their mean."""


tasks: Registry[Task] = Registry("task")
