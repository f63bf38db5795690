"""Pictures of a single digit, as people cut them out or draw them: the digit fills most of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.photo_steps import Example, read
from hwr import data
from hwr.progress import Progress
from hwr.vision import Reader
from hwr.vision.evaluation import Counts
from hwr.vision.photograph import Image

MARGINS = (0.05, 0.15, 0.3, 0.6)  # of the digit's height, on each side
DRAWN = 200  # images of MNIST's test set


def singles(reader: Reader, photos: Sequence[Example]) -> list[dict[str, Any]]:
    """What is read of each digit of the photographs by itself, and of MNIST's images."""
    kinds = {f"cut out, {100 * m:.0f} % around it": list(cut_out(photos, m)) for m in MARGINS}
    kinds |= {name: drawn(change) for name, change in DRAWINGS.items()}
    rows = []
    with Progress("singles", sum(map(len, kinds.values())), unit="pictures") as progress:
        for name, examples in kinds.items():
            total = Counts()
            for example in examples:
                total.add(read(reader, example))
                progress.update(1)
            rows.append({"change": name, **asdict(total)})
    return rows


def cut_out(photos: Sequence[Example], margin: float) -> Iterator[Example]:
    """Each digit whose box is known, in a picture of its own, the right way up."""
    quarters = {None: 0, "ccw": 1, "cw": 3}
    for photo in photos:
        upright = np.rot90(photo.image, quarters[photo.truth.get("rotate_to_read")])
        for digit in photo.truth.get("digits") or []:
            x, y, w, h = digit["box"]
            room = margin * h
            top, left = max(0, int(y - room)), max(0, int(x - room))
            part = upright[top : int(y + h + room) + 1, left : int(x + w + room) + 1]
            truth = {"rows": [str(digit["label"])]}
            yield Example(photo.name, np.ascontiguousarray(part), truth, photo.writer)


def drawn(change: Callable[[Image], Image]) -> list[Example]:
    """MNIST's test images, one by one, after a change."""
    digits = data.load("mnist", split="test")
    chosen = digits.subset(np.arange(0, len(digits), len(digits) // DRAWN))
    return [
        Example(str(i), change(image[..., 0])[..., None].repeat(3, 2), {"rows": [str(label)]})
        for i, (image, label) in enumerate(zip(chosen.images, chosen.labels))
    ]


def enlarged(image: Image) -> Image:
    """Ten times as large, dark on light."""
    import cv2

    return 255 - np.asarray(cv2.resize(image, None, fx=10, fy=10, interpolation=cv2.INTER_CUBIC))


def with_a_brush(image: Image) -> Image:
    """The same, drawn with a thick brush."""
    import cv2

    return np.asarray(cv2.erode(enlarged(image), np.ones((11, 11), np.uint8)))


DRAWINGS: dict[str, Callable[[Image], Image]] = {
    "an image of MNIST as it is, 28x28, white on black": lambda image: image,
    "the same, enlarged, black on white": enlarged,
    "the same, with a thick brush": with_a_brush,
}
