"""Marks drawn with a pen that MNIST does not hold: European digits, and what is no digit at all.

All are drawn from the tables here with a hand that trembles, so nobody needs other data or fonts.
Every function returns uint8 (CANVAS, CANVAS), ink white on black.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CANVAS = 112  # pixels a side: four times MNIST's
FINE = 16  # of a pixel: the unit in which OpenCV takes points here

Drawing = NDArray[np.uint8]
Stroke = Sequence[tuple[float, float]]  # points (x, y), y downwards
Rng = np.random.Generator

# Signs in a box 4 wide and 6 high. Left out: whatever a hand may make look like a digit, such as
# B b D G g I i J l O o P Q q S s T U Y y Z z.
SIGNS: dict[str, list[Stroke]] = {
    "A": [[(0, 6), (2, 0), (4, 6)], [(1, 4), (3, 4)]],
    "E": [[(4, 0), (0, 0), (0, 6), (4, 6)], [(0, 3), (3, 3)]],
    "F": [[(4, 0), (0, 0), (0, 6)], [(0, 3), (3, 3)]],
    "H": [[(0, 0), (0, 6)], [(4, 0), (4, 6)], [(0, 3), (4, 3)]],
    "K": [[(0, 0), (0, 6)], [(4, 0), (0, 3.5), (4, 6)]],
    "M": [[(0, 6), (0.4, 0), (2, 4), (3.6, 0), (4, 6)]],
    "N": [[(0, 6), (0, 0), (4, 6), (4, 0)]],
    "R": [[(0, 6), (0, 0), (3, 0.2), (4, 1.5), (3, 3), (0, 3)], [(1.5, 3), (4, 6)]],
    "V": [[(0, 0), (2, 6), (4, 0)]],
    "W": [[(0, 0), (1, 6), (2, 2), (3, 6), (4, 0)]],
    "X": [[(0, 0), (4, 6)], [(4, 0), (0, 6)]],
    "a": [[(3.6, 2.2), (1.5, 2), (0.3, 4), (1.5, 6), (3.4, 4.5), (3.6, 2.2), (3.7, 5), (4.2, 6)]],
    "d": [[(3.4, 3), (1.5, 2.3), (0.3, 4.2), (1.5, 6), (3.4, 4.8)], [(3.6, 0), (3.5, 4.5), (4, 6)]],
    "e": [[(0.3, 4), (3.6, 3.8), (3.2, 2.3), (1.6, 2), (0.3, 4), (1.6, 6), (3.8, 5.2)]],
    "f": [[(3.5, 0.6), (2.2, 0), (1.6, 1.5), (1.6, 6)], [(0.3, 2.6), (3, 2.6)]],
    "h": [[(0, 0), (0, 6)], [(0, 4), (1.5, 2.6), (3, 3), (3.2, 6)]],
    "k": [[(0, 0), (0, 6)], [(3, 2), (0, 4.2), (3, 6)]],
    "m": [[(0, 2.4), (0, 6)], [(0, 3.2), (1, 2.2), (2, 3), (2, 6)],
          [(2, 3.2), (3, 2.2), (4, 3), (4, 6)]],
    "n": [[(0, 2.4), (0, 6)], [(0, 3.4), (1.5, 2.2), (3, 3), (3, 6)]],
    "p": [[(0, 2), (0, 6)], [(0, 2.4), (2.4, 2), (3, 3), (2.2, 4.2), (0, 4.2)]],
    "r": [[(0, 2.2), (0.2, 6)], [(0.2, 3.6), (1.4, 2.2), (2.8, 2.5)]],
    "t": [[(1.5, 0), (1.5, 5), (2.5, 6), (3.5, 5.4)], [(0, 2), (3.2, 2)]],
    "u": [[(0, 2), (0.3, 5.4), (1.6, 6), (3, 5), (3.2, 2), (3.4, 6)]],
    "v": [[(0, 2), (1.7, 6), (3.4, 2)]],
    "w": [[(0, 2), (1, 6), (2, 3), (3, 6), (4, 2)]],
    "x": [[(0, 2), (3.4, 6)], [(3.4, 2), (0, 6)]],
    "plus": [[(0, 3), (4, 3)], [(2, 1), (2, 5)]],
    "equals": [[(0, 2), (4, 2)], [(0, 4), (4, 4)]],
    "percent": [[(4, 0), (0, 6)], [(0.8, 0.2), (0, 1), (0.8, 1.8), (1.4, 1), (0.8, 0.2)],
                [(3.4, 4.2), (2.6, 5), (3.4, 5.8), (4, 5), (3.4, 4.2)]],
    "hash": [[(1.4, 0), (0.8, 6)], [(3.2, 0), (2.6, 6)], [(0, 2), (4, 2)], [(0, 4), (4, 4)]],
    "star": [[(2, 1), (2, 5)], [(0.3, 2), (3.7, 4)], [(3.7, 2), (0.3, 4)]],
    "tick": [[(0, 4), (1.2, 6), (4, 0.5)]],
    "arrow": [[(0, 3), (4, 3)], [(2.8, 2), (4, 3), (2.8, 4)]],
    "dash": [[(0, 3), (4, 3)]],
    "wave": [[(0, 3), (1, 2.3), (2, 3), (3, 3.7), (4, 3)]],
    "grid": [[(2, 0), (2, 6)], [(0, 3), (4, 3)], [(0, 5), (4, 5)]],
    "ledger": [[(0, 5.5), (4, 5.4)], [(2.5, 4), (2.5, 6)]],
    "corner": [[(0, 0), (0, 6), (4, 6)]],
}  # fmt: skip


def sign(rng: Rng) -> Drawing:
    """A letter or other sign that is no digit."""
    names = sorted(SIGNS)
    return drawn(SIGNS[names[rng.integers(len(names))]], rng)


def european_one(rng: Rng) -> Drawing:
    """A 1 with an upstroke, long or short, and often a foot."""
    slope, length = np.radians(rng.uniform(20, 62)), 6 * rng.uniform(0.12, 0.48)
    top = (2.0, 0.0)
    stem: Stroke = [
        (top[0] - length * np.sin(slope), top[1] + length * np.cos(slope)),
        top,
        (2.0 - rng.normal(0.1, 0.3), 6.0),
    ]
    foot: Stroke = [(2 - rng.uniform(0.6, 2), 6), (2 + rng.uniform(0.6, 2), 6)]
    return drawn([stem, foot] if rng.random() < 0.5 else [stem], rng, curl=0.15)


def european_seven(rng: Rng) -> Drawing:
    """A 7 with a bar through its stem."""
    left, bend = rng.uniform(0, 0.8), rng.uniform(-0.4, 0.5)
    foot = rng.uniform(0.8, 2.4)
    top: Stroke = [(left, rng.uniform(0, 0.6)), (4, 0)]
    if rng.random() < 0.3:  # with a serif
        top = [(left, 1.2), *top]
    stem: Stroke = [(4, 0), ((4 + foot) / 2 + bend, 3), (foot, 6)]
    middle, y, half = (4 + foot) / 2 + bend, rng.uniform(2.4, 3.6), rng.uniform(0.7, 1.5)
    bar: Stroke = [(middle - half, y + rng.normal(0, 0.2)), (middle + half, y + rng.normal(0, 0.2))]
    return drawn([[*top, *stem[1:]], bar], rng, curl=0.15)


def scribble(rng: Rng) -> Drawing:
    """A random walk, smoothed: what a bored pen leaves."""
    steps = rng.normal(0, rng.uniform(0.7, 1.6), (int(rng.integers(8, 18)), 2))
    walk = np.cumsum(steps, 0)
    return drawn([[(float(x), float(y)) for x, y in walk - walk.mean(0) + (2, 3)]], rng, curl=1.0)


def blot(rng: Rng) -> Drawing:
    """A filled spot with an uneven edge, a smudge or a thumb's shadow."""
    import cv2

    noise = rng.normal(size=(CANVAS, CANVAS)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(2, 12))
    at = np.arange(CANVAS, dtype=np.float32) - CANVAS / 2
    wide = rng.uniform(8, 36)
    high = wide * rng.uniform(0.4, 1.6)  # a tall one may pass for a thick 1
    bell = np.exp(-(at[:, None] ** 2) / (2 * high**2) - at**2 / (2 * wide**2)).astype(np.float32)
    solid = rng.random() < 0.5
    noise = bell + 0.1 * noise / noise.std() if solid else noise / noise.max() * bell
    return np.uint8(255) * (noise > rng.uniform(0.35, 0.6) * noise.max()).astype(np.uint8)


