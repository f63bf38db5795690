"""Pages on which no number stands, drawn with what real ones carry: nothing may be read on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data import pen
from hwr.vision.photograph import Image

SHAPE = HEIGHT, WIDTH = 900, 700
PAPER = np.array([205, 214, 219], np.float32)  # grey levels: blue, green, red
INK = (60, 50, 50)
WORDS = ("Dear Max", "the quick fox", "Kiwi Tram", "mean wave")

Rng = np.random.Generator
Grey = NDArray[np.float32]


def page(kind: str, rng: Rng) -> Image:
    """A page of one of the kinds; uint8 (H, W, 3), BGR."""
    return np.clip(np.rint(KINDS[kind](rng)), 0, 255).astype(np.uint8)


def paper(rng: Rng) -> Grey:
    """Empty paper, with the camera's noise."""
    return (PAPER + rng.normal(0, 3, (*SHAPE, 3))).astype(np.float32)


def shaded(rng: Rng) -> Grey:
    """Darker from one side to the other."""
    return paper(rng) * np.linspace(1, 0.35, WIDTH, dtype=np.float32)[None, :, None]


def half_in_shadow(rng: Rng) -> Grey:
    """The sharp edge of a shadow across the page."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    edge = x + rng.uniform(-0.5, 0.5) * y > rng.uniform(0.4, 0.7) * WIDTH
    return paper(rng) * np.where(edge, np.float32(0.5), np.float32(1))[..., None]


def smudged(rng: Rng) -> Grey:
    """Spots of dirt, sharp or soft."""
    image = paper(rng)
    for _ in range(12):
        axes = int(rng.integers(6, 40)), int(rng.integers(6, 30))
        spot = ellipse(place(rng), axes, (int(rng.integers(180)), 0, 360), -1)
        image -= soft(spot, rng.uniform(1, 8))[..., None] * rng.uniform(40, 150)
    return image


def smeared(rng: Rng) -> Grey:
    """The same, out of focus."""
    return soft(smudged(rng), 4)


def ringed(rng: Rng) -> Grey:
    """Parts of the rings that cups leave."""
    image, brown = paper(rng), np.array([1, 0.8, 0.6], np.float32)
    for _ in range(5):
        radius, first = int(rng.integers(60, 120)), int(rng.integers(0, 180))
        arc = (0, first, int(rng.integers(200, 360)))
        ring = ellipse(place(rng), (radius, radius), arc, int(rng.integers(3, 9)))
        image -= soft(ring, 2)[..., None] * brown * rng.uniform(30, 90)
    return image


def crumpled(rng: Rng) -> Grey:
    """Folds, light and dark."""
    import cv2

    image = paper(rng)
    for _ in range(60):
        first = rng.uniform(0, WIDTH, 2)
        fold = np.zeros(SHAPE, np.float32)
        cv2.line(fold, point(first), point(first + rng.normal(0, 160, 2)), 1.0, 2)
        image -= soft(fold, 3)[..., None] * rng.uniform(-80, 80)
    return image


def specked(rng: Rng) -> Grey:
    """Dots of dirt."""
    import cv2

    image = paper(rng)
    for _ in range(80):
        at, size = point(rng.uniform(0, (WIDTH, HEIGHT))), int(rng.integers(1, 5))
        cv2.circle(image, at, size, (90.0, 90.0, 90.0), -1, cv2.LINE_AA)
    return image


def scribbled(rng: Rng) -> Grey:
    """What a bored pen draws."""
    import cv2

    image = paper(rng)
    for _ in range(8):
        walk = np.cumsum(rng.normal(0, 18, (60, 2)), 0) + place(rng)
        curve = cv2.GaussianBlur(walk.astype(np.float32), (1, 7), 2)
        cv2.polylines(image, [np.int32(curve)], False, INK, 4, cv2.LINE_AA)
    return image


def lettered(rng: Rng) -> Grey:
    """Words."""
    import cv2

    image = paper(rng).astype(np.uint8)  # OpenCV writes text on no other
    for i, word in enumerate(rng.permutation(WORDS)):
        font, size = cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, rng.uniform(2, 2.6)
        cv2.putText(image, str(word), (60, 150 + 170 * i), font, size, INK, 4, cv2.LINE_AA)
    return image.astype(np.float32)


def signed(rng: Rng) -> Grey:
    """Single letters and other signs in rows."""
    import cv2

    image = paper(rng)
    for row in range(4):
        for column in range(6):
            y, x = 60 + 190 * row, 60 + 95 * column
            glyph = cv2.resize(pen.sign(rng), (90, 90), interpolation=cv2.INTER_AREA) / 255
            image[y : y + 90, x : x + 90] *= 1 - 0.8 * glyph[..., None]
    return image


def ruled(rng: Rng) -> Grey:
    """Ruled paper, a little turned."""
    return with_lines(paper(rng), rng, across=False)


def squared(rng: Rng) -> Grey:
    """Squared paper, a little turned."""
    return with_lines(paper(rng), rng, across=True)


def wooden(rng: Rng) -> Grey:
    """A table's grain."""
    import cv2

    grain = cv2.GaussianBlur(rng.normal(0, 1, SHAPE).astype(np.float32), (61, 5), 0)
    return paper(rng) - 200 * grain[..., None]


def woven(rng: Rng) -> Grey:
    """Cloth."""
    pitch = rng.uniform(2, 5)
    rows, columns = (np.sin(np.arange(size, dtype=np.float32) / pitch) for size in SHAPE)
    return paper(rng) - 20 * (rows[:, None] + columns)[..., None]


def with_lines(image: Grey, rng: Rng, *, across: bool) -> Grey:
    """Ruling lines over a page, and as many across them."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    turn, pitch, thick = np.radians(rng.uniform(-4, 4)), rng.uniform(28, 80), rng.uniform(1, 2.5)
    along = [np.cos(turn) * y + np.sin(turn) * x]
    along += [np.cos(turn) * x - np.sin(turn) * y] if across else []
    blue = np.array([0.1, 0.3, 0.4], np.float32) * np.float32(rng.uniform(0.5, 1.3))
    for at in along:
        image = image * (1 - blue * np.clip(thick - at % pitch, 0, 1)[..., None])
    return image


def place(rng: Rng) -> tuple[int, int]:
    """Somewhere on the page, not at its edge."""
    return int(rng.integers(150, WIDTH - 150)), int(rng.integers(150, HEIGHT - 150))


def point(xy: NDArray[Any]) -> tuple[int, int]:
    """Coordinates as OpenCV takes them."""
    return int(xy[0]), int(xy[1])


def ellipse(
    at: tuple[int, int], axes: tuple[int, int], arc: tuple[int, int, int], pen: int
) -> Grey:
    """A mask of an ellipse: its turn, first and last angle in degrees; filled if `pen` is -1."""
    import cv2

    mask = np.zeros(SHAPE, np.float32)
    cv2.ellipse(mask, at, axes, *arc, 1.0, pen)
    return mask


def soft(image: Grey, sigma: float) -> Grey:
    """Blurred."""
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


KINDS: dict[str, Callable[[Rng], Grey]] = {
    "paper": paper, "shaded": shaded, "half in shadow": half_in_shadow, "smudged": smudged,
    "smeared": smeared, "rings of cups": ringed, "crumpled": crumpled, "specks": specked,
    "scribbles": scribbled, "words": lettered, "signs": signed, "ruled": ruled,
    "squared": squared, "wood": wooden, "cloth": woven,
}  # fmt: skip
