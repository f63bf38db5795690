"""From a photograph to numbers. `Reader.examine` is the whole of it, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import UserError
from hwr.vision.candidates import candidates_of, pieces_of
from hwr.vision.classifier import Classifier, shipped
from hwr.vision.components import (
    Component,
    Refused,
    find_components,
    plausible,
    text_height,
)
from hwr.vision.decode import Digit, Reading, read_line
from hwr.vision.ink import Image, Ink, find_ink
from hwr.vision.lines import group_lines, skew_deg
from hwr.vision.orient import (
    Turned,
    original_box,
    preference,
    promising,
    quarter_scores,
    turn,
)
from hwr.vision.page import View, view_page
from hwr.vision.parameters import Parameters
from hwr.vision.refusal import Doubt, accepted
from hwr.vision.ruling import find_ruling
from hwr.vision.threshold import Binary, binarise

UNREADABLE = -9.0  # score of a page without ink


@dataclass(frozen=True, eq=False)
class Marks:
    """What stands on a page: its ink, and which components may be digits."""

    view: View
    ink: Ink
    binary: Binary
    ruling: Image  # its lines, 1
    components: list[Component]
    mask: Image  # of the components alone
    refused: Refused


@dataclass(frozen=True, eq=False)
class Attempt:
    """A page read in one orientation."""

    turned: Turned
    readings: list[Reading]  # from top to bottom
    lone: list[Component]
    score: float
    skew_deg: float

    @property
    def digits(self) -> int:
        """How many were read."""
        return sum(len(reading.digits) for reading in self.readings)

    def rank(self, p: Parameters) -> float:
        """The score, and what is to be expected of a photograph."""
        level = p.level if self.turned.angle_deg % 90 else 0.0
        return self.score + preference(self.turned.angle_deg, self.digits, p) + level


@dataclass(eq=False)
class Examination:
    """Everything that was seen on the way to `page`, for `--explain`."""

    photo: Image
    page: dict[str, Any]
    marks: Marks
    quarters: list[float]  # how well each quarter turn reads, see `orient.quarter_scores`
    attempt: Attempt
    lines: list[list[Digit]]
    seconds: dict[str, float] = field(default_factory=dict)


class Reader:
    """Finds the handwritten digits in photographs and reads them.

    `classifier` is the network; the shipped one if not given.
    """

    def __init__(
        self, classifier: Classifier | None = None, parameters: Parameters | None = None
    ) -> None:
        self.classifier = shipped() if classifier is None else classifier
        self.parameters = Parameters() if parameters is None else parameters

    def read(self, photo: Image) -> dict[str, Any]:
        """uint8 (H, W, 3), BGR as OpenCV has it -> the object that `hwr.predict --json` prints.

        `{"lines": [{"text", "digits": [{"label", "probability", "box", "unsure"}]}], "refused":
        [{"box", "reason"}], "rotation_deg", "sheet"}`; boxes x, y, w, h in pixels of the photo.
        Raises UserError for another array.
        """
        return self.examine(photo).page

    def examine(self, photo: Image) -> Examination:
        """`read`, with everything that was seen on the way."""
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise UserError(
                f"Reader: the photograph is {photo.dtype} {photo.shape}, expected uint8 (H, W, 3), "
                "blue, green, red"
            )
        p, clock = self.parameters, Clock()
        seen = self.examine_page(photo, p, clock)
        if not seen.marks.view.is_whole:  # a sheet that goes on outside, or a lit part of a page?
            seen = max(seen, self.examine_page(photo, replace(p, page=False), clock), key=certain)
        if p.frame_few and certain(seen) < p.supported:
            # A digit or two, cut out closely: too large for what is known of a page's ink.
            alone = replace(p, page=False, frame=p.frame_few)
            framed = self.examine_page(photo, alone, clock)
            seen = framed if framed.lines else seen
        return seen

    def examine_page(self, photo: Image, p: Parameters, clock: Clock) -> Examination:
        """One way to see the page in a photograph, read."""
        marks = self.find_marks(photo, p, p.longest, clock)
        if marks.components and text_height(marks.components) < p.smallest_text:
            scale = min(p.finest, max(photo.shape)) / p.longest
            if scale > 1:
                marks = self.find_marks(photo, p, round(scale * p.longest), clock)
        with clock("orientation"):
            quarters = quarter_scores(
                marks.components, marks.ink.darkness, marks.mask, self.classifier, p
            )
        attempt = self.best_attempt(marks, promising(quarters, p), clock)
        doubt = Doubt.of(attempt.readings, attempt.score, attempt.turned.angle_deg, p)
        lines, refused = accepted(attempt.readings, doubt, marks.ink.noise, p)
        refused += [([c], "too small") for c in attempt.lone]
        page = describe(photo, marks, attempt, lines, refused, p)
        return Examination(photo, page, marks, quarters, attempt, lines, clock.seconds)

    def find_marks(self, photo: Image, p: Parameters, longest: int, clock: Clock) -> Marks:
        """The page, its ink, and the components that may be digits."""
        with clock("page"):
            view = view_page(photo, p, longest)
        with clock("ink"):
            ink = find_ink(view.image, view.mask, p)
        with clock("threshold"):
            binary = binarise(ink, view.mask, p)
        with clock("ruling"):
            lines = find_ruling(binary.visible, ink.darkness, p)
            ink = replace(ink, darkness=np.where(lines > 0, 0, ink.darkness))
        with clock("components"):
            found = find_components(binary.without(lines), ink.darkness, p, view.mask)
            components, refused = plausible(found, lines.shape, p)
        mask = drawn(components, lines.shape)
        return Marks(view, ink, binary, lines, components, mask, refused)

    def best_attempt(self, marks: Marks, quarters: Sequence[int], clock: Clock) -> Attempt:
        """The page read in each promising orientation, then with its lines levelled."""
        p, attempts = self.parameters, []
        for quarter in quarters:
            angle = 90.0 * quarter
            for _ in range(p.skew_times):
                turned = turn(marks.ink.darkness, marks.mask, angle)
                attempts.append(self.attempt(turned, clock))
                if abs(attempts[-1].skew_deg) <= p.skew_deg:
                    break
                angle += attempts[-1].skew_deg
        return max(attempts, key=lambda attempt: attempt.rank(p))

    def attempt(self, turned: Turned, clock: Clock) -> Attempt:
        """The page read in one orientation."""
        p = self.parameters
        with clock("lines"):
            components = find_components(turned.mask, turned.darkness, p)
            if not components:
                return Attempt(turned, [], [], UNREADABLE, 0.0)
            skew = skew_deg(components, p)
            lines, lone = group_lines(components, p)
        with clock("cuts"):
            pieces = [pieces_of(line, p) for line in lines]
            groups = [
                candidates_of(row, line.height, turned.darkness, turned.mask, p)
                for row, line in zip(pieces, lines)
            ]
        with clock("network"):
            scores = self.classifier.log_probabilities([c.image for group in groups for c in group])
        with clock("decoding"):
            each = np.split(scores, np.cumsum([len(group) for group in groups])[:-1])
            readings = [
                read_line(row, group, own, line.height, p)
                for row, group, own, line in zip(pieces, groups, each, lines)
            ]
        readings.sort(key=lambda reading: height_on_page(reading))
        ink = np.array([reading.ink for reading in readings])
        score = float(np.average([reading.score for reading in readings], weights=ink + 1e-9))
        return Attempt(turned, readings, lone, score, skew)


class Clock:
    """Seconds spent in each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Any:
        began = perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - began


