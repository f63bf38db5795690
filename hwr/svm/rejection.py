"""Refusing to read: what share of the images can be read at no error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.statistics import wilson_interval

POINTS = 100  # of a curve


@dataclass(frozen=True, eq=False)
class Reading:
    """What a classifier made of every image, and how sure it was: arrays (N,).

    The numbers in `sure` compare readings of one classifier: higher is surer.
    """

    predictions: NDArray[np.int64]
    sure: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is read as what it is."""
        return self.predictions == self.labels

    @property
    def correct(self) -> int:
        """The number of images read right."""
        return int(self.right.sum())

    def threshold(self) -> float | None:
        """How sure the surest error is: what is surer has none. None if there is no error."""
        errors = self.sure[~self.right]
        return float(errors.max()) if errors.size else None

    def at(self, threshold: float | None) -> dict[str, Any]:
        """What is read of these images if those not surer than the threshold are refused."""
        kept = np.ones(len(self), bool) if threshold is None else self.sure > threshold
        read, errors = int(kept.sum()), int((kept & ~self.right).sum())
        return {
            "read": read,
            "share_read": read / len(self),
            "errors": errors,
            "accuracy": 1 - errors / read if read else None,
            "interval": wilson_interval(read - errors, read) if read else None,
        }

    def curve(self) -> list[tuple[float, float]]:
        """The share refused and the error rate of the rest, for about as many shares as `POINTS`.

        The least sure are refused first; the shares lie closer where few are refused.
        """
        errors = np.cumsum(~self.right[np.argsort(-self.sure, kind="stable")])
        refused = np.unique(np.rint(np.geomspace(1, max(1, len(self) - 1), POINTS)).astype(int))
        reads = len(self) - np.append(0, refused[refused < len(self)])
        return [(1 - int(n) / len(self), int(errors[n - 1]) / int(n)) for n in reads]
