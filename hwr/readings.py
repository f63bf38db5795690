"""What a model made of every image of a dataset, kept for whatever is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Readings:
    """The log-probability of each class for each image, and what the image is.

    `log_probabilities` (N, K) in nats: a probability too small for a float still has a logarithm.
    `labels` int64 (N,).
    """

    log_probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, K): each row sums to 1."""
        return np.exp(self.log_probabilities.astype(np.float64))

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,): the likeliest class of each image, what it is read as."""
        return self.log_probabilities.argmax(1)

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """(N,): the probability of what each image is read as."""
        return self.probabilities.max(1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,): whether each image is read as what it is."""
        return self.predictions == self.labels

    @property
    def loss(self) -> float:
        """The mean negative log-likelihood of the labels, in nats: the cross-entropy."""
        of_label = self.log_probabilities[np.arange(len(self)), self.labels]
        return -float(of_label.mean(dtype=np.float64))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K): how many images of class t are read as p."""
        classes = self.log_probabilities.shape[1]
        pairs = self.labels * classes + self.predictions
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
