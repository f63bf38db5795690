"""From colours to ink: how much darker than the paper each pixel is.

Lamps, shadows and folds change the paper's brightness slowly, strokes quickly: the paper is what is
left when everything narrower than a stroke's width is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.vision.normalise import disc
from hwr.vision.parameters import Parameters

Image = NDArray[np.uint8]
Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Ink:
    """`darkness` float32 (H, W), 0 for paper to 1 for black; `noise` its standard deviation."""

    darkness: Grey
    noise: float
    dark_on_light: bool


def grey(image: Image) -> Image:
    """Colours, BGR, to grey: .299 red + .587 green + .114 blue."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def smoothed(image: Grey, sigma: float) -> Grey:
    """Convolved with exp(-(x^2 + y^2) / 2 sigma^2) / (2 pi sigma^2). Source: P0, eq. 2."""
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def find_ink(image: Image, mask: Image, p: Parameters) -> Ink:
    """The ink of a page, in whichever of grey, blue, green and red shows it most clearly."""
    kernel = int(p.background * min(image.shape[:2])) | 1
    dark = is_dark_on_light(grey(image), mask, kernel)
    chosen = clearest(image, mask, kernel, dark, p)
    shade = grey(image) if chosen is None else np.ascontiguousarray(image[..., chosen])
    return ink_of(shade if dark else 255 - shade, mask, kernel, dark, p)


def clearest(image: Image, mask: Image, kernel: int, dark: bool, p: Parameters) -> int | None:
    """The colour (0 blue, 1 green, 2 red) to seek ink in; None if grey shows it as clearly.

    Judged on half the size, by how far the darkest pixels rise above the noise.
    """
    import cv2

    half = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    page = np.asarray(cv2.resize(mask, half.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    chosen, best = None, 0.0
    for colour in (None, 0, 1, 2):
        shade = grey(half) if colour is None else np.ascontiguousarray(half[..., colour])
        ink = ink_of(shade if dark else 255 - shade, page, kernel // 2 | 1, dark, p)
        clear = float(np.percentile(sample_of(ink.darkness, page, p), p.full_ink)) / ink.noise
        if colour is None or clear > p.colour * best:
            chosen, best = colour, clear
    return chosen


def is_dark_on_light(image: Image, mask: Image, kernel: int) -> bool:
    """Whether strokes are darker than the paper: the third moment of what is narrow is negative.

    The brightness of the border says less: a sheet lies on a dark desk, a slate on a white one.
    """
    import cv2

    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    page = cv2.resize(mask, half.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    edge = max(2, min(half.shape) // 60)
    page[:edge] = page[-edge:] = page[:, :edge] = page[:, -edge:] = False
    narrow = half.astype(np.float32) - cv2.medianBlur(half, max(5, kernel // 2 | 1))
    return not page.any() or float((narrow[page] ** 3).mean()) <= 0


def background(image: Image, kernel: int) -> Grey:
    """The paper under dark ink: closing, median and Gaussian on a quarter of the size."""
    import cv2

    h, w = image.shape
    quarter = cv2.resize(
        image, (max(8, w // 4), max(8, h // 4)), interpolation=cv2.INTER_AREA
    )  # fmt: skip
    k = max(5, kernel // 4) | 1
    paper = cv2.copyMakeBorder(quarter, k, k, k, k, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(cv2.morphologyEx(paper, cv2.MORPH_CLOSE, disc(k)), k)
    paper = cv2.GaussianBlur(paper, (0, 0), k / 4)[k:-k, k:-k]
    return np.asarray(cv2.resize(paper, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


def ink_of(shade: Image, mask: Image, kernel: int, dark: bool, p: Parameters) -> Ink:
    """1 - shade / background above what the paper has, and the noise of the paper."""
    paper = background(shade, kernel)
    least = p.darkest_paper if dark else p.darkest_board
    ratio = (paper - shade) / np.maximum(paper, least)
    darkness = smoothed(ratio.astype(np.float32), p.smooth)
    sample = sample_of(darkness, mask, p)
    median = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - median))) + p.least_noise
    return Ink(np.clip(darkness - np.float32(max(median, 0)), 0, 1), noise, dark)


def sample_of(darkness: Grey, mask: Image, p: Parameters) -> Grey:
    """Pixels of the page, no more than its statistics need."""
    values = darkness[mask > 0] if mask.any() else darkness.ravel()
    return values[:: max(1, len(values) // p.most)]
