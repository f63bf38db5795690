"""Strings read: how far from the truth, and labels to text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PADDING = -1  # behind the end of a string among the labels (N, S) of a batch


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The fewest insertions, deletions and substitutions that make `a` into `b`.

    d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j]), a row at a time.
    Source: Levenshtein 1966; Wagner and Fischer 1974 for the table.
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def unpad(labels: NDArray[np.integer]) -> list[tuple[int, ...]]:
    """(N, S), `PADDING` behind each end -> N tuples of labels."""
    return [tuple(row[row != PADDING].tolist()) for row in labels]


def pad(strings: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """N sequences of labels -> int64 (N, S), `PADDING` behind the end of the shorter ones."""
    labels = np.full((len(strings), max(map(len, strings), default=0)), PADDING, np.int64)
    for row, string in zip(labels, strings):
        row[: len(string)] = string
    return labels


def text(labels: Sequence[int], classes: Sequence[str]) -> str:
    """The names of the classes, one after the other."""
    return "".join(classes[label] for label in labels)
