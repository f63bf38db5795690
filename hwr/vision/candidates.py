"""What may be a digit: components, pieces of components that touch, and groups of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwr.vision.components import Box, Component
from hwr.vision.ink import Grey, Image
from hwr.vision.lines import Line
from hwr.vision.normalise import mend_stroke, to_mnist
from hwr.vision.parameters import Parameters

PAD = 2  # pixels of paper around a crop
RIM = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Pieces start to stop - 1 of a line taken for one digit, and the image to be read."""

    start: int
    stop: int
    pieces: tuple[Component, ...]
    image: Image

    @cached_property
    def box(self) -> Box:
        """Around all its ink."""
        return box_around(self.pieces)

    @property
    def length(self) -> float:
        """Of its strokes, in pixels."""
        return sum(piece.length for piece in self.pieces)


def box_around(pieces: Sequence[Component]) -> Box:
    """x, y, width and height of the box around components."""
    x, y = min(c.x for c in pieces), min(c.y for c in pieces)
    return x, y, max(c.right for c in pieces) - x, max(c.bottom for c in pieces) - y


def pieces_of(line: Line, p: Parameters) -> list[Component]:
    """The components of a line, cut where they may be several digits, from left to right."""
    pieces = [piece for c in line.members for piece in cut(c, line.height, p)]
    return sorted(pieces, key=lambda c: c.middle[0])


def cut(c: Component, height: float, p: Parameters) -> list[Component]:
    """A component parted along every place where it may be two digits."""
    cuts = find_cuts(c, height, p) if may_be_cut(c, height, p) else []
    if not cuts:
        return [c]
    row, column = np.mgrid[: c.h, : c.w]
    side = sum((column + slant * (row - c.h / 2) > x).astype(int) for x, slant in cuts)
    pieces = []
    for i in range(len(cuts) + 1):
        part = c.mask & (side == i)
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if part.sum() < 4:
            continue
        y, x = int(rows[0]), int(columns[0])
        own = part[y : rows[-1] + 1, x : columns[-1] + 1]
        h, w = own.shape
        pieces.append(replace(c, x=c.x + x, y=c.y + y, w=w, h=h, mask=own))
    return pieces or [c]


def may_be_cut(c: Component, height: float, p: Parameters) -> bool:
    """Whether a component is wide enough for several digits."""
    return p.cuts and c.w >= p.cut_narrow * height


def find_cuts(c: Component, height: float, p: Parameters) -> list[tuple[float, float]]:
    """Straight cuts (column at half height, slant) that cross little ink, from left to right.

    For each slant the component is sheared upright and its ink counted by column; cuts lie where
    the count is lowest.
    """
    import cv2

    found: dict[tuple[int, float], float] = {}
    limit = p.cut_ink * c.stroke + p.cut_ink_high * c.h
    for slant in p.cut_slants:
        room = int(np.ceil(abs(slant) * c.h / 2))
        move = np.array([[1, slant, room - slant * c.h / 2], [0, 1, 0]])
        upright = cv2.warpAffine(
            c.mask.astype(np.uint8), move, (c.w + 2 * room, c.h), flags=cv2.INTER_NEAREST
        )
        crossed = np.convolve(upright.sum(0), [0.25, 0.5, 0.25], "same")
        inner = crossed[1:-1]
        low = (inner <= limit) & (inner <= crossed[:-2]) & (inner <= crossed[2:])
        for at in np.flatnonzero(low) + 1:
            x = int(at) - room
            if p.cut_from_side * height <= x <= c.w - p.cut_from_side * height:
                found[x, slant] = float(crossed[at]) + p.cut_slant_cost * abs(slant) * c.stroke
    most = max(2, int(p.cuts_per_width * c.w / height))
    chosen: list[tuple[int, float]] = []
    for x, slant in sorted(found, key=lambda cut: found[cut]):
        if len(chosen) < most and all(abs(x - other) > p.cut_apart * height for other, _ in chosen):
            chosen.append((x, slant))
    return [(float(x), slant) for x, slant in sorted(chosen)]


def candidates_of(
    pieces: Sequence[Component], height: float, darkness: Grey, mask: Image, p: Parameters
) -> list[Candidate]:
    """Every run of pieces of one line that may be one digit."""
    found = []
    for start in range(len(pieces)):
        for stop in range(start + 1, len(pieces) + 1):
            group = tuple(pieces[start:stop])
            if len(group) > p.pieces and len({c.parent for c in group}) > 1:
                break  # but a component may be one digit, into however many pieces it was cut
            _, _, w, h = box_around(group)
            if stop > start + 1 and w > p.widest * max(height, h):
                break
            if max(w, h) < p.smallest * height or widest_gap(group) > p.gap * height:
                continue
            found.append(Candidate(start, stop, group, crop(group, darkness, mask, p)))
    return found


def widest_gap(pieces: Sequence[Component]) -> int:
    """The widest strip of paper between components, from left to right."""
    gap, reached = 0, None
    for c in sorted(pieces, key=lambda c: c.x):
        if reached is not None:
            gap = max(gap, c.x - reached)
        reached = c.right if reached is None else max(reached, c.right)
    return gap


def crop(pieces: Sequence[Component], darkness: Grey, mask: Image, p: Parameters) -> Image:
    """The image of some components alone, as the network reads it; uint8 (28, 28)."""
    return normalised(cut_out(pieces, darkness, mask, p), pieces, p)


def cut_out(pieces: Sequence[Component], darkness: Grey, mask: Image, p: Parameters) -> Grey:
    """Their ink from 0 to 1, with the soft edge of the strokes but without their neighbours."""
    import cv2

    x, y, w, h = box_around(pieces)
    own = np.zeros((h + 2 * PAD, w + 2 * PAD), np.uint8)
    for c in pieces:
        spot = own[c.y - y + PAD :, c.x - x + PAD :][: c.h, : c.w]
        spot |= c.mask.astype(np.uint8)
    top, left = max(y - PAD, 0), max(x - PAD, 0)
    window = np.s_[top : y + h + PAD, left : x + w + PAD]
    inside = darkness[window]
    place = np.s_[top - y + PAD :, left - x + PAD :]
    around, others = np.zeros(own.shape, np.float32), np.zeros(own.shape, np.uint8)
    around[place][: inside.shape[0], : inside.shape[1]] = inside
    others[place][: inside.shape[0], : inside.shape[1]] = mask[window]
    near = cv2.dilate(own, RIM) & (own | (1 - others))
    full = max(c.pen for c in pieces)
    low, high = p.tone
    ink = np.minimum((around / np.float32(full) - low) / (high - low), 1)
    return np.asarray(np.maximum(ink, 0) * near, np.float32)


def normalised(ink: Grey, pieces: Sequence[Component], p: Parameters) -> Image:
    """A cut-out by MNIST's rule or, for comparison, by one of the rules that fail."""
    import cv2

    if p.normalise == "stretch":
        return np.asarray(cv2.resize(np.uint8(255 * ink), (28, 28), interpolation=cv2.INTER_AREA))
    stroke = sum(c.stroke * c.length for c in pieces) / sum(c.length for c in pieces)
    image = to_mnist(mend_stroke(ink, stroke, p.stroke_px), p.box_faint)
    return centred_by_box(image) if p.normalise == "box" else image


def centred_by_box(image: Image) -> Image:
    """The same digit with the middle of its box in the middle of the image."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    if not len(rows):
        return image
    down = (len(image) - 1 - rows[0] - rows[-1]) // 2
    right = (len(image) - 1 - columns[0] - columns[-1]) // 2
    return np.roll(image, (down, right), (0, 1))
