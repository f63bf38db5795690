"""The contact sheet of `--explain`: every step of a reading, so that one sees why it went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hwr.vision.candidates import cut_out, find_cuts, may_be_cut
from hwr.vision.components import Component, find_components
from hwr.vision.decode import Digit
from hwr.vision.draw import READ, REFUSED, UNSURE, Taken, label, png, write
from hwr.vision.ink import background, grey, smoothed
from hwr.vision.lines import group_lines
from hwr.vision.normalise import mend_stroke
from hwr.vision.parameters import Parameters
from hwr.vision.photograph import Image
from hwr.vision.reader import Examination, Marks

WIDTH, COLUMNS = 1520, 4
PANEL, CAPTION, GAP = 360, 24, 16  # pixels: side of a panel, height of its caption
TILE, TILES = 84, 4  # side of a picture of one digit, and how many there are of each
MOST_DIGITS = 120
INK, PAPER = (40, 40, 40), (255, 255, 255)
RED, BLUE = (40, 40, 220), (200, 110, 30)

Contours = Sequence[NDArray[np.int32]]


def contact_sheet(seen: Examination, p: Parameters) -> bytes:
    """All steps of one photograph as a PNG file."""
    panels = [panel(caption, picture()) for caption, picture in steps(seen, p)]
    rows = [beside(panels[i : i + COLUMNS]) for i in range(0, len(panels), COLUMNS)]
    digits = [digit for line in seen.lines for digit in line]
    rows += [
        heading("What the network saw: cut out, ink alone, pen mended, 28x28; then the likeliest")
    ]
    rows += digit_rows(digits, seen, READ, p)
    doubted = [
        digit for reading in seen.attempt.readings for digit in reading.digits
        if digit not in digits
    ]  # fmt: skip
    if doubted:
        rows += [heading("Refused after reading"), *digit_rows(doubted, seen, REFUSED, p)]
    return png(np.vstack([wide(row) for row in rows]))


def steps(seen: Examination, p: Parameters) -> list[tuple[str, Callable[[], Image]]]:
    """Caption and picture of each step."""
    marks = seen.marks
    shade = grey(marks.view.image)
    kernel = int(p.background * min(shade.shape)) | 1
    dark = shade if marks.ink.dark_on_light else 255 - shade
    sheet = "the sheet, rectified" if marks.view.is_sheet else "the whole photograph"
    turned = f"turned by {seen.attempt.turned.angle_deg % 360:.0f} degrees, lines and boxes"
    return [
        ("photograph" + (", sheet found" if marks.view.is_sheet else ""), partial(outlined, seen)),
        (f"1 page: {sheet}", lambda: marks.view.image),
        ("2 grey", lambda: coloured(shade)),
        ("3 smoothed (Gaussian)", lambda: coloured(smoothed(shade.astype(np.float32), p.smooth))),
        ("4 background", lambda: coloured(background(dark, kernel))),
        ("5 background removed", lambda: coloured(255 * (1 - marks.ink.darkness))),
        (
            "6 binarised",
            lambda: coloured(
                255.0 - 255 * marks.binary.strong - 90 * (marks.binary.faint - marks.binary.strong)
            ),
        ),
        ("7 ruling taken out", partial(without_ruling, marks)),
        ("8 contours, CHAIN_APPROX_NONE", partial(contours, marks, simple=False)),
        ("8 contours, CHAIN_APPROX_SIMPLE", partial(contours, marks, simple=True)),
        ("9 components kept and refused", partial(boxes, marks)),
        ("10 which way up: how well each reads", partial(ways_up, seen)),
        (f"11 {turned}", partial(lines, seen)),
        ("12 where touching digits may be cut", partial(cuts, seen, p)),
    ]


def coloured(values: NDArray[np.floating] | Image) -> Image:
    """Grey values from 0 to 255 as (H, W, 3)."""
    return np.clip(values, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def outlined(seen: Examination) -> Image:
    """The photograph, with the outline of the sheet that was found."""
    import cv2

    picture = seen.photo.copy()
    if seen.marks.view.is_sheet:
        h, w = seen.marks.view.mask.shape
        corners = np.array([[[0, 0], [w, 0], [w, h], [0, h]]], np.float64)
        back = cv2.perspectiveTransform(corners, np.linalg.inv(seen.marks.view.to_view))
        thick = max(2, max(picture.shape) // 150)
        cv2.polylines(picture, [np.rint(back).astype(np.int32)], True, RED, thick, cv2.LINE_AA)
    return picture


def without_ruling(marks: Marks) -> Image:
    """Ink in black, ruling lines in red."""
    picture = coloured(255 * (1 - marks.binary.without(marks.ruling)))
    picture[marks.ruling > 0] = RED
    return picture


def contours(marks: Marks, *, simple: bool) -> Image:
    """The first component large: each point of its outline, or only its bends, as in P0."""
    import cv2

    if not marks.components:
        return np.full((PANEL, PANEL, 3), 255, np.uint8)
    c = min(marks.components, key=lambda c: (c.y + c.h / 2) // max(c.h, 1) * 1e5 + c.x)
    mask = np.pad(c.mask.astype(np.uint8), 2)
    zoom = max(1, PANEL // max(mask.shape))
    how = cv2.CHAIN_APPROX_SIMPLE if simple else cv2.CHAIN_APPROX_NONE
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, how)
    picture = coloured(255 - 50 * mask).repeat(zoom, 0).repeat(zoom, 1)
    for contour in found:
        for x, y in contour[:, 0]:
            middle = round(zoom * (x + 0.5)), round(zoom * (y + 0.5))
            cv2.circle(picture, middle, max(1, zoom // 4), RED, -1, cv2.LINE_AA)
    return picture


def boxes(marks: Marks) -> Image:
    """Components that may be digits in green, others in violet."""
    import cv2

    picture = coloured(255 - 150 * marks.binary.without(marks.ruling))
    thick = max(1, max(picture.shape) // 500)
    for group, colour in (([c for c, _ in marks.refused], REFUSED), (marks.components, READ)):
        for c in group:
            cv2.rectangle(picture, (c.x, c.y), (c.right, c.bottom), colour, thick)
    return picture


def cuts(seen: Examination, p: Parameters) -> Image:
    """The component with most places to cut it, large: the network tells which are right."""
    import cv2

    turned = seen.attempt.turned
    found = find_components(turned.mask, turned.darkness, p)
    tried = [
        (find_cuts(c, line.height, p), c)
        for line in (group_lines(found, p)[0] if found else [])
        for c in line.members
        if may_be_cut(c, line.height, p)
    ]
    if not tried or not max(len(places) for places, _ in tried):
        return np.full((PANEL, PANEL, 3), 255, np.uint8)
    places, c = max(tried, key=lambda each: len(each[0]))
    mask = np.pad(c.mask.astype(np.uint8), 2)
    zoom = max(1, PANEL // max(mask.shape))
    picture = coloured(255 - 90 * mask).repeat(zoom, 0).repeat(zoom, 1)
    for x, slant in places:
        ends = [round(zoom * (2 + x - slant * side * c.h / 2)) for side in (-1, 1)]
        cv2.line(picture, (ends[0], 0), (ends[1], len(picture) - 1), RED, max(1, zoom // 2))
    return picture


def ways_up(seen: Examination) -> Image:
    """The ink in the quarter turns, with the nats that the network gives for each; one is taken."""
    import cv2

    ink = coloured(255 * (1 - seen.marks.ink.darkness * seen.marks.mask))
    side = PANEL // 2
    picture = np.full((2 * side, 2 * side, 3), 255, np.uint8)
    taken = round(seen.attempt.turned.angle_deg / 90) % 4
    for k, score in enumerate(seen.quarters):
        turned = np.rot90(ink, k)
        scale = (side - 30) / max(turned.shape)
        size = [max(1, round(scale * edge)) for edge in turned.shape[1::-1]]
        small = cv2.resize(np.ascontiguousarray(turned), size, interpolation=cv2.INTER_AREA)
        top, left = k // 2 * side, k % 2 * side
        at = top + 24, left + (side - size[0]) // 2
        picture[at[0] : at[0] + size[1], at[1] : at[1] + size[0]] = small
        colour = READ if k == taken else (130, 130, 130)
        write(picture, f"{90 * k} deg: {score:.2f}", (left + side // 2, top + 17), 12, colour)
        cv2.rectangle(picture, (left, top), (left + side - 1, top + side - 1), colour, 1)
    return picture


def lines(seen: Examination) -> Image:
    """The levelled page; each line of digits joined by a stroke, in its order."""
    import cv2

    picture = coloured(255 * (1 - seen.attempt.turned.darkness))
    thick = max(1, max(picture.shape) // 500)
    for line in seen.lines:
        middles = []
        for digit in line:
            x, y, w, h = digit.candidate.box
            middles.append((x + w // 2, y + h // 2))
            cv2.rectangle(picture, (x, y), (x + w, y + h), READ, thick)
        cv2.polylines(picture, [np.array(middles, np.int32)], False, BLUE, thick, cv2.LINE_AA)
    taken = Taken([digit.candidate.box for line in seen.lines for digit in line])
    for digit in (digit for line in seen.lines for digit in line):
        box = digit.candidate.box
        label(picture, box, [(str(digit.label), max(16, 0.5 * box[3]))], READ, taken)
    return picture


def panel(caption: str, picture: Image) -> Image:
    """A picture fitted into a panel, its caption above."""
    import cv2

    h, w = picture.shape[:2]
    scale = min(PANEL / w, PANEL / h)
    size = max(1, round(scale * w)), max(1, round(scale * h))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    fitted = cv2.resize(picture, size, interpolation=how)
    out = np.full((CAPTION + size[1] + GAP, PANEL + GAP, 3), 255, np.uint8)
    out[CAPTION : CAPTION + size[1], : size[0]] = fitted
    cv2.rectangle(out, (0, CAPTION), (size[0] - 1, CAPTION + size[1] - 1), (200, 200, 200), 1)
    text(out, caption, (0, CAPTION - 8), 0.5)
    return out


def text(picture: Image, words: str, at: tuple[int, int], size: float) -> None:
    """Dark text from `at` on."""
    import cv2

    cv2.putText(picture, words, at, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)


def heading(words: str) -> Image:
    """A line of text over the whole width."""
    out = np.full((34, WIDTH, 3), 255, np.uint8)
    text(out, words, (GAP, 24), 0.55)
    return out


def digit_rows(
    digits: Sequence[Digit], seen: Examination, colour: tuple[int, int, int], p: Parameters
) -> list[Image]:
    """Strips of one digit each, several side by side."""
    strips = [digit_strip(digit, seen, colour, p) for digit in digits[:MOST_DIGITS]]
    across = max(1, (WIDTH - GAP) // strips[0].shape[1]) if strips else 1
    rows = [beside(strips[i : i + across]) for i in range(0, len(strips), across)]
    left = len(digits) - MOST_DIGITS
    return rows + ([heading(f"and {left} more")] if left > 0 else [])


def digit_strip(
    digit: Digit, seen: Examination, colour: tuple[int, int, int], p: Parameters
) -> Image:
    """A digit's way to 28x28, and the three likeliest readings."""
    pieces, turned = digit.candidate.pieces, seen.attempt.turned
    x, y, w, h = digit.candidate.box
    room = max(w, h) // 5 + 2
    around = turned.darkness[max(y - room, 0) : y + h + room, max(x - room, 0) : x + w + room]
    ink = cut_out(pieces, turned.darkness, turned.mask, p)
    mended = mend_stroke(ink, mean_stroke(pieces), p.stroke_px)
    tiles = [255 * (1 - around), 255 * (1 - ink), 255 * (1 - mended), digit.candidate.image]
    shown = [tile(np.asarray(each, np.float32)) for each in tiles]
    readings = np.full((TILE, 140, 3), 255, np.uint8)
    order = np.argsort(-digit.log_probabilities)[:3]
    for i, k in enumerate(order):
        name = "none" if k == len(digit.log_probabilities) - 1 else str(k)
        percent = 100 * float(np.exp(digit.log_probabilities[k]))
        shade = colour if i == 0 else (130, 130, 130)
        shade = UNSURE if i == 0 and percent < 80 and colour == READ else shade
        write(readings, f"{name} {percent:.0f}%", (68, 24 + 26 * i), 20 if i == 0 else 14, shade)
    strip = np.hstack([*shown, readings])
    return np.pad(strip, ((0, 8), (GAP, 0), (0, 0)), constant_values=255)


def mean_stroke(pieces: Sequence[Component]) -> float:
    """The width of the strokes of some components."""
    return float(np.average([c.stroke for c in pieces], weights=[c.length for c in pieces]))


def tile(values: NDArray[np.float32]) -> Image:
    """Grey values in the middle of a small square."""
    import cv2

    scale = (TILE - 4) / max(values.shape)
    size = [max(1, round(scale * side)) for side in values.shape[::-1]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    fitted = coloured(cv2.resize(values, size, interpolation=how))
    out = np.full((TILE, TILE, 3), 225, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = fitted
    return out


def beside(pictures: Sequence[Image]) -> Image:
    """Pictures from left to right, as high as the highest."""
    high = max(map(len, pictures))
    filled = [
        np.pad(picture, ((0, high - len(picture)), (0, 0), (0, 0)), constant_values=255)
        for picture in pictures
    ]
    return np.hstack([np.full((high, GAP, 3), 255, np.uint8), *filled])


def wide(row: Image) -> Image:
    """A row filled up to the sheet's width, or cut there."""
    row = row[:, :WIDTH]
    return np.pad(row, ((0, 0), (0, WIDTH - row.shape[1]), (0, 0)), constant_values=255)
