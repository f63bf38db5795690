"""The photograph with what was read in it: boxes, labels, confidence, and what was refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.vision.photograph import Image

SHORTEST, LONGEST = 200, 1600  # pixels of the picture's longer side
READ, UNSURE, REFUSED = (60, 150, 20), (0, 140, 255), (150, 60, 190)  # blue, green, red
FONT_PX = 22  # height of a letter at scale 1 of OpenCV's font
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
    for line in page["lines"]:
        high = float(np.median([digit["box"][3] for digit in line["digits"]])) * scale
        for digit in line["digits"]:
            colour = UNSURE if digit["unsure"] else READ
            frame(picture, digit["box"], scale, colour, max(1, round(high / 40)))
            label(picture, digit, scale, colour, high)
    return png(legend(picture))


def frame(
    picture: Image, box: list[int], scale: float, colour: tuple[int, int, int], thick: int
) -> None:
    """Draw a box a little outside the ink."""
    import cv2

    x, y, w, h = (scale * side for side in box)
    room = 1 + thick
    first, last = (round(x - room), round(y - room)), (round(x + w + room), round(y + h + room))
    cv2.rectangle(picture, first, last, colour, thick, cv2.LINE_AA)


def label(
    picture: Image, digit: dict[str, Any], scale: float, colour: tuple[int, int, int], high: float
) -> None:
    """Write a digit above its box, and beside it the percent if they are less than 99."""
    x, y, w, _ = (scale * side for side in digit["box"])
    size = float(np.clip(0.45 * high, 11, 60))
    at = round(x + w / 2), round(y - 0.25 * size - 2)
    if at[1] < size:  # no room above: inside
        at = at[0], round(y + 1.2 * size)
    text = str(digit["label"])
    write(picture, text, at, size, colour)
    percent = int(100 * digit["probability"])
    if percent < 99:
        small = max(9.0, 0.5 * size)
        write(picture, f"{percent}%", (at[0] + round(0.5 * size + small), at[1]), small, colour)


def write(
    picture: Image, text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> None:
    """Text of a height in pixels, centred on x = at[0], its foot at at[1], with a white rim."""
    import cv2

    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size / FONT_PX
    thick = max(1, round(size / 11))
    (wide, _), _ = cv2.getTextSize(text, font, scale, thick)
    where = at[0] - wide // 2, at[1]
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
