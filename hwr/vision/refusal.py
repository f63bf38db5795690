"""What of all that was read is believed: judged by page, by line, by word and digit by digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hwr.vision.components import Component, weighted_median
from hwr.vision.decode import Digit, Reading
from hwr.vision.orient import from_upright
from hwr.vision.parameters import Parameters

Marks = list[tuple[Sequence[Component], str]]  # refused ones, each with the reason


@dataclass(frozen=True)
class Doubt:
    """What the page as a whole says about its lines.

    `few` if hardly a digit is sure; `unclear` if much of its ink cannot be read, so that only clear
    lines are believed; `doubtful` if faint ink is not to be believed, as stains may be, unless many
    digits are sure; `unreadable` if nothing is; `turned` if it was not upright.
    """

    few: bool
    unclear: bool
    doubtful: bool
    unreadable: bool
    turned: bool

    @staticmethod
    def of(readings: Sequence[Reading], score: float, angle_deg: float, p: Parameters) -> Doubt:
        """Of a page read with a mean log probability of `score`, turned by an angle."""
        every = [d for reading in readings for d in reading.digits]
        sure = [d for d in every if d.probability > p.sure]
        shapes = sum(d.label != 1 for d in sure)  # that no fold has
        plenty = shapes >= max(p.plenty, p.plenty_part * len(every))
        few = len(sure) < p.supported
        turned = from_upright(angle_deg) > 45
        unreadable = few and score < p.few_score
        if turned:  # who turns a page must be able to read it
            unreadable |= score < (p.clear_line if few else p.page_score)
        unclear = score < p.page_score
        doubtful = few or (score < p.few_score and not plenty)
        return Doubt(few, unclear, doubtful, unreadable, turned)


def accepted(
    readings: Sequence[Reading], doubt: Doubt, noise: float, p: Parameters
) -> tuple[list[list[Digit]], Marks]:
    """The lines of digits to report, and everything else with the reason.

    Doubt is judged in layers: the page, the line, the digit, and whether it stands alone. `noise`
    is the paper's.
    """
    refused: Marks = []
    kept: list[list[Digit]] = []
    least_score = p.clear_line if doubt.unclear else p.line_score
    numbers: list[list[Digit]] = [[] for _ in readings]
    if not doubt.turned:
        numbers = numbers_beside_words(readings, p)
    for reading, beside in zip(readings, numbers):
        refused += [([c], "no digit") for c in reading.refused]
        digits = believable(reading.digits, p)
        refused += [(d.candidate.pieces, "no digit") for d in reading.digits if d not in digits]
        mean = float(np.mean([d.probability for d in digits])) if digits else 0.0
        why = ""
        if doubt.unreadable:
            why = "page unreadable"
        elif reading.score < least_score or mean < p.least_line:
            why = "line unreadable"
        if why:
            refused += [(d.candidate.pieces, why) for d in digits if d not in beside]
            digits = beside
        if digits:
            kept.append(digits)
    every = [d for line in kept for d in line]
    why = unbelievable(every, max(p.dark, p.clear * noise), p, doubtful=doubt.doubtful)
    if doubt.unclear and len(every) == len(kept):  # each is a line of its own, among dirt
        why = "page unreadable"
    if why:
        refused += [(d.candidate.pieces, why) for line in kept for d in line]
        kept = []
    return without_lone(kept, refused, p, few=doubt.few) if kept else ([], refused)


def believable(digits: Sequence[Digit], p: Parameters) -> list[Digit]:
    """Those likely enough, and likelier than no digit."""
    return [d for d in digits if d.probability >= max(p.least, d.no_digit)]


def numbers_beside_words(readings: Sequence[Reading], p: Parameters) -> list[list[Digit]]:
    """For each line the digits of the numbers in it that are clear, whatever stands beside them.

    A word reads badly and would take its line, or the page, with it. Numbers are believed in spite
    of it if they have several digits, and if there is more than a pair of letters that happens to
    look like them.
    """
    found = []
    for reading in readings:
        clear = [word.digits for word in words_of(reading, p) if is_clear(word, p)]
        found.append([d for digits in clear for d in digits])
    enough = sum(len(digits) for digits in found) >= p.least_words
    return found if enough else [[] for _ in found]


def is_clear(word: Reading, p: Parameters) -> bool:
    """Whether a word is a number of several digits, all of it read, and each digit sure."""
    sure = all(d.probability > p.sure for d in word.digits)
    return sure and len(word.digits) >= p.least_word and word.score >= p.clear_line


def words_of(reading: Reading, p: Parameters) -> list[Reading]:
    """A line parted at wide gaps; each part with the score of its own ink."""
    if not reading.digits:
        return []
    gap = p.word_gap * median(d.candidate.box[3] for d in reading.digits)
    marks: list[tuple[float, float, Digit | Component]] = []
    marks += [(d.candidate.box[0], d.candidate.box[0] + d.candidate.box[2], d)
              for d in reading.digits]  # fmt: skip
    marks += [(c.x, c.right, c) for c in reading.refused]
    words: list[list[Digit | Component]] = []
    reached = -np.inf
    for left, right, mark in sorted(marks, key=lambda each: each[:2]):
        if left - reached > gap:
            words.append([])
        words[-1].append(mark)
        reached = max(reached, right)
    return [as_reading(word, p) for word in words]


def as_reading(word: Sequence[Digit | Component], p: Parameters) -> Reading:
    """Some of a line's digits and refused pieces, and how well they could be read."""
    digits = [mark for mark in word if isinstance(mark, Digit)]
    refused = [mark for mark in word if isinstance(mark, Component)]
    ink = sum(d.candidate.length for d in digits) + sum(c.length for c in refused)
    read = sum(d.candidate.length * max(d.log_probability, p.unread) for d in digits)
    return Reading(digits, refused, (read + p.unread * sum(c.length for c in refused)) / ink, ink)


def unbelievable(digits: Sequence[Digit], dark: float, p: Parameters, *, doubtful: bool) -> str:
    """Why a page's digits are none after all: folds, dirt, stains, ruling lines. Empty if they are.

    A straight stroke is a 1 to the network, whoever drew it: believed are a few dark ones, or ones
    among other digits. On a page that is `doubtful` anyhow, faint digits may be parts of a stain.
    `dark` is the darkness from which ink is not faint.
    """
    if not digits:
        return ""
    faint = float(np.mean([c.darkness for d in digits for c in d.candidate.pieces])) < dark
    strokes = sum(d.label == 1 or d.probability <= p.least_line for d in digits)
    mere = faint and strokes >= p.strokes * len(digits)
    if mere or (strokes == len(digits) > p.most_strokes):
        return "a mere stroke"
    return "faint and doubtful" if doubtful and faint else ""


def without_lone(
    kept: Sequence[list[Digit]], refused: Marks, p: Parameters, *, few: bool
) -> tuple[list[list[Digit]], Marks]:
    """The lines but those much lower than the page's, or of one doubtful digit."""
    height = weighted_median(
        [d.candidate.box[3] for line in kept for d in line],
        [d.candidate.length * d.probability for line in kept for d in line],
    )
    alone_least = p.least_alone if few else p.least_line
    lines, refused = [], list(refused)
    for line in kept:
        low = float(np.median([d.candidate.box[3] for d in line]))
        if low < p.small * height:
            refused += [(d.candidate.pieces, "too small") for d in line]
        elif len(line) == 1 and (line[0].probability < alone_least or low < p.low_alone * height):
            refused.append((line[0].candidate.pieces, "doubtful and alone"))
        else:
            lines.append(line)
    return lines, refused
