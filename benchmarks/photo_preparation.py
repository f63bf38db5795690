"""How a photographed digit becomes 28x28, and what that is worth: `preparations`.

Single digits of MNIST's test set are photographed, prepared in the ways that tutorials do, and read
by one network after another. Most of what makes a network that has learnt MNIST fail on somebody's
own digits is decided here, not in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hwr.data import Dataset
from hwr.data.mnist import SIZE
from hwr.progress import Progress
from hwr.statistics import wilson_interval
from hwr.vision.candidates import centred_by_box
from hwr.vision.classifier import DIGITS, Classifier
from hwr.vision.normalise import BOX, mend_stroke, square, stroke_width, tight, to_mnist
from hwr.vision.synthetic import inked
from hwr.vision.threshold import otsu

PHOTO = 160  # pixels a side
HEIGHTS = 50, 110  # of the 20-pixel box, in the photograph
LEAST = 0.15  # of the largest component: what is smaller is dirt
WINDOW, BELOW = 51, 15  # of the adaptive threshold
FIXED = 127

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Rng = np.random.Generator


def photographed(digit: Image, rng: Rng) -> Image:
    """One digit on unevenly lit, noisy paper, a little out of focus; grey, uint8 (PHOTO, PHOTO)."""
    import cv2

    scale = rng.uniform(*HEIGHTS) / BOX
    seen = tight(digit.astype(np.float32), 0.1).astype(np.uint8)
    large = cv2.resize(seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    ink = inked(np.pad(large, 4), rng.uniform(-2, 3))
    h, w = ink.shape
    page = np.zeros((PHOTO, PHOTO), np.float32)
    top, left = (int(rng.integers(PHOTO - side)) for side in (h, w))
    page[top : top + h, left : left + w] = ink
    y, x = np.mgrid[:PHOTO, :PHOTO] / PHOTO
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 - rng.uniform(0, 0.5) * (0.5 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    photo = 215 * light * (1 - rng.uniform(0.45, 0.8) * page)
    photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.5, 1.5))
    noisy = photo + rng.normal(0, rng.uniform(1, 6), photo.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def darkness(photo: Image) -> NDArray[np.float32]:
    """How much darker than the paper, from 0 to 1: dilate and median blur give the paper."""
    import cv2

    paper = cv2.medianBlur(cv2.dilate(photo, np.ones((9, 9), np.uint8)), 51)
    return np.asarray(cv2.subtract(paper, photo), np.float32) / np.float32(255)


def by_background(photo: Image) -> Mask:
    """Otsu's threshold of what is left when the paper is taken away."""
    dark = darkness(photo)
    return np.asarray(dark > otsu(dark))


def by_otsu(photo: Image) -> Mask:
    """Otsu's threshold of the grey levels."""
    return np.asarray(photo < 255 * otsu((photo / 255).astype(np.float32)))


def by_level(photo: Image) -> Mask:
    """Below the middle of the scale."""
    return np.asarray(photo < FIXED)


def by_neighbours(photo: Image) -> Mask:
    """Darker than the mean of the neighbourhood by a constant."""
    import cv2

    how = cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV
    return np.asarray(cv2.adaptiveThreshold(photo, 1, *how, WINDOW, BELOW) > 0)


def whole(photo: Image) -> Image:
    """The photograph made small."""
    import cv2

    return np.asarray(cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def inverted(photo: Image) -> Image:
    """The photograph made small, ink light."""
    return 255 - whole(photo)


def inverted_otsu(photo: Image) -> Image:
    """The same, black and white."""
    small = inverted(photo)
    return np.uint8(255) * (small > 255 * otsu((small / 255).astype(np.float32))).astype(np.uint8)


def cut(photo: Image, binarise: Callable[[Image], Mask] = by_background) -> NDArray[np.float32]:
    """The ink of the digit within its box; all of the photograph if there is none."""
    import cv2

    mask = binarise(photo).astype(np.uint8)
    _, which, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= LEAST * areas.max()
    keep[0] = False
    ink = np.where(keep[which], np.maximum(darkness(photo), 0.02), 0).astype(np.float32)
    return tight(ink, 1e-6) if ink.any() else darkness(photo)


def stretched(photo: Image) -> Image:
    """The box drawn out to 28x28."""
    return fitted(cut(photo), SIZE)


def filling(photo: Image) -> Image:
    """The box in the middle of a square that fills 28x28."""
    return fitted(square(cut(photo)), SIZE)


def by_middle(photo: Image) -> Image:
    """MNIST's rule but for the place: the middle of the box in the middle."""
    return centred_by_box(by_rule(photo))


def by_rule(photo: Image, binarise: Callable[[Image], Mask] = by_background) -> Image:
    """MNIST's rule."""
    ink = cut(photo, binarise)
    full = float(np.percentile(ink[ink > 0], 70)) if ink.any() else 1.0
    ink = np.minimum(ink / full, 1)
    mask = (ink > 0.3).astype(np.uint8)
    return to_mnist(mend_stroke(ink, stroke_width(mask)) if mask.any() else ink)


def fitted(ink: NDArray[np.float32], size: int) -> Image:
    """Ink as a square image, its strongest pixel 255."""
    import cv2

    image = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(image * (255 / max(float(image.max()), 1e-6))).astype(np.uint8)


WAYS: dict[str, Callable[[Image], Image]] = {
    "whole photograph shrunk to 28x28": whole,
    "... inverted": inverted,
    "... inverted + Otsu": inverted_otsu,
    "box stretched to 28x28": stretched,
    "box, aspect kept, fills 28": filling,
    "20-box centred by box": by_middle,
    "20-box, centre of mass, area resample": by_rule,
    "... by global Otsu": lambda photo: by_rule(photo, by_otsu),
    "... by fixed 127": lambda photo: by_rule(photo, by_level),
    "... by adaptive 51,15": lambda photo: by_rule(photo, by_neighbours),
}


def preparations(networks: dict[str, Classifier], digits: Dataset, seed: int) -> list[dict]:
    """What each network reads right of the digits as they are, and photographed, by preparation."""
    rng = np.random.default_rng(seed)
    clean = [np.ascontiguousarray(image[..., 0]) for image in digits.images]
    photos = [photographed(image, rng) for image in clean]
    rows = [measured("the clean MNIST originals", clean, digits.labels, networks)]
    with Progress("preparations", len(WAYS), unit="ways") as progress:
        for name, prepare in WAYS.items():
            images = [prepare(photo) for photo in photos]
            rows.append(measured(name, images, digits.labels, networks))
            progress.update(1)
    return rows


def measured(
    name: str, images: Sequence[Image], labels: NDArray[np.int64], networks: dict[str, Classifier]
) -> dict:
    """The share that each network reads right, of ten digits, with its interval."""
    row: dict = {"preparation": name, "images": len(images), "networks": {}}
    for network, classifier in networks.items():
        read = classifier.log_probabilities(images)[:, :DIGITS].argmax(1)
        right = int((read == labels).sum())
        row["networks"][network] = {
            "accuracy": right / len(images),
            "interval": wilson_interval(right, len(images)),
        }
    return row
