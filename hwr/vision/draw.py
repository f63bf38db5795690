"""The photograph with what was read in it: boxes, labels, confidence, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.vision.photograph import Image

Colour = tuple[int, int, int]
Area = tuple[float, float, float, float]  # left, top, right and bottom in pixels

SHORTEST, LONGEST = 200, 1600  # pixels of the picture's longer side
READ, UNSURE, REFUSED = (60, 150, 20), (0, 140, 255), (150, 60, 190)  # blue, green, red
FONT_PX = 22  # height of a letter at scale 1 of OpenCV's font
CORNER = 0.15  # so much of a label may lie over a neighbour's box, where ink is rare
FADED = 0.25  # of white over the photograph, so that the marks stand out


def annotated(photo: Image, page: dict[str, Any]) -> bytes:
    """The photograph as PNG: digits read in green, unsure ones in orange, refused in violet."""
    import cv2

    longest = max(photo.shape[:2])
    scale = min(max(longest, SHORTEST), LONGEST) / longest
    size = max(1, round(scale * photo.shape[1])), max(1, round(scale * photo.shape[0]))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    picture = cv2.resize(photo, size, interpolation=how)
    picture = cv2.addWeighted(picture, 1 - FADED, np.full_like(picture, 255), FADED, 0)
    for mark in page["refused"]:
        frame(picture, mark["box"], scale, REFUSED, 1)
    marks = [*page["refused"], *(digit for line in page["lines"] for digit in line["digits"])]
    taken = Taken([mark["box"] for mark in marks], scale)
    for line in page["lines"]:
        high = float(np.median([digit["box"][3] for digit in line["digits"]])) * scale
        for digit in line["digits"]:
            colour = UNSURE if digit["unsure"] else READ
            frame(picture, digit["box"], scale, colour, max(1, round(high / 40)))
            box = [scale * side for side in digit["box"]]
            label(picture, box, label_of(digit, high), colour, taken)
    return png(legend(picture))


def frame(picture: Image, box: list[int], scale: float, colour: Colour, thick: int) -> None:
    """Draw a box a little outside the ink."""
    import cv2

    x, y, w, h = (scale * side for side in box)
    room = 1 + thick
    first, last = (round(x - room), round(y - room)), (round(x + w + room), round(y + h + room))
    cv2.rectangle(picture, first, last, colour, thick, cv2.LINE_AA)


class Taken:
    """What a label is not to cover: the boxes of marks, and earlier labels."""

    def __init__(self, boxes: Sequence[Sequence[int]], scale: float = 1):
        x, y, w, h = scale * np.array(boxes, np.float64).reshape(-1, 4).T
        self.areas = np.stack([x, y, x + w, y + h], axis=1)  # left, top, right, bottom

    def covered(self, area: Area) -> float:
        """The share of an area that lies over what is taken; 0 if it is a corner only."""
        left, top, right, bottom = area
        x = np.minimum(self.areas[:, 2], right) - np.maximum(self.areas[:, 0], left)
        y = np.minimum(self.areas[:, 3], bottom) - np.maximum(self.areas[:, 1], top)
        share = float(
            np.sum(np.maximum(x, 0) * np.maximum(y, 0)) / ((right - left) * (bottom - top))
        )
        return share if share > CORNER else 0.0

    def take(self, area: Area) -> None:
        self.areas = np.vstack([self.areas, area])


def label_of(digit: dict[str, Any], high: float) -> list[tuple[str, float]]:
    """A digit, and the percent if they are less than 99; each with its height in pixels."""
    size = float(np.clip(0.45 * high, 11, 60))
    texts = [(str(digit["label"]), size)]
    percent = int(100 * digit["probability"])
    if percent < 99:
        texts.append((f"{percent}%", max(9.0, 0.5 * size)))
    return texts


def label(
    picture: Image,
    box: Sequence[float],
    texts: list[tuple[str, float]],
    colour: Colour,
    taken: Taken,
) -> None:
    """Write texts, each of a height in pixels, one after the other by a box.

    Above the box, unless that covers another or lies outside of the picture: then beside it, and
    in a crowd wherever it covers least. (Below, it would seem to be of the next line.)
    """
    x, y, w, _ = box
    size = texts[0][1]
    widths = [width_of(*text) for text in texts]
    wide, gap = sum(widths), 0.25 * size + 2
    above = y - gap
    feet = [  # its left and its foot
        (x + w / 2 - widths[0] / 2, above),
        (x + w - wide, above),
        (x, above),
        (x + w + gap, y + size),  # to the right of the box
        (x - gap - wide, y + size),  # to the left
        (x + w / 2 - widths[0] / 2, y + 1.2 * size),  # inside
    ]
    areas = [(left, foot - size, left + wide, foot) for left, foot in feet]
    height, width = picture.shape[:2]
    inside = [
        area for area in areas if min(area) >= 0 and area[2] <= width and area[3] <= height
    ] or areas[-1:]
    area = min(inside, key=taken.covered)  # the first of equals
    taken.take(area)
    left = area[0]
    for (text, tall), across in zip(texts, widths, strict=True):
        write(picture, text, (round(left + across / 2), round(area[3])), tall, colour)
        left += across


def font_of(size: float) -> tuple[int, float, int]:
    """OpenCV's font, scale and thickness for text of a height in pixels."""
    import cv2

    return cv2.FONT_HERSHEY_SIMPLEX, size / FONT_PX, max(1, round(size / 11))


def width_of(text: str, size: float) -> int:
    """Pixels from the text's left to where the next would begin."""
    import cv2

    return cv2.getTextSize(text, *font_of(size))[0][0] + 2  # with the rim


def write(picture: Image, text: str, at: tuple[int, int], size: float, colour: Colour) -> None:
    """Text of a height in pixels, centred on x = at[0], its foot at at[1], with a white rim."""
    import cv2

    font, scale, thick = font_of(size)
    where = at[0] - width_of(text, size) // 2, at[1]
    cv2.putText(picture, text, where, font, scale, (255, 255, 255), thick + 2, cv2.LINE_AA)
    cv2.putText(picture, text, where, font, scale, colour, thick, cv2.LINE_AA)


def legend(picture: Image) -> Image:
    """The picture with a line below that says what the colours mean."""
    strip = np.full((26, picture.shape[1], 3), 255, np.uint8)
    x = 8
    for text, colour in (("read", READ), ("unsure", UNSURE), ("refused", REFUSED)):
        strip[8:18, x : x + 10] = colour
        write(strip, text, (x + 18 + 4 * len(text), 18), 12, (60, 60, 60))
        x += 40 + 9 * len(text)
    return np.vstack([picture, strip])


def png(picture: Image) -> bytes:
    """A picture as a PNG file."""
    import cv2

    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert done
    packed: NDArray[np.uint8] = data
    return packed.tobytes()
