"""A digit cut from a photograph, made into an image like those of MNIST.

Read `to_mnist` first: it is MNIST's own rule, and most of what makes a network that learnt MNIST
read other people's digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwr.vision.parameters import Parameters

SIZE, BOX = 28, 20  # pixels a side of an MNIST image, and of the box its digit fills

Grey = NDArray[np.float32]


def to_mnist(ink: NDArray[np.floating], faint: float = Parameters.box_faint) -> NDArray[np.uint8]:
    """Ink (H, W), 0 for paper -> uint8 (28, 28) by MNIST's rule; all 0 if there is no ink.

    The tight box around what exceeds `faint` of the strongest ink is padded to a square, resampled
    by area to 20x20, its strongest pixel made 255, and placed so that the centre of mass c, in
    (i + .5) coordinates, is moved by int(15 - c). Source: LeCun, Bottou, Bengio and Haffner 1998,
    section III.A; the rounding verified on all 60,000 training images.
    """
    ink = tight(np.asarray(ink, np.float32), faint)
    if not ink.size:
        return np.zeros((SIZE, SIZE), np.uint8)
    box = shrink(square(ink), BOX)
    return centred(box * (255 / box.max()))


def tight(ink: Grey, least: float) -> Grey:
    """The part of `ink` inside the box around all that exceeds `least` of the maximum."""
    seen = ink > least * max(float(ink.max(initial=0)), 1e-6)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return ink[:0, :0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def square(ink: Grey) -> Grey:
    """`ink` in the middle of a square of paper."""
    h, w = ink.shape
    side = max(h, w)
    out = np.zeros((side, side), np.float32)
    top, left = (side - h) // 2, (side - w) // 2
    out[top : top + h, left : left + w] = ink
    return out


def shrink(ink: Grey, size: int) -> Grey:
    """A square resampled by area; a smaller one is enlarged smoothly first."""
    import cv2

    if len(ink) < size:
        ink = cv2.resize(ink, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def centred(box: Grey) -> NDArray[np.uint8]:
    """A 20x20 box placed in 28x28 by its centre of mass."""
    at = np.arange(BOX) + 0.5
    total = max(float(box.sum()), 1e-6)
    slack = SIZE - BOX
    top, left = (
        min(max(int(15 - float(mass @ at) / total), 0), slack) for mass in (box.sum(1), box.sum(0))
    )
    out = np.zeros((SIZE, SIZE), np.uint8)
    out[top : top + BOX, left : left + BOX] = np.rint(box)
    return out


def stroke_width(mask: NDArray[np.uint8]) -> float:
    """The mean width in pixels of the strokes in a mask (non-zero is ink), 1 or more.

    Within a stroke of width w the mean distance to the paper is (w + 2) / 4 pixels.
    """
    import cv2

    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    inside = distance[padded > 0]
    return max(1.0, 4 * float(inside.mean()) - 2) if inside.size else 1.0


def mend_stroke(
    ink: Grey, width: float, limits: tuple[float, float] = Parameters.stroke_px
) -> Grey:
    """`ink` with strokes made wider or thinner if, in the 20-pixel box, they would exceed `limits`.

    `width` is that of the strokes in pixels of `ink`. The result has a border wide enough for what
    grows. A pen that would vanish if it were made thinner is left as it is.
    """
    import cv2

    scale = BOX / max(ink.shape)
    thin, thick = (limit / scale for limit in limits)
    if width < thin:
        by = round(thin - width)
        grown = cv2.copyMakeBorder(ink, by, by, by, by, cv2.BORDER_CONSTANT)
        return cv2.dilate(grown, disc(by + 1)) if by else ink
    if width > thick and (by := round(width - thick)):
        eroded = cv2.erode(ink, disc(by + 1))
        return eroded if (eroded > 0.5).sum() > 0.3 * (ink > 0.5).sum() else ink
    return ink


def odd(size: float) -> int:
    """A whole number of pixels about as large that has a middle."""
    return int(size) | 1


def disc(size: int) -> NDArray[np.uint8]:
    """A round structuring element, `size` pixels across."""
    import cv2

    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
