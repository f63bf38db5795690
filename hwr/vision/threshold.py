"""Which pixels are ink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwr.errors import unknown_name
from hwr.vision.ink import Grey, Image, Ink
from hwr.vision.normalise import disc, odd
from hwr.vision.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Binary:
    """`faint` holds all that may be ink, `strong` what surely is; both uint8 (H, W), 1 for ink.

    `visible` is darker than the paper, if only a little: there ruling lines are whole. The three
    differ for hysteresis only.
    """

    visible: Image
    faint: Image
    strong: Image

    def without(self, lines: Image) -> Image:
        """The ink, once `lines` are taken out: components of `faint` with a strong pixel."""
        paper = 1 - lines
        return grown(self.strong & paper, self.faint & paper)


def binarise(ink: Ink, mask: Image, p: Parameters) -> Binary:
    """Ink and paper by the rule of the parameters. UnknownName for a rule that there is not."""
    if p.threshold == "hysteresis":
        return by_hysteresis(ink, mask, p)
    if p.threshold not in RULES:
        raise unknown_name("threshold", p.threshold, ["hysteresis", *RULES])
    found = RULES[p.threshold](ink, mask, p) * (mask > 0).astype(np.uint8)
    return Binary(found, found, found)


def otsu(values: Grey) -> float:
    """The threshold that best parts values from 0 to 1 into two classes. Source: Otsu 1979.

    The upper end of the last of 256 levels in the lower class: whatever is above is in the other.
    """
    import cv2

    levels = np.clip(255 * values, 0, 255).astype(np.uint8).reshape(1, -1)
    last = float(cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])
    return (last + 1) / 255


def by_otsu(ink: Ink, mask: Image, p: Parameters) -> Image:
    """One threshold for the page."""
    return (ink.darkness > otsu(ink.darkness[mask > 0])).astype(np.uint8)


def by_mean(ink: Ink, mask: Image, p: Parameters) -> Image:
    """Darker than the mean of the neighbourhood by a constant."""
    import cv2

    light = np.uint8(255 - 255 * ink.darkness)
    how = cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, side_of_window(mask, p)
    return np.asarray(cv2.adaptiveThreshold(light, 1, *how, round(255 * p.below_mean)), np.uint8)


def by_sauvola(ink: Ink, mask: Image, p: Parameters) -> Image:
    """Darker than m (1 + k (s / R - 1)), m and s of the neighbourhood. Source: Sauvola 2000."""
    import cv2

    light, window = 1 - ink.darkness, 2 * (side_of_window(mask, p),)
    mean = cv2.boxFilter(light, -1, window)
    spread = np.sqrt(np.maximum(cv2.boxFilter(light * light, -1, window) - mean * mean, 0))
    dark = light < mean * (1 + p.sauvola * (spread / p.sauvola_range - 1))
    return (dark & (ink.darkness > 3 * ink.noise)).astype(np.uint8)


def side_of_window(mask: Image, p: Parameters) -> int:
    """Of the neighbourhood in pixels."""
    return max(3, odd(p.window * min(mask.shape)))


def by_hysteresis(ink: Ink, mask: Image, p: Parameters) -> Binary:
    """Otsu's threshold around what stands out of the noise, then on along fainter strokes.

    A component is ink if any of its pixels passes the threshold; its pixels need a share of it
    only, so that a stroke which fades does not break.
    """
    import cv2

    darkness, local = ink.darkness, local_noise(ink.darkness, p)
    least = np.maximum(p.noise * np.maximum(ink.noise, local), p.faintest)
    around = disc(odd(p.near * max(mask.shape)))
    near = (cv2.dilate((darkness > least).astype(np.uint8), around) > 0) & (mask > 0)
    if near.sum() < p.fewest:
        return Binary(*np.zeros((3, *darkness.shape), np.uint8))
    high = max(otsu(darkness[near]), p.noise * ink.noise, p.faintest)
    low = min(high, max(p.hysteresis * high, p.fainter * max(p.noise * ink.noise, p.faintest)))
    faint = (darkness > np.maximum(low, p.fainter * p.noise * local)) & (mask > 0)
    strong = (darkness > np.maximum(high, p.surer * p.noise * local)) & faint
    visible = ((darkness > p.fainter * least) & (mask > 0)) | faint
    return Binary(*(each.astype(np.uint8) for each in (visible, faint, strong)))


def grown(strong: Image, faint: Image) -> Image:
    """The components of `faint` that hold a pixel of `strong`."""
    import cv2

    count, which = cv2.connectedComponents(faint, connectivity=8)
    keep = np.zeros(count, np.uint8)
    keep[np.unique(which[strong > 0])] = 1
    keep[0] = 0
    return keep[which]


def local_noise(darkness: Grey, p: Parameters) -> Grey:
    """The standard deviation of the paper around each pixel.

    The quietest of the neighbouring blocks speaks for each, or a thick pen would pass for noise.
    """
    import cv2

    h, w = darkness.shape
    side = max(p.noise_pixels, int(p.noise_block * min(h, w)))
    rows, columns = h // side, w // side
    if not rows or not columns:
        return np.zeros((h, w), np.float32)
    blocks = darkness[: rows * side, : columns * side].reshape(rows, side, columns, side)
    blocks = blocks.transpose(0, 2, 1, 3).reshape(rows, columns, -1)[..., ::3]
    middle = np.median(blocks, 2, keepdims=True)
    noise = (1.4826 * np.median(np.abs(blocks - middle), 2)).astype(np.float32)
    noise = cv2.medianBlur(cv2.erode(noise, np.ones((5, 5), np.uint8)), 5)
    return np.asarray(cv2.resize(noise, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


RULES: dict[str, Callable[[Ink, Image, Parameters], Image]] = {  # plain ones, for comparison
    "otsu": by_otsu,
    "adaptive": by_mean,
    "sauvola": by_sauvola,
}
