"""Lines printed on the paper go, whatever they are for; strokes over them stay."""

import cv2
import numpy as np
import pytest

from hwr.vision.parameters import Parameters
from hwr.vision.ruling import find_ruling

P = Parameters()
SHAPE = 400, 600


def blank() -> np.ndarray:
    return np.zeros(SHAPE, np.uint8)


def strokes() -> np.ndarray:
    """Two that cross the lines, and one along a line."""
    drawn = blank()
    cv2.line(drawn, (250, 150), (280, 260), 1, 6)
    cv2.circle(drawn, (400, 210), 40, 1, 6)
    cv2.line(drawn, (120, 201), (160, 202), 1, 6)
    return drawn


def darkness(*layers: tuple[np.ndarray, float]) -> np.ndarray:
    return np.max([mask * np.float32(dark) for mask, dark in layers], axis=0)


def ruled(pitch: int) -> np.ndarray:
    lines = blank()
    for y in range(pitch, 390, pitch):
        cv2.line(lines, (0, y), (599, y + 8), 1, 2)
    return lines


def squared(pitch: int) -> np.ndarray:
    lines = ruled(pitch)
    for x in range(pitch, 590, pitch):
        cv2.line(lines, (x, 0), (x - 6, 399), 1, 2)
    return lines


@pytest.mark.parametrize("lines", [ruled(100), squared(100), squared(28), squared(20)])
@pytest.mark.parametrize("dark", [0.3, 0.8])
def test_ruling_goes_and_what_crosses_it_stays(lines: np.ndarray, dark: float) -> None:
    drawn = strokes()
    found = find_ruling(lines | drawn, darkness((lines, dark), (drawn, 0.8)), P)
    assert found[(lines > 0) & (drawn == 0)].mean() > 0.9
    crossing = drawn.copy()
    crossing[:, :200] = 0
    if dark == 0.3:  # lighter than the pen: even a stroke along a line stays
        assert found[drawn > 0].mean() < 0.1
    elif lines.mean() < 0.05:
        assert found[crossing > 0].mean() < 0.1


def test_lines_of_a_curved_page_go() -> None:
    lines = blank()
    x = np.arange(600)
    for y in (80, 180, 280):
        curve = np.stack([x, y + 14 * np.sin(x / 190)], 1)
        cv2.polylines(lines, [np.int32(curve)], False, 1, 2)
    assert find_ruling(lines, darkness((lines, 0.5)), P)[lines > 0].mean() > 0.9


def test_digits_without_ruling_keep_their_straight_strokes() -> None:
    ink = blank()
    cv2.line(ink, (100, 60), (300, 60), 1, 5)  # a large 7
    cv2.line(ink, (300, 60), (160, 340), 1, 5)
    for x in (360, 420, 480, 540):  # as large 1s
        cv2.line(ink, (x, 60), (x, 330), 1, 5)
    assert not find_ruling(ink, darkness((ink, 0.8)), P).any()


@pytest.mark.parametrize("gap", [0, 8, 40])
def test_boxes_of_a_form_go_and_what_stands_in_them_stays(gap: int) -> None:
    form, inside = blank(), blank()
    for k in range(5):
        x = 40 + k * (70 + gap)
        cv2.rectangle(form, (x, 150), (x + 70, 220), 1, 2)
        cv2.line(inside, (x + 40, 165), (x + 30, 205), 1, 5)
    found = find_ruling(form | inside, darkness((form | inside, 0.8)), P)
    assert found[form > 0].mean() > 0.95
    assert not found[inside > 0].any()


def test_a_zero_around_a_dot_is_no_box() -> None:
    ink = blank()
    for x in (100, 200, 300):
        cv2.ellipse(ink, (x, 200), (30, 45), 10, 0, 360, 1, 5)
        cv2.line(ink, (x, 185), (x, 215), 1, 5)
    assert not find_ruling(ink, darkness((ink, 0.8)), P).any()


def test_ones_between_ruling_lines_are_no_boxes() -> None:
    lines, ones = ruled(50), blank()
    for k, lean in enumerate((18, 4, 12)):
        cv2.line(ones, (100 + 60 * k + lean, 103), (100 + 60 * k, 149), 1, 5)
    found = find_ruling(lines | ones, darkness((lines, 0.4), (ones, 0.8)), P)
    assert found[ones > 0].mean() < 0.1
