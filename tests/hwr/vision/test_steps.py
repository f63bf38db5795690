"""Each step of the way from a photograph to 28x28, by itself."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.data import Dataset
from hwr.errors import UserError
from hwr.vision.candidates import candidates_of
from hwr.vision.components import find_components, weighted_median
from hwr.vision.ink import find_ink
from hwr.vision.lines import group_lines, skew_deg
from hwr.vision.normalise import mend_stroke, stroke_width, to_mnist
from hwr.vision.orient import turn
from hwr.vision.page import view_page
from hwr.vision.parameters import Parameters
from hwr.vision.threshold import binarise, otsu

P = Parameters()


def test_mnist_digits_are_normalised_to_themselves(mnist_test: Dataset) -> None:
    same = []
    for image in mnist_test.images[:300, :, :, 0]:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        whole = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if sum(whole.shape) % 2:  # its scan stood half a pixel further to one side
            continue
        large = cv2.resize(whole, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
        again = to_mnist(large, faint=0)
        same.append(np.abs(again.astype(int) - image).mean() < 2)
    assert len(same) > 200
    assert np.mean(same) > 0.98


def test_no_ink_is_no_digit() -> None:
    assert not to_mnist(np.zeros((9, 5), np.float32)).any()


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 200))
def test_any_ink_becomes_28_by_28_with_a_strongest_pixel_of_255(
    h: int, w: int, strength: float
) -> None:
    image = to_mnist(np.full((h, w), strength, np.float32))
    assert image.shape == (28, 28)
    assert image.max() == 255
    assert not image[[0, -1]].any()


@pytest.mark.parametrize("width", [2, 4, 7, 12])
def test_stroke_width_is_measured(width: int) -> None:
    mask = np.zeros((120, 60), np.uint8)
    mask[10:110, 20 : 20 + width] = 1
    assert stroke_width(mask) == pytest.approx(width, rel=0.25)


@pytest.mark.parametrize(("width", "grows"), [(1, 1), (6, 0), (22, -1)])
def test_only_strokes_outside_the_limits_are_mended(width: int, grows: int) -> None:
    ink = np.zeros((100, 50), np.float32)
    ink[:, 20 : 20 + width] = 1
    ink[::99] = 1
    before, after = width, (mend_stroke(ink, width) > 0.5)[60].sum()
    assert np.sign(int(after) - before) == grows


@pytest.mark.parametrize("dark", [True, False])
def test_ink_is_found_on_light_and_on_dark_paper(dark: bool) -> None:
    page = np.full((300, 400, 3), 200 if dark else 50, np.uint8)
    cv2.line(page, (100, 80), (300, 200), (30, 30, 30) if dark else (230, 230, 230), 5)
    ink = find_ink(page, np.ones(page.shape[:2], np.uint8), P)
    assert ink.dark_on_light == dark
    assert ink.darkness[140, 200] > 0.4
    assert ink.darkness[20, 20] < 0.02


def test_uneven_light_is_no_ink() -> None:
    light = np.linspace(80, 230, 400)[None, :, None]
    page = np.broadcast_to(light, (300, 400, 3)).astype(np.uint8)
    ink = find_ink(page, np.ones(page.shape[:2], np.uint8), P)
    assert ink.darkness.max() < 0.1


def test_otsu_parts_two_groups() -> None:
    values = np.r_[np.full(500, 0.1), np.full(40, 0.8)].astype(np.float32)
    assert 0.1 <= otsu(values) < 0.8


@pytest.mark.parametrize("rule", ["hysteresis", "otsu", "adaptive", "sauvola"])
def test_each_threshold_finds_the_stroke(rule: str) -> None:
    page = np.full((300, 400, 3), 200, np.uint8)
    cv2.line(page, (100, 150), (300, 150), (40, 40, 40), 5)
    mask = np.ones(page.shape[:2], np.uint8)
    p = Parameters(threshold=rule)
    found = binarise(find_ink(page, mask, p), mask, p).strong
    assert found[148:153, 120:280].mean() > 0.6
    assert found[:100].mean() < 0.02


def test_an_unknown_threshold_is_refused() -> None:
    page = np.full((60, 60, 3), 200, np.uint8)
    mask = np.ones((60, 60), np.uint8)
    p = Parameters(threshold="otsy")
    with pytest.raises(UserError, match="did you mean 'otsu'"):
        binarise(find_ink(page, mask, p), mask, p)


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((400, 600), np.uint8)
    for x, y, w, h in corners:
        cv2.rectangle(mask, (x, y), (x + w, y + h), 1, 3)
    return mask


def test_lines_follow_a_curved_page() -> None:
    rows = [[(30 + 60 * i, 60 + 110 * row + 2 * i * i, 24, 40) for i in range(8)] for row in (0, 1)]
    mask = boxes(*rows[0], *rows[1])
    lines, lone = group_lines(find_components(mask, mask.astype(np.float32), P), P)
    assert [len(line.members) for line in lines] == [8, 8]
    assert not lone


def test_a_small_zero_stays_in_its_line() -> None:
    mask = boxes((50, 100, 30, 60), (110, 130, 20, 20), (150, 100, 30, 60), (210, 100, 30, 60))
    lines, _ = group_lines(find_components(mask, mask.astype(np.float32), P), P)
    assert [len(line.members) for line in lines] == [4]


def test_a_component_may_be_one_digit_into_however_many_pieces_it_was_cut() -> None:
    [zero] = find_components(boxes((100, 100, 30, 50)), np.full((400, 600), 0.6, np.float32), P)
    pieces = [replace(zero, x=zero.x + 4 * i) for i in range(P.pieces + 2)]
    ink = np.full((400, 600), 0.6, np.float32)
    found = candidates_of(pieces, 50.0, ink, np.ones((400, 600), np.uint8), P)
    assert (0, len(pieces)) in [(c.start, c.stop) for c in found]


@pytest.mark.parametrize("slant", [-12.0, 0.0, 9.0])
def test_the_slant_of_lines_is_measured(slant: float) -> None:
    fall = np.tan(np.radians(slant))
    rows = [(40 + 55 * i, int(150 + 90 * r + 55 * i * fall), 22, 36)
            for r in (0, 1) for i in range(9)]  # fmt: skip
    mask = boxes(*rows)
    found = skew_deg(find_components(mask, mask.astype(np.float32), P), P)
    assert found == pytest.approx(slant, abs=1.5)


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 270.0, 17.0])
def test_points_are_followed_when_ink_is_turned(angle: float) -> None:
    mask = np.zeros((60, 100), np.uint8)
    mask[10:14, 80:84] = 1
    turned = turn(mask.astype(np.float32), mask, angle)
    y, x = np.argwhere(turned.mask > 0).mean(0) + 0.5
    there = turned.from_view @ [82, 12, 1]
    assert there[:2] == pytest.approx([x, y], abs=1)


def test_a_sheet_on_a_desk_is_rectified() -> None:
    photo = np.full((600, 800, 3), 40, np.uint8)
    corners = np.array([[150, 90], [640, 130], [600, 520], [170, 480]], np.int32)
    cv2.fillPoly(photo, [corners], (225, 228, 230))
    view = view_page(photo, P, 700)
    assert view.is_sheet
    assert view.is_whole
    moved = cv2.perspectiveTransform(corners[None].astype(float), view.to_view)[0]
    h, w = view.mask.shape
    assert np.abs(moved - [[0, 0], [w, 0], [w, h], [0, h]]).max() < 0.04 * max(h, w)
    assert view.image.mean() > 200


def test_a_page_that_fills_the_photograph_is_no_sheet() -> None:
    assert not view_page(np.full((300, 400, 3), 210, np.uint8), P, 700).is_sheet


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_the_weighted_median_of_equal_weights_is_one_of_the_middle_values(
    values: list[int],
) -> None:
    found = weighted_median(values, np.ones(len(values)))
    assert np.sum(np.array(values) <= found) * 2 >= len(values)
    assert np.sum(np.array(values) >= found) * 2 >= len(values)
