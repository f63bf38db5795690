"""Finding pictures that occur twice: within a split, and, worse, in two splits.

Pictures are compared by their decoded pixels, as the loader returns them: files that are the same
byte for byte have the same pixels, and so have copies in another format or at another place.

The policy: an official test split is left as it is, so that figures can be compared; what the
training split shares with it is left out there, and the dataset's note says how much. Where the
split is made here, pictures that are the same count once, before anything is split: the first in
the order of names stays, and none if their labels differ. `python -m hwr.data check` reports what
remains.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def fingerprint(image: NDArray[np.uint8]) -> bytes:
    """SHA-256 of a picture's size and pixels."""
    header = str(image.shape).encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).digest()


def once(prints: Sequence[bytes], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the pictures to keep: the first of those that are equal, if labelled alike."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for i, each in enumerate(prints):
        alike[each].append(i)
    kept = [where[0] for where in alike.values() if len(set(labels[where].tolist())) == 1]
    return np.array(kept, np.int64)


def not_among(
    images: Iterable[NDArray[np.uint8]], others: Iterable[NDArray[np.uint8]]
) -> NDArray[np.int64]:
    """Positions of the images that are none of the others."""
    known = {fingerprint(other) for other in others}
    kept = [i for i, image in enumerate(images) if fingerprint(image) not in known]
    return np.array(kept, np.int64)


@dataclass(frozen=True)
class Report:
    """What is repeated: `within` each split, `across` two splits (pairs of positions), and
    `contradictions`, positions in two splits (or one) of the same picture labelled differently."""

    within: Mapping[str, int]
    across: Mapping[tuple[str, str], tuple[tuple[int, int], ...]]
    contradictions: tuple[tuple[tuple[str, int], tuple[str, int]], ...]


def compare(splits: Mapping[str, tuple[Sequence[NDArray[np.uint8]], Sequence[object]]]) -> Report:
    """Look for repetitions in splits of (images, labels or texts)."""
    prints = {name: [fingerprint(i) for i in images] for name, (images, _) in splits.items()}
    within = {name: len(found) - len(set(found)) for name, found in prints.items()}
    across = {}
    for one, other in combinations(prints, 2):
        first = {p: i for i, p in reversed(list(enumerate(prints[one])))}
        across[one, other] = tuple((first[p], i) for i, p in enumerate(prints[other]) if p in first)
    seen: dict[bytes, tuple[str, int]] = {}
    contradictions = []
    for name, found in prints.items():
        for i, p in enumerate(found):
            before = seen.setdefault(p, (name, i))
            if splits[before[0]][1][before[1]] != splits[name][1][i]:
                contradictions.append((before, (name, i)))
    return Report(within, across, tuple(contradictions))
