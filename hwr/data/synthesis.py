"""Strings of digits made of images of single digits, as somebody might write them on a cheque."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwr.data.augment import affine_maps, sample
from hwr.data.dataset import Dataset
from hwr.errors import DataError, UserError
from hwr.strings import PADDING

Images = NDArray[np.uint8]
Floats = NDArray[np.floating]
INK = 64  # grey level from which a pixel counts as ink when digits are put side by side
# What is drawn for each string, and for each of its digits: numbers from 0 to 1.
OF_STRING = (
    "length", "slant", "size", "gap", "begin", "rise", "line", "bold", "paper", "right", "below",
    "noise", "ink",
)  # fmt: skip
OF_DIGIT = "which", "slant", "turn", "height", "width", "gap", "line"
Draws = dict[str, Floats]  # by those names
LIMITS = {  # of the ranges
    "gap": (-16, 32),
    "slant_deg": (-60, 60),
    "size": (0.25, 1.5),
    "rise_deg": (-30, 30),
    "ink": (0, 1),
    "paper": (0, 1),
    "noise": (0, 1),
}


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """How strings are written. Ranges are (least, most); pixels are those of a line 32 high.

    A string has a slant, size, gap, line, ink and paper of its own, and each digit deviates a
    little. With negative gaps digits touch and overlap; `pitch` keeps a narrow one from vanishing
    in its neighbour: half the height of MNIST's digits, about what figures of print take; no
    reading decided it. A string too long for the width is moved closer together. White on black,
    as MNIST.

    Raises UserError for sizes, lengths and ranges that make no string.
    """

    height: int = 32
    width: int = 256
    shortest: int = 1  # digits
    longest: int = 10
    gap: tuple[float, float] = (-2.0, 6.0)  # pixels between the ink of neighbours
    pitch: float = 10.0  # least distance from where a digit begins to where the next one does
    slant_deg: tuple[float, float] = (-15.0, 20.0)  # to the right
    size: tuple[float, float] = (0.85, 1.2)  # 1 is as tall as in the images
    rise_deg: tuple[float, float] = (-2.0, 2.0)  # of the line they stand on
    ink: tuple[float, float] = (0.6, 1.0)  # brightness
    paper: tuple[float, float] = (0.0, 0.2)  # brightness, somewhat uneven
    noise: tuple[float, float] = (0.0, 0.1)  # the most that a pixel deviates by
    bold: float = 0.25  # share of the strings with broader strokes

    def __post_init__(self) -> None:
        if not 16 <= self.height <= self.width:
            raise UserError(
                f"synthesis: {self.height}x{self.width} pixels; expected a height of 16 or more, "
                "and a width of no less"
            )
        if not 1 <= self.shortest <= self.longest:
            raise UserError(
                f"synthesis: from {self.shortest} to {self.longest} digits; expected 1 or more, "
                "and the longest no shorter than the shortest"
            )
        room = self.width / self.longest
        if not 1 <= self.pitch <= room:
            raise UserError(
                f"synthesis: pitch is {self.pitch}, expected from 1 to {room:g}, the width for "
                f"each of {self.longest} digits"
            )
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if len(value) != 2 or not low <= value[0] <= value[1] <= high:
                raise UserError(
                    f"synthesis: {name} is {value}, expected (least, most) within {low} to {high}"
                )
            object.__setattr__(self, name, tuple(value))  # JSON knows lists only

    def __str__(self) -> str:
        return f"strings of {self.shortest} to {self.longest} on {self.height}x{self.width} pixels"

    def __call__(
        self, digits: Dataset, indices: NDArray[np.integer], *, seed: int, epoch: int
    ) -> tuple[Images, NDArray[np.int64]]:
        """One string for each index: it begins with the digit there, the others are random ones.

        -> images uint8 (n, height, width, 1), labels int64 (n, longest) with `PADDING` behind the
        end. A string is a function of the digits, seed, epoch and its index alone.

        Raises DataError for images that are not grey, or larger than 64 pixels a side.
        """
        if digits.images.shape[3] != 1 or max(digits.images.shape[1:3]) > 64:
            raise DataError(
                f"synthesis: {digits.name} holds images of {digits.images.shape[1:]}, expected "
                "(H, W, 1) of single digits, at most 64 pixels a side"
            )
        string, digit, grain = self._draw(indices, seed, epoch)
        lengths = between((self.shortest, self.longest + 1), string["length"]).astype(int)
        written = np.arange(self.longest) < lengths[:, None]  # (n, longest)
        chosen = (digit["which"] * len(digits)).astype(np.int64)
        chosen[:, 0] = indices
        labels = np.where(written, digits.labels[chosen], PADDING)

        # From here on the m digits of all strings lie one after the other.
        owner, each = np.nonzero(written)[0], {name: digit[name][written] for name in OF_DIGIT}
        of_owner = {name: string[name][owner] for name in OF_STRING}
        strokes = self._write(digits.images[chosen[written]], of_owner, each)
        lefts, middles = self._lefts(strokes, written, string, each)
        tops = self._tops(strokes, middles, of_owner, each)
        side = strokes.shape[1]
        sheets = np.zeros((len(indices), self.height + 2 * side, self.width + 2 * side), np.uint8)
        for i, stroke, top, left in zip(owner, strokes, (tops + side).tolist(), lefts + side):
            there = sheets[i, top : top + side, left : left + side]
            np.maximum(there, stroke, out=there)
        ink = sheets[:, side : side + self.height, side : side + self.width]
        return self._print(ink, grain, string)[..., None], labels

    def _draw(
        self, indices: NDArray[np.integer], seed: int, epoch: int
    ) -> tuple[Draws, Draws, NDArray[np.int8]]:
        """All that is random: `OF_STRING` (n,), `OF_DIGIT` (n, longest), the grain of the paper."""
        n, split = len(indices), len(OF_STRING)
        draws = np.empty((n, split + len(OF_DIGIT) * self.longest))
        grain = np.empty((n, self.height, self.width), np.int8)
        for row, pixels, index in zip(draws, grain, indices.tolist()):
            rng = np.random.default_rng([seed, epoch, index, 0, 1])  # no other has five numbers
            rng.random(out=row)
            pixels[:] = np.frombuffer(rng.bytes(pixels.size), np.int8).reshape(pixels.shape)
        of_digit = draws[:, split:].reshape(n, len(OF_DIGIT), self.longest).transpose(1, 0, 2)
        return dict(zip(OF_STRING, draws[:, :split].T)), dict(zip(OF_DIGIT, of_digit)), grain

    def _write(self, images: Images, string: Draws, each: Draws) -> Images:
        """The digits (m, h, w, 1), slanted, turned and sized: (m, side, side)."""
        m, h, w, _ = images.shape
        side = max(self.height, h, w)
        top, left = (side - h) // 2, (side - w) // 2
        framed = np.zeros((m, side, side, 1), np.uint8)
        framed[:, top : top + h, left : left + w] = images
        slant = between(self.slant_deg, string["slant"]) + between((-4, 4), each["slant"])
        sides = np.stack([each["height"], each["width"]])
        scale = between(self.size, string["size"]) * between((0.92, 1.08), sides)
        turn = between((-4, 4), each["turn"])
        maps = affine_maps(turn, slant, scale * self.height / 32, np.zeros((2, m)))
        return sample(framed, maps)[..., 0]

    def _lefts(
        self, strokes: Images, written: NDArray[np.bool_], string: Draws, each: Draws
    ) -> tuple[NDArray[np.int64], Floats]:
        """Where the frames of the digits begin, and the middle of their ink: (m,) each."""
        first, last = extent(strokes, 1)
        widths, steps = np.zeros(written.shape), np.zeros(written.shape)
        widths[written] = last - first
        gaps = between(self.gap, string["gap"][np.nonzero(written)[0]])
        gaps = gaps + between((-1.5, 1.5), each["gap"])
        unit = self.height / 32
        steps[written] = np.maximum(last - first + unit * gaps, max(1, unit * self.pitch))
        begins = np.cumsum(steps, 1) - steps  # where the ink of each digit begins
        farthest, room = np.where(written, begins, 0).max(1), self.width - 2 - widths.max(1)
        begins *= np.minimum(1, room / np.maximum(farthest, 1))[:, None]
        total = np.where(written, begins + widths, 0).max(1)
        begins += 1 + (string["begin"] * (self.width - 2 - total))[:, None]
        lefts = np.rint(begins[written]).astype(int) - first
        return lefts, (begins + widths / 2)[written]

    def _tops(
        self, strokes: Images, middles: Floats, string: Draws, each: Draws
    ) -> NDArray[np.int64]:
        """Where the frames of the digits begin, with all ink on the canvas: (m,)."""
        slope = np.tan(np.radians(between(self.rise_deg, string["rise"])))
        low = between((-2, 2), string["line"]) + between((-1.5, 1.5), each["line"])
        drop = slope * (self.width / 2 - middles) + low * self.height / 32
        above, below = extent(strokes, 2)
        tops = np.rint((self.height - strokes.shape[1]) / 2 + drop).astype(int)
        return np.clip(tops, -above, np.maximum(self.height - below, -above))

    def _print(self, ink: Images, grain: NDArray[np.int8], string: Draws) -> Images:
        """Ink, paper and grain together: (n, height, width)."""
        n, h, w = ink.shape
        printed = np.empty((n, h, w), np.uint8)
        single = {name: numbers.astype(np.float32) for name, numbers in string.items()}
        across, down = (np.linspace(-1, 1, size, dtype=np.float32) for size in (w, h))
        paper, noise = between(self.paper, single["paper"]), between(self.noise, single["noise"])
        right, below = (paper * between((-0.25, 0.25), single[name]) for name in ("right", "below"))
        strength, bold = between(self.ink, single["ink"]), single["bold"] < self.bold
        for i in range(n):  # one after the other, in the cache
            grey = (paper[i] + right[i] * across) + below[i] * down[:, None]
            share = ink[i] * np.float32(1 / 255)
            if bold[i]:
                np.maximum(share[:, 1:], ink[i, :, :-1] * np.float32(1 / 255), out=share[:, 1:])
            grey += share * (strength[i] - grey)
            grey += grain[i] * (noise[i] / 128)
            printed[i] = np.clip(255 * grey, 0, 255)
        return printed


def between(limits: tuple[float, float], share: ArrayLike) -> Any:
    """The number at a share, from 0 to 1, of the way from one limit to the other."""
    return limits[0] + (limits[1] - limits[0]) * np.asarray(share)


def extent(strokes: Images, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first column (axis 1) or row (2) with ink, and the one behind the last; (m,) each."""
    inked: NDArray[np.bool_] = np.any(strokes >= INK, axis)  # (m, side)
    blank = ~inked.any(1)  # a digit fainter than ink counts as a narrow one
    first, last = inked.argmax(1), inked.shape[1] - inked[:, ::-1].argmax(1)
    middle = inked.shape[1] // 2
    return np.where(blank, middle, first), np.where(blank, middle + 1, last)
