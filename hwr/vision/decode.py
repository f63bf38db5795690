"""A line of pieces read as digits: the cheapest way to share the pieces out among digits.

Dynamic programming over the pieces from left to right. Each step takes some pieces for one digit,
at the price of its surprise (-log p) times its share of the ink, or refuses one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.vision.candidates import Candidate
from hwr.vision.classifier import DIGITS
from hwr.vision.components import Component
from hwr.vision.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Digit:
    """A candidate read: `label` 0 to 9 and its calibrated probability."""

    candidate: Candidate
    label: int
    probability: float
    log_probabilities: NDArray[np.float32]

    @property
    def log_probability(self) -> float:
        """Of the label."""
        return float(self.log_probabilities[self.label])

    @property
    def no_digit(self) -> float:
        """The probability that it is none."""
        return float(np.exp(self.log_probabilities[DIGITS]))


@dataclass(frozen=True, eq=False)
class Reading:
    """A line's digits from left to right, the pieces refused, and how well it could be read.

    `score` is the mean log probability over the ink, `ink` its amount in digits.
    """

    digits: list[Digit]
    refused: list[Component]
    score: float
    ink: float


def read_line(
    pieces: Sequence[Component],
    candidates: Sequence[Candidate],
    scores: NDArray[np.float32],
    height: float,
    p: Parameters,
) -> Reading:
    """The best reading of a line; `scores` (N, 11) are the candidates' log probabilities."""
    usual = p.usual_length * height
    ink = np.array([piece.length for piece in pieces]) / usual
    ending: dict[int, list[int]] = {}
    for k, candidate in enumerate(candidates):
        ending.setdefault(candidate.stop, []).append(k)
    best = [0.0]
    chosen: list[int | None] = [None]  # the candidate that ends before each place
    for stop in range(1, len(pieces) + 1):
        cost, choice = best[-1] + p.skip_cost * ink[stop - 1] + p.least_skip, None
        if (
            stop > 1
            and chosen[-1] is not None
            and pieces[stop - 1].parent == pieces[stop - 2].parent
        ):
            cost += p.cut_cost  # the rest of what a digit was cut from
        for k in ending.get(stop, ()):
            c = candidates[k]
            before = chosen[c.start]
            total = best[c.start] + candidate_cost(c, scores[k], ink, height, p)
            if is_cut(c, pieces) and scores[k][:DIGITS].argmax() == 1:
                total += p.cut_one_cost
            total += joint_cost(c, pieces, None if before is None else candidates[before], p)
            if total < cost:
                cost, choice = total, k
        best.append(cost)
        chosen.append(choice)
    digits: list[Digit] = []
    refused: list[Component] = []
    at = len(pieces)
    while at:
        last = chosen[at]
        if last is None:
            at -= 1
            refused.append(pieces[at])
        else:
            digits.append(as_digit(candidates[last], scores[last]))
            at = candidates[last].start
    read = sum(d.candidate.length * max(d.log_probability, p.unread) for d in digits)
    lost = sum(piece.length for piece in refused)
    score = (read + p.unread * lost) / usual / max(float(ink.sum()), 1e-6)
    return Reading(digits[::-1], refused[::-1], score, float(ink.sum()))


def as_digit(candidate: Candidate, scores: NDArray[np.float32]) -> Digit:
    """The likeliest of the ten digits."""
    label = int(scores[:DIGITS].argmax())
    return Digit(candidate, label, float(np.exp(scores[label])), scores)


def candidate_cost(
    c: Candidate,
    scores: NDArray[np.float32],
    ink: NDArray[np.float64],
    height: float,
    p: Parameters,
) -> float:
    """What it costs to take a candidate for its likeliest digit."""
    surprise = min(-float(scores[:DIGITS].max()), p.most_surprise)
    cost = surprise * float(ink[c.start : c.stop].sum()) + p.digit_cost
    _, _, w, h = c.box
    cost += p.wide_cost * min(max(w / max(h, 1) - p.wide_from, 0), 1)
    return cost + p.low_cost * max(p.low_from - h / height, 0) / p.low_from


def is_cut(c: Candidate, pieces: Sequence[Component]) -> bool:
    """Whether a candidate begins or ends within a component."""
    own = {piece.parent for piece in c.pieces}
    outside = [pieces[i].parent for i in (c.start - 1, c.stop) if 0 <= i < len(pieces)]
    return any(parent in own for parent in outside)


def joint_cost(
    c: Candidate, pieces: Sequence[Component], before: Candidate | None, p: Parameters
) -> float:
    """What it costs to begin a digit within a component, right after another digit."""
    if not c.start or pieces[c.start].parent != pieces[c.start - 1].parent:
        return 0.0
    cost = p.cut_cost
    if before is not None:
        ax, ay, aw, ah = before.box
        bx, by, bw, bh = c.box
        across, down = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
        if across > p.overlap_from * min(aw, bw):
            cost += p.overlap_cost * across / max(1, min(aw, bw))
        if across > 0 and down < p.stack_from * min(ah, bh):
            cost += p.stack_cost
    return cost
