"""What a CTC output reads as: the most probable path, or the most probable labelling.

The two differ: 7 may be read by many unlikely paths and nothing by one likely path. `greedy` is
quick and takes the path; `beam_search` adds up the paths of each labelling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = tuple[int, ...]


def greedy(log_probs: NDArray[np.floating], blank: int = 0) -> list[Labels]:
    """The reading of each sample's most probable path. (T, N, C), or logits, -> N labellings."""
    return collapse(log_probs.argmax(2).T, blank)


def collapse(paths: NDArray[np.integer], blank: int = 0) -> list[Labels]:
    """What paths read as: repeats are merged, then blanks dropped. (N, T) -> N labellings."""
    new = np.ones(paths.shape, bool)
    new[:, 1:] = paths[:, 1:] != paths[:, :-1]
    kept = new & (paths != blank)
    ends = kept.sum(1).cumsum()
    labels = paths[kept].tolist()  # of all samples, one after the other
    return [tuple(labels[begin:end]) for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist())]


def beam_search(
    log_probs: NDArray[np.floating], width: int | None = 16, top_k: int = 1, blank: int = 0
) -> list[tuple[Labels, float]]:
    """The `top_k` most probable labellings of a sample with their log-probabilities, best first.

    log_probs (T, C). Labellings grow step by step; the `width` best go on (None: all, which is
    exact, and takes time exponential in T). Of each are kept two log-probabilities: of its paths
    that end in a blank, behind which its last label may come again, and of those that do not.
    Source: Hannun, Maas, Jurafsky and Ng 2014, algorithm 1, without the language model.

    Raises ValueError for log_probs of another shape, or a width or top_k below 1.
    """
    if log_probs.ndim != 2 or min(width or 1, top_k) < 1 or width == 0:
        raise ValueError(
            f"beam_search: needs log_probs (T, C), width and top_k of 1 or more, not "
            f"{log_probs.shape}, {width} and {top_k}"
        )
    beam: dict[Labels, Ways] = {(): (0.0, -math.inf)}
    for step in log_probs.tolist():
        grown: dict[Labels, Ways] = {}
        for labels, (by_blank, by_label) in beam.items():
            total = log_add(by_blank, by_label)
            add(grown, labels, total + step[blank], -math.inf)
            if labels:  # seen once more: the same label
                add(grown, labels, -math.inf, by_label + step[labels[-1]])
            for label, score in enumerate(step):
                if label != blank:
                    before = by_blank if labels[-1:] == (label,) else total
                    add(grown, (*labels, label), -math.inf, before + score)
        beam = dict(best(grown, width))
    return [(labels, log_add(*ways)) for labels, ways in best(beam, top_k)]


Ways = tuple[float, float]  # log-probabilities of the paths that end in a blank, and in a label


def add(beam: dict[Labels, Ways], labels: Labels, by_blank: float, by_label: float) -> None:
    """Count more paths of a labelling."""
    old = beam.get(labels, (-math.inf, -math.inf))
    beam[labels] = log_add(old[0], by_blank), log_add(old[1], by_label)


def best(beam: dict[Labels, Ways], count: int | None) -> Sequence[tuple[Labels, Ways]]:
    """The `count` most probable labellings that are possible at all, the best first."""
    possible = [item for item in beam.items() if max(item[1]) > -math.inf]
    return sorted(possible, key=lambda item: -log_add(*item[1]))[:count]


def log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    a, b = max(a, b), min(a, b)
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))
