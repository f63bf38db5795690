"""Photographs drawn from MNIST's digits, with known numbers and boxes: for tests and ablations.

They are no substitute for real ones, but light, paper, pen and camera can be varied one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.vision.photograph import Image

Rng = np.random.Generator
Grey = NDArray[np.float32]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]  # blue, green, red, from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is photographed, and how. Lengths in pixels of the photograph."""

    rows: tuple[int, ...] = (8, 9, 7)  # digits in each line
    digit: int = 44  # height of the 20-pixel box of MNIST
    gap: tuple[float, float] = (0.12, 0.4)  # between digits, of their height; negative: they touch
    pen: float = 0.0  # pixels by which strokes are thicker; negative: thinner
    ink: Colour = (0.30, 0.20, 0.18)
    paper: Colour = (0.80, 0.84, 0.86)
    ruling: str = ""  # or "lines", "squares"
    lines: Colour = (0.08, 0.25, 0.33)  # what a ruling line takes of blue, green, red
    light: float = 0.0  # share of brightness lost from one corner to the opposite one
    shadow: float = 0.0  # share of brightness lost behind the edge of a shadow
    noise: float = 0.01  # standard deviation
    blur: float = 0.7  # sigma
    jpeg: int = 90  # quality
    turn_deg: float = 0.0  # counter-clockwise
    desk: bool = False  # a sheet on a dark desk, seen at an angle
    bleed: float = 0.0  # darkness of what is written on the back of the page


@dataclass(frozen=True, eq=False)
class Drawn:
    """A photograph, `rows` as written, and the boxes (x, y, w, h) of the digits in their order."""

    image: Image
    rows: list[str]
    boxes: list[list[int]]

    @property
    def truth(self) -> dict[str, Any]:
        """As an entry of labels.json."""
        digits = [{"label": int(label), "box": box}
                  for label, box in zip("".join(self.rows), self.boxes)]  # fmt: skip
        return {"rows": self.rows, "digits": digits, "rotate_to_read": None}


def photograph(scene: Scene, digits: Dataset, rng: Rng) -> Drawn:
    """Draw a page of random digits and photograph it."""
    import cv2

    ink, rows, outlines = written(scene, digits, rng)
    if scene.bleed:
        back, _, _ = written(scene, digits, rng)
        back = cv2.GaussianBlur(back[:, ::-1], (0, 0), 0.03 * scene.digit)
        back = cv2.resize(back, ink.shape[::-1], interpolation=cv2.INTER_AREA)
        ink = np.maximum(ink, scene.bleed * back)
    taken = np.asarray(scene.lines, np.float32) * ruled(scene, ink.shape)[..., None]
    page = np.asarray(scene.paper, np.float32) * (1 - taken)
    page = page * (1 - ink[..., None]) + np.asarray(scene.ink, np.float32) * ink[..., None]
    page, move = posed(page, scene, rng)
    light = lit(scene, page.shape[:2], rng)
    page = cv2.GaussianBlur(page * light[..., None], (0, 0), max(scene.blur, 0.1))
    page = page + rng.normal(0, scene.noise, page.shape)
    image = np.clip(np.rint(255 * page), 0, 255).astype(np.uint8)
    done, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg])
    assert done
    boxes = [box_around(cv2.perspectiveTransform(points[None], move)[0]) for points in outlines]
    return Drawn(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8), rows, boxes)


def box_around(points: Points) -> list[int]:
    """x, y, width and height of the box around points (N, 2)."""
    return np.concatenate([points.min(0), np.ptp(points, 0)]).round().astype(int).tolist()


