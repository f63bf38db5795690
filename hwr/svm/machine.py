"""A trained support vector machine: its decision function, and its file.

One machine for each pair of classes; the class that wins most of its pairs is read. Nothing here
needs scikit-learn, and the file holds arrays and JSON, no code.
Source: Cortes and Vapnik 1995 (Support-vector networks); Knerr et al. 1990 for one against one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwr import checkpoint
from hwr.errors import UserError
from tinynn import state

Array = NDArray[np.float64]
BATCH = 500  # features at a time: their distances from all support vectors are held at once
ARRAYS = ("mean", "scale", "weights", "intercepts", "classes")


@dataclass(frozen=True, eq=False)
class SVM:
    """F features -> one of K classes, by P = K (K - 1) / 2 decisions.

    z = (x - mean) / scale; the decisions are z w + b without `vectors`, the linear machine, and
    exp(-gamma |z - vectors|^2) w + b with them. A positive decision is for the first class of its
    pair. `mean`, `scale` (F,); `vectors` (S, F); `weights` (F, P) or (S, P); `intercepts` (P,);
    `classes` (K,), in ascending order. `facts` tell how it was made.
    """

    mean: Array
    scale: Array
    weights: Array
    intercepts: Array
    classes: NDArray[np.int64]
    vectors: Array | None = None
    gamma: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        features, count = len(self.mean), len(self.classes)
        rows = features if self.vectors is None else len(self.vectors)
        expected = {
            "scale": (features,),
            "weights": (rows, count * (count - 1) // 2),
            "intercepts": (count * (count - 1) // 2,),
        }
        if self.vectors is not None:
            expected["vectors"] = (rows, features)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {getattr(self, name).shape}, expected {shape}")
        if (self.vectors is None) != (self.gamma is None):
            raise ValueError("vectors and gamma belong together")

    def decisions(self, features: ArrayLike) -> Array:
        """(N, F) -> (N, P), a column for each pair of classes, in the order of `combinations`."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise UserError(
                f"the SVM reads {len(self.mean)} features, but was given {x.shape}; it belongs to "
                "another network: fit it anew by python -m hwr.svm RUN --refit"
            )
        z = (x - self.mean) / self.scale
        if self.vectors is not None and self.gamma is not None:
            z = np.exp(-self.gamma * squared_distances(z, self.vectors))
        return z @ self.weights + self.intercepts

    def read(self, features: ArrayLike) -> tuple[NDArray[np.int64], Array]:
        """(N, F) -> the class of each (N,), and how sure it is (N,).

        Of classes with equally many pairs won the first is read. It is as sure as the weakest of
        its decisions against the other classes, so below 0 if it lost one.
        """
        x = np.asarray(features)
        parts = [self._read(x[i : i + BATCH]) for i in range(0, max(1, len(x)), BATCH)]
        labels, sure = zip(*parts)
        return np.concatenate(labels), np.concatenate(sure)

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """(N, F) -> the class of each, (N,)."""
        return self.read(features)[0]

    def _read(self, features: NDArray[Any]) -> tuple[NDArray[np.int64], Array]:
        decisions = self.decisions(features)
        pairs = np.array(list(combinations(range(len(self.classes)), 2)))
        votes, weakest = [], []
        for number in range(len(self.classes)):
            first, second = (decisions[:, pairs[:, side] == number] for side in (0, 1))
            votes.append((first > 0).sum(1) + (second <= 0).sum(1))
            weakest.append(np.concatenate([first, -second], 1).min(1))
        winner = np.argmax(votes, 0)
        return self.classes[winner], np.array(weakest)[winner, np.arange(len(winner))]

    def save(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all. UserError if that is impossible."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        if self.vectors is not None:
            arrays["vectors"] = self.vectors
        checkpoint.write(path, arrays, {**self.facts, "gamma": self.gamma})

    @staticmethod
    def load(path: Path) -> SVM:
        """Read what `save` wrote. UserError if the file is missing, damaged or something else."""
        try:
            arrays, facts = state.read_arrays(path)
            gamma = facts.pop("gamma", None)
            named = {name: arrays[name] for name in ARRAYS}
            return SVM(**named, vectors=arrays.get("vectors"), gamma=gamma, facts=facts)
        except (state.StateError, KeyError, ValueError) as error:
            raise UserError(
                f"{path}: not a support vector machine of hwr.svm ({error}); fit it anew by "
                "python -m hwr.svm RUN --refit"
            ) from None


def squared_distances(a: Array, b: Array) -> Array:
    """|a_i - b_j|^2 = |a_i|^2 - 2 a_i b_j + |b_j|^2: (N, F), (S, F) -> (N, S)."""
    squares = (a**2).sum(1)[:, None] - 2 * (a @ b.T) + (b**2).sum(1)
    return np.maximum(squares, 0)
