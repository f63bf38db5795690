"""MNIST as photographs show it, and marks that are no digits: what the photograph reader learns.

Every image is drawn large, warped, given another pen, photographed (resolution, blur, noise,
threshold), and then normalised by the very function that the reader uses. The eleventh class holds
what must be refused: letters, scribbles, blots, several digits at once, parts of digits, digits on
their side. All of it is made from MNIST and `hwr.data.pen`, so that anybody can train again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr.data import mnist, pen
from hwr.data.catalogue import register
from hwr.data.dataset import Dataset
from hwr.progress import Progress

CLASSES = (*mnist.CLASSES, "no digit")
NO_DIGIT = len(mnist.CLASSES)
HELD_OUT = 5_000  # the last of MNIST's training images: they are photographed for validation only
VERSIONS = 2  # photographs of each image
NO_DIGITS = 0.4  # as many as this share of the photographs of digits
SEED = 6
INK = 40  # grey level above which a pixel of MNIST counts as ink
FIELDS = 256  # random bends made once and shared

Image = NDArray[np.uint8]
Grey = NDArray[np.float32]
Rng = np.random.Generator


@register(
    name="photo-digits",
    title="MNIST as photographed, and marks that are no digits",
    splits={"train": 209_000, "validation": 19_000, "test": 10_000},
    classes=len(CLASSES),
    size="28x28",
    licence="as MNIST",
    source="made here from MNIST",
    obtain="it is made of the MNIST inside the package",
    layout="MNIST's files",
    marker=("t10k-images-idx3-ubyte*",),
    folder="mnist",
    shipped=True,
    made=True,
)
def load(split: str, data_dir: Path | None = None) -> Dataset:
    """`"train"`, `"validation"`: MNIST's training images photographed, and no digits; no image is
    in both, in any form. `"test"`: MNIST's test images as they are.

    Images (N, 28, 28, 1). `data_dir` is MNIST's, as for :func:`hwr.data.mnist.load`, and raises
    what that raises.
    """
    if split == "test":
        digits: Dataset = mnist.load("test", data_dir)
        return Dataset("photo-digits", split, digits.images, digits.labels, CLASSES)
    digits = mnist.load("train", data_dir)
    last = len(digits) - HELD_OUT
    part = np.arange(last) if split == "train" else np.arange(last, len(digits))
    rng = np.random.default_rng([SEED, len(part)])
    images, labels = Photographer(digits.subset(part), rng).dataset()
    return Dataset("photo-digits", split, images, labels, CLASSES)


class Photographer:
    """Makes photographs of a dataset's digits, and of what is no digit."""

    def __init__(self, digits: Dataset, rng: Rng):
        self.images, self.labels, self.rng = digits.images[..., 0], digits.labels, rng
        self.bends = smooth_fields(FIELDS, rng)
        self.discs = discs()

    def dataset(self) -> tuple[Image, NDArray[np.int64]]:
        """Images uint8 (N, 28, 28, 1) and labels (N,): each digit as it is, then its versions."""
        count = len(self.images)
        refused = int(NO_DIGITS * VERSIONS * count)
        makers: list[Callable[[], Image]] = [
            partial(self.digit, i) for _ in range(VERSIONS) for i in range(count)
        ]
        makers += [self.no_digit] * refused
        images = np.empty((len(makers), mnist.SIZE, mnist.SIZE), np.uint8)
        with Progress("photographing digits", len(makers)) as progress:
            for i, make in enumerate(makers):
                images[i] = make()
                progress.update(1)
        labels = [self.labels] * (VERSIONS + 1) + [np.full(refused, NO_DIGIT, np.int64)]
        return np.concatenate([self.images, images])[..., None], np.concatenate(labels)

    def digit(self, i: int) -> Image:
        """Training image i photographed; some 1s and 7s give way to European ones."""
        label, rng = self.labels[i], self.rng
        if label == 1 and rng.random() < 0.35:
            large = pen.european_one(rng)
        elif label == 7 and rng.random() < 0.3:
            large = pen.european_seven(rng)
        else:
            small = self.images[i]
            large = enlarged(long_tailed(small, rng) if rng.random() < 0.25 else small)
        seen = self.photographed(self.penned(self.warped(large)))
        return seen if seen.any() else self.images[i]

    def no_digit(self) -> Image:
        """A photograph of something to refuse."""
        seen = np.zeros((1, 1), np.uint8)
        while not seen.any():
            kinds, shares = zip(*self.kinds())
            make = kinds[self.rng.choice(len(kinds), p=np.divide(shares, sum(shares)))]
            seen = self.photographed(self.penned(make()), specks=False)
        return seen

    def kinds(self) -> Sequence[tuple[Callable[[], Image], float]]:
        """What is no digit, and how often it is shown."""
        return (
            (lambda: self.warped(pen.sign(self.rng)), 0.27),
            (lambda: self.row(2), 0.17),
            (lambda: self.row(3), 0.05),
            (lambda: self.row(2, part=self.rng.uniform(0.35, 0.75)), 0.12),
            (self.part, 0.11),
            (self.turned, 0.12),
            (lambda: pen.scribble(self.rng), 0.05),
            (lambda: pen.blot(self.rng), 0.07),
            (lambda: pen.bar(self.rng), 0.04),
        )

    def warped(self, large: Image, turn_deg: float = 0.0) -> Image:
        """Turned, sheared, stretched and bent by random amounts, as hands differ."""
        import cv2

        rng, middle = self.rng, np.float32(pen.CANVAS / 2)
        angle = np.radians(turn_deg + np.clip(rng.normal(0, 7), -22, 22))
        shear, stretch = rng.normal(0, 0.15), np.exp(rng.normal(0, 0.16))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        wide, high = 1.05 / np.sqrt(stretch), 1.05 * np.sqrt(stretch)
        back = (np.array([[wide, shear * wide], [0, high]]) @ turn).astype(np.float32)
        at = np.arange(pen.CANVAS, dtype=np.float32) - middle
        bend = self.bends[rng.integers(FIELDS)] * np.float32(rng.uniform(0, 3))
        x = back[0, 0] * at + back[0, 1] * at[:, None] + middle + bend[0]
        y = back[1, 0] * at + back[1, 1] * at[:, None] + middle + bend[1]
        return np.asarray(cv2.remap(large, x, y, cv2.INTER_LINEAR), np.uint8)

    def penned(self, large: Image) -> Image:
        """The same with a thinner or a thicker pen; a quarter as they are."""
        import cv2

        rng = self.rng
        choice = rng.random()
        if choice < 0.25:
            return large
        ink = np.uint8(255) * (large > rng.uniform(70, 170)).astype(np.uint8)
        if choice < 0.6:
            return thinned(ink, rng.uniform(0.15, 0.75))
        if choice < 0.85:
            return np.asarray(cv2.dilate(ink, self.discs[rng.integers(1, 7)]), np.uint8)
        return ink

    def photographed(self, large: Image, *, specks: bool = True) -> Image:
        """Ink seen by a camera at some distance, thresholded softly, and normalised.

        `specks` lets small components go, as the reader takes them for dirt.
        """
        import cv2

        from hwr.vision.normalise import mend_stroke, stroke_width, tight, to_mnist

        rng = self.rng
        ink = tight(large.astype(np.float32), INK / 255)
        if min(ink.shape) < 2:
            return np.zeros((mnist.SIZE, mnist.SIZE), np.uint8)
        height = np.exp(rng.uniform(np.log(14), np.log(100)))
        ink = cv2.copyMakeBorder(ink, 6, 6, 6, 6, cv2.BORDER_CONSTANT)
        scale = height / max(ink.shape)
        ink = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.6:
            ink = cv2.GaussianBlur(ink, (0, 0), rng.uniform(0.3, 1.1) * max(1, height / 40))
        ink = ink / max(float(np.percentile(ink[ink > 0.3 * ink.max()], 70)), 1e-6)
        if rng.random() < 0.3:
            ink = ink * self.pressure(ink.shape)
        if rng.random() < 0.5:
            ink = ink + rng.normal(0, rng.uniform(0, 0.09), ink.shape).astype(np.float32)
        if rng.random() < 0.08:
            ink = without_line(ink, rng)
        low = rng.uniform(0.1, 0.35)
        ink = np.minimum(np.maximum((ink - low) / rng.uniform(0.2, 0.6), 0), 1, dtype=np.float32)
        ink = without_specks(ink) if specks else ink
        mask = (ink > 0.3).astype(np.uint8)
        return to_mnist(mend_stroke(ink, stroke_width(mask))) if mask.any() else to_mnist(ink)

    def pressure(self, shape: tuple[int, ...]) -> Grey:
        """How strongly a pencil marks the paper, from .4 to 1."""
        import cv2

        field = self.bends[self.rng.integers(FIELDS), 0]
        field = cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
        strength = 0.8 + np.float32(self.rng.uniform(0.05, 0.25)) * field
        return np.minimum(np.maximum(strength, 0.4), 1)

    def row(self, count: int, part: float = 1.0) -> Image:
        """Digits side by side as if touching, of unequal sizes; `part` of the last one only."""
        import cv2

        rng = self.rng
        high, gap = 56, 4
        page = np.zeros((high + 40, count * high + 40), np.uint8)
        x, y = 8, 0
        order = rng.integers(len(self.images), size=count)
        whole = int(rng.integers(count)) if part < 1 else -1
        for number, i in enumerate(order):
            digit = cropped(self.images[i])
            if part < 1 and number != whole:
                cut = max(2, int(part * digit.shape[1]))
                digit = digit[:, :cut] if number > whole else digit[:, -cut:]
            size = rng.uniform(0.4, 1) if number and rng.random() < 0.4 else rng.uniform(0.8, 1)
            scale = size * high / max(digit.shape[0], 10)
            digit = cv2.resize(digit, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            h, w = digit.shape
            low, most = (20 + high - h) // 2, page.shape[0] - h
            y = int(np.clip(low + rng.normal(0, 2 + 0.5 * (high - h)), 0, most))
            w = min(w, page.shape[1] - x)
            spot = page[y : y + h, x : x + w]
            np.maximum(spot, digit[:, :w], out=spot)
            x += max(1, w + int(rng.integers(-gap if part < 1 else -3 * gap, gap)))
        return page

    def part(self) -> Image:
        """One side of a digit, or a piece from its top or foot, unless it may pass for a digit."""
        rng = self.rng
        while True:
            i = rng.integers(len(self.images))
            digit = cropped(self.images[i])
            h, w = digit.shape
            if rng.random() < 0.75:
                w = max(2, int(rng.uniform(0.3, 0.6) * w))
                part = digit[:, :w] if rng.random() < 0.5 else digit[:, -w:]
            elif self.labels[i] in (0, 6, 8, 9):  # their loops would be zeros
                continue
            else:
                h = max(2, int(rng.uniform(0.25, 0.45) * h))
                part = digit[:h] if rng.random() < 0.5 else digit[-h:]
            if self.labels[i] != 1 and (part > 100).any():
                part = cropped(part)
                if part.shape[1] > 0.4 * part.shape[0]:
                    return enlarged(np.pad(part, 3))

    def turned(self) -> Image:
        """A digit on its side, or a 7 on its head."""
        rng = self.rng
        while (label := self.labels[i := rng.integers(len(self.images))]) in (0, 8):
            pass
        if label == 7 and rng.random() < 0.4:
            return self.warped(enlarged(self.images[i]), 180)
        return self.warped(enlarged(self.images[i]), 90 * rng.choice([-1, 1]))


def smooth_fields(count: int, rng: Rng) -> Grey:
    """(count, 2, CANVAS, CANVAS): smooth noise of standard deviation 1, to bend strokes by."""
    import cv2

    size = pen.CANVAS
    fields = np.empty((count, 2, size, size), np.float32)
    for field in fields.reshape(-1, size, size):
        coarse = rng.normal(size=(14, 14)).astype(np.float32)
        fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        field[:] = cv2.GaussianBlur(fine, (0, 0), 5)
        field /= field.std() + 1e-6
    return fields


def discs() -> tuple[NDArray[np.uint8], ...]:
    """Round structuring elements of 1 to 7 pixels."""
    from hwr.vision.normalise import disc

    return tuple(disc(size) for size in range(1, 8))


def thinned(ink: Image, share: float) -> Image:
    """Strokes thinner by `share` of their width, wherever they are: none breaks."""
    import cv2

    depth = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    ridge = cv2.dilate(depth, np.ones((9, 9), np.uint8))
    return np.uint8(255) * (depth > share * ridge).astype(np.uint8)


def enlarged(small: Image) -> Image:
    """MNIST's pixels in the middle of the canvas, three times as large."""
    import cv2

    h, w = (min(3 * size, pen.CANVAS) for size in small.shape)
    large = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)
    top, left = (pen.CANVAS - h) // 2, (pen.CANVAS - w) // 2
    rest = (top, pen.CANVAS - h - top), (left, pen.CANVAS - w - left)
    return np.pad(large, rest)


