"""Which way up a page is: every quarter turn is read, and the most readable one wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.vision.candidates import cut_out, normalised
from hwr.vision.classifier import DIGITS, Classifier
from hwr.vision.components import Component
from hwr.vision.ink import Grey, Image
from hwr.vision.page import Homography
from hwr.vision.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Turned:
    """Ink turned counter-clockwise by an angle; `from_view` takes points of the view here."""

    darkness: Grey
    mask: Image
    from_view: Homography
    angle_deg: float


def quarter_scores(
    components: Sequence[Component],
    darkness: Grey,
    mask: Image,
    classifier: Classifier,
    p: Parameters,
) -> list[float]:
    """How well single components read in each of the quarter turns, counter-clockwise, in nats.

    The mean log probability of the likeliest digit over the ink, and what is to be expected of a
    photograph. One score, of the page as it is, if there is nothing to choose by.
    """
    if not p.orient or not components:
        return [0.0]
    sample = sorted(components, key=lambda c: -c.length)[: p.orient_sample]
    crops = [cut_out([c], darkness, mask, p) for c in sample]
    images = [
        normalised(np.ascontiguousarray(np.rot90(crop, k)), [c], p)
        for k in range(4)
        for c, crop in zip(sample, crops)
    ]
    best = classifier.log_probabilities(images)[:, :DIGITS].max(1).reshape(4, -1)
    lengths = np.array([c.length for c in sample])
    weights = np.minimum(lengths, 2 * np.median(lengths))  # no scribble outweighs the page
    scores = np.average(np.maximum(best, p.orient_worst), axis=1, weights=weights)
    scores += [preference(90 * k, len(sample), p) for k in range(4)]
    return [float(score) for score in scores]


def promising(scores: Sequence[float], p: Parameters) -> list[int]:
    """The quarter turns worth reading in full, one or two; the likeliest first."""
    order = np.argsort(-np.array(scores))
    return [int(k) for k in order[:2] if scores[k] > scores[order[0]] - p.orient_close]


def preference(angle_deg: float, digits: int, p: Parameters) -> float:
    """Nats in favour of an orientation before anything is read: photographs are mostly upright.

    The fewer the digits, the more it weighs: 6 and 9, 1, 8 and 0 read well on their heads.
    """
    angle = from_upright(angle_deg)
    if angle <= 45:
        return min(p.upright_most, p.upright + p.upright_few / max(digits, 1))
    return p.upside_down if angle > 135 else 0.0


def from_upright(angle_deg: float) -> float:
    """How far an angle is from 0: 0 to 180 degrees."""
    return abs((angle_deg + 180) % 360 - 180)


def turn(darkness: Grey, mask: Image, angle_deg: float) -> Turned:
    """Ink turned about its middle, counter-clockwise; the canvas grows to hold it all."""
    import cv2

    h, w = darkness.shape
    quarters, rest = divmod(angle_deg + 45, 90)
    if abs(rest - 45) < 1e-6:
        k = int(quarters) % 4
        matrix = (
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[0, 1, 0], [-1, 0, w], [0, 0, 1]],
            [[-1, 0, w], [0, -1, h], [0, 0, 1]],
            [[0, -1, h], [1, 0, 0], [0, 0, 1]],
        )[k]
        ink = np.ascontiguousarray(np.rot90(darkness, k))
        return Turned(
            ink, np.ascontiguousarray(np.rot90(mask, k)), np.array(matrix, float), angle_deg
        )
    move = np.asarray(cv2.getRotationMatrix2D((w / 2, h / 2), angle_deg, 1.0), float)
    cos, sin = abs(move[0, 0]), abs(move[0, 1])
    wide, high = round(h * sin + w * cos), round(h * cos + w * sin)
    move[:, 2] += (wide - w) / 2, (high - h) / 2
    turned = cv2.warpAffine(darkness, move, (wide, high), flags=cv2.INTER_LINEAR)
    there = cv2.warpAffine(255 * mask, move, (wide, high), flags=cv2.INTER_LINEAR) > 127
    return Turned(turned, there.astype(np.uint8), np.vstack([move, [0, 0, 1]]), angle_deg)


def original_box(
    pieces: Sequence[Component], to_here: Homography, size: tuple[int, int]
) -> list[int]:
    """The box x, y, w, h, in a photograph of `size` (width, height), of ink found in a view of it.

    Around the ink itself, not around the corners of its box, which lie further out when turned.
    """
    import cv2

    points: list[NDArray[np.float64]] = []
    for c in pieces:
        outline, _ = cv2.findContours(
            c.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        points += [contour.reshape(-1, 2) + np.array([c.x, c.y]) for contour in outline]
    corners = np.concatenate(points).astype(np.float64)
    whole = np.concatenate([corners, corners + [1, 0], corners + [0, 1], corners + 1])
    back = cv2.perspectiveTransform(whole[None], np.linalg.inv(to_here))[0]
    left, top = np.clip(np.floor(back.min(0) + 0.5), 0, np.array(size) - 1)
    right, bottom = np.clip(np.floor(back.max(0) + 0.5), 1, size)
    return [int(left), int(top), int(max(right - left, 1)), int(max(bottom - top, 1))]