def bar(rng: Rng) -> Drawing:
    """A straight stroke that lies too flat for a 1: a dash, a ruling line, the edge of the page."""
    import cv2

    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    angle, half = np.radians(rng.uniform(-38, 38)), rng.uniform(25, 50)
    arm = half * np.array([np.cos(angle), np.sin(angle)])
    ends = (FINE * (CANVAS / 2 + np.array([-arm, arm]))).astype(int)
    return np.asarray(
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), 255, int(rng.integers(3, 14)),
                 cv2.LINE_AA, 4), np.uint8,
    )  # fmt: skip


def drawn(strokes: Sequence[Stroke], rng: Rng, curl: float = 0.5) -> Drawing:
    """Strokes of a box 4 wide and 6 high, sheared, stretched, and drawn with an unsteady hand.

    `curl` from 0 to 1 is how far corners are rounded.
    """
    import cv2

    wide = rng.uniform(0.7, 1.25)
    lean = rng.normal(0.08, 0.15)
    tremor = rng.uniform(0.02, 0.16)
    thickness = int(rng.integers(4, 13))
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    for stroke in strokes:
        points = np.array(stroke, np.float64) - (2, 3)
        points = points + rng.normal(0, tremor, points.shape)
        points = rounded(points, curl * rng.uniform(0.2, 1))
        x = wide * points[:, 0] - lean * points[:, 1]
        xy = np.stack([x, points[:, 1]], 1) * (CANVAS * 0.7 / 6) + CANVAS / 2
        cv2.polylines(
            canvas, [np.int32(FINE * xy)], False, 255, thickness, cv2.LINE_AA, 4
        )  # fmt: skip
    return canvas


def rounded(points: NDArray[np.float64], curl: float, dense: int = 8) -> NDArray[np.float64]:
    """The polyline in short steps, its corners smoothed by `curl` (0 to 1); its ends stay."""
    knots = np.arange(len(points))
    steps = np.linspace(0, len(points) - 1, dense * (len(points) - 1) + 1)
    line = np.stack([np.interp(steps, knots, points[:, i]) for i in (0, 1)], 1)
    reach = round(curl * dense / 2)
    if not reach:
        return line
    padded = np.pad(line, ((reach, reach), (0, 0)), mode="edge")
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    smooth = np.stack([np.convolve(padded[:, i], kernel, "valid") for i in (0, 1)], 1)
    smooth[0], smooth[-1] = line[0], line[-1]
    return smooth