def written(scene: Scene, digits: Dataset, rng: Rng) -> tuple[Grey, list[str], list[Points]]:
    """Ink from 0 to 1 on a page, the rows as text, and the outline (N, 2) of each digit's ink."""
    import cv2

    size, step = scene.digit, int(1.9 * scene.digit)
    wide = (max(scene.rows, default=0) + 2) * (int(1.6 * size) + 6)  # as much as may be needed
    ink = np.zeros((step * len(scene.rows) + 3 * size, wide), np.float32)
    rows, outlines, used = [], [], 0
    for number, count in enumerate(scene.rows):
        x, text = size + int(rng.uniform(0, 0.6) * size), ""
        for i in rng.integers(len(digits), size=count):
            scale = rng.uniform(0.85, 1.1) * size / 20
            glyph = digits.images[i, :, :, 0]
            seen = glyph > 60
            ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            glyph = glyph[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
            glyph = cv2.resize(glyph, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            drop = inked(np.pad(glyph, 3), scene.pen)
            h, w = drop.shape
            y = size + number * step + int(rng.normal(0, 0.05) * size) + (size - h) // 2
            spot = ink[y : y + h, x : x + w]
            np.maximum(spot, drop, out=spot)
            outlines.append(outline(drop > 0.5) + (x, y))
            used = max(used, x + w - 3)
            text += str(digits.labels[i])
            x += w + int(rng.uniform(*scene.gap) * size) - 6
        rows.append(text)
    return ink[:, : (used or 8 * size) + size], rows, outlines


def outline(mask: NDArray[np.bool_]) -> Points:
    """The convex hull of the pixels of a mask: corners (x, y)."""
    import cv2

    pixels = np.argwhere(mask)[:, ::-1]
    corners = np.concatenate([pixels, pixels + [1, 0], pixels + [0, 1], pixels + 1])
    return np.asarray(cv2.convexHull(corners.astype(np.float32))[:, 0], np.float64)


def inked(glyph: Image, pen: float) -> Grey:
    """A glyph's grey levels as ink with soft edges, its strokes made thicker by `pen` pixels."""
    import cv2

    mask = (glyph > 110).astype(np.uint8)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = inside - outside + pen / 2
    if pen < 0:  # what is as deep as its surroundings stays: no stroke breaks
        ridge = (inside >= 0.9 * cv2.dilate(inside, np.ones((5, 5), np.uint8))) & (inside > 0)
        depth = np.maximum(depth, np.where(ridge, 0.5, -1))
    return np.clip(depth + 0.5, 0, 1).astype(np.float32)


def ruled(scene: Scene, shape: tuple[int, ...]) -> Grey:
    """Ruling lines, or squares, from 0 to 1."""
    lines = np.zeros(shape[:2], np.float32)
    thick = max(1, scene.digit // 22)
    if scene.ruling:
        first = int(2.1 * scene.digit)  # a little below the first row
        pitch = int(1.9 * scene.digit) if scene.ruling == "lines" else int(0.75 * scene.digit)
        for k in range(thick):
            lines[first % pitch + k :: pitch] = 1
            if scene.ruling == "squares":
                lines[:, pitch // 2 + k :: pitch] = 1
    return lines


def posed(page: Grey, scene: Scene, rng: Rng) -> tuple[Grey, NDArray[np.float64]]:
    """The page turned, or on a desk in perspective; and the homography that moved it."""
    import cv2

    h, w = page.shape[:2]
    angle = np.radians(scene.turn_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]], float) / 2 @ turn.T
    if scene.desk:
        corners *= 1 + rng.uniform(-0.06, 0.06, corners.shape)
    room = 0.18 * max(h, w) if scene.desk else 0.0
    corners -= corners.min(0) - room
    size = np.ceil(corners.max(0) + room).astype(int)
    from_page = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    move = cv2.getPerspectiveTransform(from_page, corners.astype(np.float32))
    colour = (0.16, 0.17, 0.2) if scene.desk else scene.paper
    fill = tuple(float(value) for value in colour)
    moved = cv2.warpPerspective(page.astype(np.float32), move, size.tolist(), borderValue=fill)
    return moved, move


def lit(scene: Scene, shape: tuple[int, ...], rng: Rng) -> Grey:
    """Brightness of each place: a lamp at one corner, and the edge of a shadow."""
    import cv2

    h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    light = 1 - scene.light * (x / w + y / h) / 2
    if scene.shadow:
        edge = (x - w * rng.uniform(0.35, 0.65)) + rng.uniform(-0.5, 0.5) * (y - h / 2)
        dark = cv2.GaussianBlur((edge > 0).astype(np.float32), (0, 0), 0.01 * max(h, w))
        light = light * (1 - scene.shadow * dark)
    return light