def cropped(image: Image) -> Image:
    """The ink of an MNIST image without its border."""
    seen = image > INK
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def long_tailed(small: Image, rng: Rng) -> Image:
    """The lower part stretched or squeezed: tails of 9 and 7, heads of 6 and 8 differ by hand."""
    import cv2

    digit = cropped(small)
    at = max(3, int(rng.uniform(0.35, 0.6) * len(digit)))
    if len(digit) - at < 3:
        return small
    low = max(2, int(rng.uniform(0.55, 2.0) * (len(digit) - at)))
    lower = cv2.resize(digit[at:], (digit.shape[1], low), interpolation=cv2.INTER_LINEAR)
    joined = np.vstack([digit[:at], lower])
    scale = 20 / max(joined.shape)
    size = [max(1, round(scale * side)) for side in joined.shape[::-1]]
    fitted = cv2.resize(joined, size, interpolation=cv2.INTER_AREA)
    h, w = fitted.shape
    top, left = (mnist.SIZE - h) // 2, (mnist.SIZE - w) // 2
    return np.pad(fitted, ((top, mnist.SIZE - h - top), (left, mnist.SIZE - w - left)))


def without_line(ink: Grey, rng: Rng) -> Grey:
    """The strokes cut where a ruling line was taken away, or with what is left of the line."""
    h, w = ink.shape
    thick = max(1, round(h * rng.uniform(0.015, 0.05)))
    y = int(rng.integers(0, max(1, h - thick)))
    marred = ink.copy()
    if rng.random() < 0.5:
        marred[y : y + thick] *= rng.uniform(0, 0.5)
    else:
        x, length = int(rng.integers(0, w)), int(rng.integers(w // 5 + 1, w // 2 + 2))
        marred[y : y + thick, x : x + length] = rng.uniform(0.4, 1)
    return marred


def without_specks(ink: Grey) -> Grey:
    """Ink without the components much smaller than the largest."""
    import cv2

    count, which, stats, _ = cv2.connectedComponentsWithStats((ink > 0).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count <= 2:
        return ink
    small = np.concatenate([[False], areas < 0.08 * areas.max()])
    return np.where(small[which], 0, ink).astype(np.float32)
