"""The picture of a read photograph."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from hwr.vision.draw import annotated


def digit(box: list[int]) -> dict[str, Any]:
    return {"label": 8, "box": box, "probability": 0.9, "unsure": False}


def drawn(boxes: list[list[int]]) -> np.ndarray:
    """Where the picture of an empty page, with one digit a line, is no longer white."""
    page = {"refused": [], "lines": [{"digits": [digit(box)]} for box in boxes]}
    png = annotated(np.full((400, 400, 3), 255, np.uint8), page)
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) < 250


def test_labels_stand_above() -> None:
    marks = drawn([[200, 200, 40, 50]])
    assert marks[165:195, 190:260].any()
    assert not marks[205:245, 205:235].any()  # nothing in the box


def test_labels_do_not_cover_the_digit_above() -> None:
    marks = drawn([[200, 50 + 54 * i, 40, 50] for i in range(6)])
    for i in range(6):
        assert not marks[55 + 54 * i : 95 + 54 * i, 205:235].any()
    assert marks[110:370, 245:320].any()  # they stand beside


def test_labels_are_inside_the_picture() -> None:
    """No room above or beside: in the box."""
    assert drawn([[3, 3, 394, 394]])[10:390, 10:390].any()
