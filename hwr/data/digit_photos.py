"""Photographs of pages of digits, a line of digits an image, each with its writer and its photo.

labels.json has for each picture: the rows' digits, whom it is taken to be by, how the page is to be
turned, and a box and label for every digit whose place is known.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data import images as pictures
from hwr.data.archive import Files
from hwr.data.arrays import DIGITS
from hwr.data.catalogue import register
from hwr.data.split import divide
from hwr.data.strings import Strings
from hwr.errors import DataError

SHARES = {"train": 0.6, "test": 0.4}  # so that a writer of two photographs has one on each side
MARGIN = 0.15  # of the line's height, around its digits
TURNS = {None: 0, "ccw": 1, "cw": -1, "180": 2}  # quarter turns counter-clockwise
Boxes = NDArray[np.int64]


def load(by: str, split: str, folder: Path) -> Strings:
    """The lines whose digits all have a box; `by` "photo" keeps those of a photograph together."""
    files = Files("digit-photos", folder)
    path = files.require("labels.json")
    try:
        table = json.loads(files.read(path))
        rows = [
            (name, entry["writer_id_guess"], entry["rotate_to_read"], text, boxes)
            for name, entry in table.items()
            for text, boxes in lines_of(entry)
        ]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DataError(
            f"digit-photos: {folder / path} is not name: rows, writer_id_guess, rotate_to_read, "
            f"digits of label, row and box x, y, w, h ({type(error).__name__}: {error})"
        ) from None
    photos = np.array([row[0] for row in rows])
    writers = np.array([row[1] for row in rows])
    chosen = divide(writers, SHARES, groups=photos if by == "photo" else None)[split]
    names = sorted(set(photos[chosen].tolist()))
    read = pictures.read(files, [files.require(f"images/{name}") for name in names])
    shown = {name: 255 - image for name, image in zip(names, read)}
    lines = []
    for i in chosen.tolist():
        name, _, turn, _, boxes = rows[i]
        if turn not in TURNS:
            raise DataError(
                f"digit-photos: {folder / path} turns {name} {turn!r}, expected null, ccw, cw, 180"
            )
        lines.append(cut_line(np.rot90(shown[name], TURNS[turn]), boxes, name))
    return Strings(
        "digit-photos" if by == "photo" else "digit-photos-paper",
        split,
        tuple(lines),
        tuple(rows[i][3] for i in chosen),
        DIGITS,
        groups={"writer": writers[chosen], "photo": photos[chosen]},
        note=NOTES[by],
    )


def lines_of(entry: dict[str, Any]) -> list[tuple[str, Boxes]]:
    """The digits and boxes (L, 4) of the rows of a photograph that are boxed in full."""
    found = []
    for number, text in enumerate(entry["rows"]):
        digits = [digit for digit in entry["digits"] or [] if digit["row"] == number]
        if digits and len(digits) == len(text):
            found.append((text, np.array([digit["box"] for digit in digits], np.int64)))
    return found


def cut_line(page: NDArray[np.uint8], boxes: Boxes, name: str) -> NDArray[np.uint8]:
    """The part of a page with these boxes and a margin, its paper taken away."""
    left, top = boxes[:, :2].min(0)
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(0)
    h, w = page.shape
    if min(left, top) < 0 or right > w or bottom > h or (boxes[:, 2:] < 1).any():
        raise DataError(f"digit-photos: a box lies outside {name} of {h} x {w} pixels")
    margin = round(MARGIN * int(bottom - top))
    rows = slice(max(0, top - margin), bottom + margin)
    return pictures.ink(page[rows, max(0, left - margin) : right + margin])


CAVEAT = "writers as guessed from where the photographs come from; each has his own camera and pen"
NOTES = {
    "photo": f"{CAVEAT}; split made here, by photographs",
    "line": f"{CAVEAT}; split made here, by lines: photographs stand on both sides",
}
for _name, _by in (("digit-photos", "photo"), ("digit-photos-paper", "line")):
    register(
        name=_name,
        title=f"photographed lines of digits, divided by {_by}s",
        kind="strings",
        splits=dict.fromkeys(SHARES),
        classes=10,
        size="as photographed",
        licence="MIT, Apache-2.0 and none stated, by source",
        source="https://github.com/HYPJUDY and others, named in labels.json",
        layout="labels.json and images/",
        marker=("labels.json",),
        folder="digit-photos",
        obtain="photograph pages of digits and label them in the same form",
        note=NOTES[_by],
    )(partial(load, _by))
