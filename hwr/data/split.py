"""Splits for datasets that come without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SHARES = {"train": 0.8, "test": 0.2}
SEED = 0  # of all splits made here: another one would be another dataset


def divide(
    labels: Sequence[object] | NDArray[np.generic],
    shares: Mapping[str, float] = SHARES,
    *,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
    seed: int = SEED,
) -> dict[str, NDArray[np.int64]]:
    """Positions for each split, in ascending order: random, and stratified by label.

    A group stays together, so that no writer, form or page stands on both sides; it counts once,
    with the label of its first sample. Of every label, each split but the first gets its share of
    the groups, rounded; the first gets the rest, and at least one.
    """
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _, first, unit_of = np.unique(units, return_index=True, return_inverse=True)
    kinds = np.unique(np.asarray(labels)[first], return_inverse=True)[1]
    names = list(shares)
    rng = np.random.default_rng(seed)
    assigned = np.zeros(len(first), np.int64)  # of each unit: the split's number
    for kind in range(kinds.max() + 1 if len(kinds) else 0):
        members = rng.permutation(np.flatnonzero(kinds == kind))
        end = len(members)
        for number in range(1, len(names)):
            count = min(round(len(members) * shares[names[number]]), end - 1)
            assigned[members[end - count : end]] = number
            end -= count
    return {name: np.flatnonzero(assigned[unit_of] == i) for i, name in enumerate(names)}
