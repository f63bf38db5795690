"""Images of lines of writing as arrays of one size: whole, to be read, or cut into patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.data.images import ink, to_height
from hwr.data.strings import Strings
from hwr.errors import DataError, UserError
from hwr.strings import pad

Image = NDArray[np.uint8]
SEED = 0  # of the patches' places: the same ones for every run


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Every line whole on `height` by `width` pixels, its text as labels: what CTC reads.

    `fill` is the share of the height, and of the width, that a line may take; the rest is margin.

    Raises UserError for a canvas without pixels, or a share not above 0 or above 1.
    """

    height: int = 32
    width: int = 256
    fill: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or not 0 < self.fill <= 1:
            raise UserError(
                f"canvas: {self}; expected 1 or more pixels each way, filled above 0 to 1"
            )

    def __str__(self) -> str:
        return f"{self.height}x{self.width} pixels, filled to {self.fill:g}"

    def classes(self, lines: Strings) -> tuple[str, ...]:
        """The symbols to tell apart."""
        return lines.alphabet

    def __call__(self, lines: Strings, classes: Sequence[str]) -> Dataset:
        """-> images (N, height, width, 1), labels (N, S) with `PADDING` behind the end.

        UserError for a symbol that is none of the classes.
        """
        number = {symbol: i for i, symbol in enumerate(classes)}
        for i, text in enumerate(lines.texts):
            if strange := sorted(set(text) - number.keys()):
                raise UserError(
                    f"{lines.name} {lines.split}: text {i} is {text!r}, and {strange[0]!r} is none "
                    f"of the {len(number)} symbols that are read, {''.join(classes)}; train on "
                    "texts that have it"
                )
        images = np.zeros((len(lines), self.height, self.width, 1), np.uint8)
        for image, line in zip(images, lines.images):
            image[..., 0] = self.fit(line)
        labels = pad([[number[symbol] for symbol in text] for text in lines.texts])
        return dataset_of(lines, images, labels, classes)

    def fit(self, line: Image) -> Image:
        """uint8 (H, W), ink bright on dark -> (height, width): as `images.fit`, but for a line.

        As large as fits, aspect kept, area resampling (linear if it grows), in the middle, the
        paper taken away by `images.ink`.
        """
        import cv2

        h, w = line.shape
        scale = self.fill * min(self.height / h, self.width / w)
        down, across = max(1, round(h * scale)), max(1, round(w * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas = np.zeros((self.height, self.width), np.uint8)
        top, left = (self.height - down) // 2, (self.width - across) // 2
        resized = cv2.resize(ink(line), (across, down), interpolation=way)
        canvas[top : top + down, left : left + across] = resized
        return canvas


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Squares of `size` pixels from random places of each line, the line as high as they are.

    A line gives one patch for each `size` pixels of its width, `most` at most. They are labelled
    by the group of a kind that the line belongs to: "writer" asks who wrote it.
    Source: Jin, Qian and Wang, who give neither number nor seed.

    Raises UserError for sizes below 1.
    """

    size: int = 113
    most: int = 8
    of: str = "writer"

    def __post_init__(self) -> None:
        if min(self.size, self.most) < 1:
            raise UserError(
                f"patches: {self.most} of {self.size} pixels a line; expected 1 or more of each"
            )

    def __str__(self) -> str:
        return f"of {self.size}x{self.size} pixels, at most {self.most} a line, by {self.of}"

    def classes(self, lines: Strings) -> tuple[str, ...]:
        """The groups to tell apart. DataError for lines without."""
        return tuple(np.unique(self._groups(lines)).tolist())

    def __call__(self, lines: Strings, classes: Sequence[str]) -> Dataset:
        """-> images (N, size, size, 1), labels (N,); "line" in `groups` is each patch's line.

        A patch is a function of the line's position in the split as loaded alone. UserError for a
        group that is none of the classes.
        """
        number = {name: i for i, name in enumerate(classes)}
        of = self._groups(lines).tolist()
        if strange := sorted(set(of) - number.keys()):
            raise UserError(
                f"{lines.name} {lines.split}: the {self.of} {strange[0]!r} is none of the "
                f"{len(number)} trained on; only a {self.of} with lines in both splits can be told"
            )
        cut = [self.cut(line, i) for line, i in zip(lines.images, lines.indices.tolist())]
        owner = np.repeat(np.arange(len(lines)), [len(patches) for patches in cut])
        labels = np.array([number[name] for name in of], np.int64)[owner]
        return dataset_of(lines.subset(owner), np.concatenate(cut)[..., None], labels, classes)

    def cut(self, line: Image, index: int) -> Image:
        """uint8 (H, W) -> (n, size, size): a line narrower than a patch is padded with paper."""
        line = to_height(line, self.size)
        if (missing := self.size - line.shape[1]) > 0:
            paper = np.uint8(np.median(line))
            sides = (missing // 2, missing - missing // 2)
            line = np.pad(line, ((0, 0), sides), constant_values=paper)
        width = line.shape[1]
        count = min(self.most, width // self.size)
        lefts = np.random.default_rng([SEED, index]).integers(0, width - self.size + 1, count)
        return np.stack([line[:, left : left + self.size] for left in lefts])

    def _groups(self, lines: Strings) -> NDArray[np.str_]:
        if self.of not in lines.groups:
            raise DataError(
                f"{lines.name} {lines.split}: no line says its {self.of}; what is known: "
                f"{', '.join(lines.groups) or 'nothing'}"
            )
        return lines.groups[self.of]


def dataset_of(
    lines: Strings, images: Image, labels: NDArray[np.int64], classes: Sequence[str]
) -> Dataset:
    """What is made of lines, an image for each, as a dataset that knows where each comes from."""
    return Dataset(
        lines.name,
        lines.split,
        images,
        labels,
        tuple(classes),
        selection=lines.indices,
        groups={**lines.groups, "line": lines.indices.astype(str)},
        note=lines.note,
    )