def certain(seen: Examination) -> float:
    """The digits accepted, each by its probability."""
    return sum(d.probability for line in seen.lines for d in line)


def height_on_page(reading: Reading) -> float:
    """Where a line stands, for the order of lines."""
    parts = [d.candidate.box for d in reading.digits] or [c.box for c in reading.refused]
    return float(np.mean([y + h / 2 for _, y, _, h in parts]))


def drawn(components: Sequence[Component], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask of these components alone."""
    mask = np.zeros(shape, np.uint8)
    for c in components:
        spot = mask[c.y : c.bottom, c.x : c.right]
        spot |= c.mask.astype(np.uint8)
    return mask


def describe(
    photo: Image,
    marks: Marks,
    attempt: Attempt,
    lines: Sequence[Sequence[Digit]],
    refused: Sequence[tuple[Sequence[Component], str]],
    p: Parameters,
) -> dict[str, Any]:
    """The result as JSON has it, boxes in pixels of the photograph."""
    size = photo.shape[1], photo.shape[0]
    view = marks.view.to_view
    here = attempt.turned.from_view @ view
    rows = []
    for line in lines:
        digits: list[dict[str, Any]] = []
        for d in line:
            box = original_box(d.candidate.pieces, here, size)
            digits.append({"label": d.label, "probability": round(d.probability, 4), "box": box})
            digits[-1]["unsure"] = d.probability < p.unsure
        rows.append({"text": "".join(str(d.label) for d in line), "digits": digits})
    others = [{"box": original_box(c, here, size), "reason": why} for c, why in refused]
    others += [
        {"box": original_box([c], view, size), "reason": why}
        for c, why in marks.refused
        if why != "speck"
    ]
    return {
        "lines": rows,
        "refused": others,
        "rotation_deg": round(attempt.turned.angle_deg % 360, 1),
        "sheet": marks.view.is_sheet,
    }
