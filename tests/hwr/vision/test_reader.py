"""Photographs drawn with known numbers are read; pages without numbers give none."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from hwr.data import Dataset
from hwr.errors import UserError
from hwr.vision import Parameters, Reader, blank
from hwr.vision.evaluation import Counts, compare, evaluate_photos, overlap
from hwr.vision.synthetic import Drawn, Scene, photograph

SCENES = {
    "plain": Scene(),
    "ballpoint": Scene(digit=60, pen=-3, ink=(0.45, 0.3, 0.3)),
    "felt tip": Scene(pen=5),
    "pencil": Scene(ink=(0.62, 0.62, 0.62), pen=-1.5, noise=0.02),
    "three large ones": Scene(rows=(3,), digit=260, pen=10),
    "uneven light": Scene(light=0.7),
    "hard shadow": Scene(shadow=0.55),
    "ruled paper": Scene(ruling="lines", turn_deg=1),
    "squared paper": Scene(ruling="squares", turn_deg=-3),
    "dark lines": Scene(ruling="lines", lines=(0.5, 0.5, 0.5), turn_deg=2),
    "dark squares": Scene(ruling="squares", lines=(0.3, 0.3, 0.3), turn_deg=1.5),
    "noise": Scene(noise=0.05),
    "blur": Scene(blur=2),
    "poor jpeg": Scene(jpeg=25),
    "slanted": Scene(turn_deg=6),
    "on its side": Scene(turn_deg=90),
    "on a desk": Scene(desk=True, turn_deg=12),
    "bleed-through": Scene(bleed=0.25),
    "blackboard": Scene(ink=(0.85, 0.85, 0.85), paper=(0.2, 0.25, 0.2)),
    "all at once": Scene(desk=True, ruling="lines", light=0.4, shadow=0.35, noise=0.02, jpeg=60,
                         turn_deg=-4),
}  # fmt: skip


STRETCHED = replace(Parameters(), normalise="stretch")
Seen = tuple[Drawn, dict[str, Any]]


@pytest.fixture(scope="module")
def seen(reader: Reader, mnist_test: Dataset) -> Callable[[str], Seen]:
    """A scene by its name, photographed and read once for all tests."""

    @cache
    def read(name: str) -> Seen:
        drawn = photograph(SCENES[name], mnist_test, np.random.default_rng([1, 7]))
        return drawn, reader.read(drawn.image)

    return read


def counted(drawn: Drawn, page: dict[str, Any]) -> Counts:
    return compare(page, drawn.truth, drawn.image.shape[:2])


@pytest.mark.parametrize("name", SCENES)
def test_numbers_are_read_in_any_light_on_any_paper(seen: Callable[[str], Seen], name: str) -> None:
    counts = counted(*seen(name))
    assert counts.edits <= 0.07 * counts.digits, counts  # MNIST's own digits are not all legible
    assert counts.found >= 0.93 * counts.boxes, counts
    assert counts.false <= 0.04 * counts.boxes, counts


def test_boxes_lie_around_the_digits_of_the_original(seen: Callable[[str], Seen]) -> None:
    drawn, page = seen("on a desk")
    assert page["sheet"]
    read = [digit["box"] for line in page["lines"] for digit in line["digits"]]
    best = [max(overlap(box, true) for box in read) for true in drawn.boxes]
    assert np.median(best) > 0.7


def test_lines_are_printed_from_top_to_bottom(seen: Callable[[str], Seen]) -> None:
    drawn, page = seen("plain")
    assert [len(line["text"]) for line in page["lines"]] == list(map(len, drawn.rows))
    for line in page["lines"]:
        left = [digit["box"][0] for digit in line["digits"]]
        assert left == sorted(left)
        assert line["text"] == "".join(str(digit["label"]) for digit in line["digits"])


@pytest.mark.parametrize("kind", blank.KINDS)
def test_nothing_is_read_where_no_number_stands(reader: Reader, kind: str) -> None:
    page = reader.read(blank.page(kind, np.random.default_rng(0)))
    assert page["lines"] == []
    assert all(mark["reason"] for mark in page["refused"])


def test_numbers_are_read_beside_words(reader: Reader, mnist_test: Dataset) -> None:
    drawn = photograph(Scene(), mnist_test, np.random.default_rng([1, 7]))
    beside = cv2.copyMakeBorder(drawn.image, 0, 0, 0, 420, cv2.BORDER_REPLICATE)
    for y, word in zip((75, 160, 245), ("metre", "name", "week")):
        at = drawn.image.shape[1] + 20, y
        cv2.putText(beside, word, at, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, 2, (60, 50, 50), 4)
    read = [line["text"] for line in reader.read(beside)["lines"]]
    assert read == [line["text"] for line in reader.read(drawn.image)["lines"]]


def test_a_picture_of_one_digit_is_read(reader: Reader, mnist_test: Dataset) -> None:
    right, overlaps = 0, []
    for image, label in zip(mnist_test.images[:20, :, :, 0], mnist_test.labels):
        large = 255 - cv2.resize(image, None, fx=10, fy=10, interpolation=cv2.INTER_CUBIC)
        lines = reader.read(large[..., None].repeat(3, 2))["lines"]
        if [line["text"] for line in lines] == [str(label)]:
            right += 1
            box = lines[0]["digits"][0]["box"]
            overlaps.append(overlap(tuple(box), cv2.boundingRect(255 - large)))
    assert right >= 17
    assert np.median(overlaps) > 0.7


def test_a_halftone_reads_as_the_photograph_does(
    reader: Reader, seen: Callable[[str], Seen]
) -> None:
    drawn, page = seen("plain")
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8
    grey = cv2.cvtColor(drawn.image, cv2.COLOR_BGR2GRAY)
    h, w = grey.shape
    dots = 255 * (grey > np.tile(bayer, (h // 4 + 1, w // 4 + 1))[:h, :w]).astype(np.uint8)
    read = reader.read(dots[..., None].repeat(3, 2))
    assert [line["text"] for line in read["lines"]] == [line["text"] for line in page["lines"]]


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (40, 3, 3), (30, 30, 3), (1, 60_000, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_tiny_and_empty_pictures_give_nothing(
    reader: Reader, shape: tuple[int, int, int], level: int
) -> None:
    assert reader.read(np.full(shape, level, np.uint8))["lines"] == []


def test_random_noise_gives_no_line_of_digits(reader: Reader) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert sum(len(line["text"]) for line in reader.read(noise)["lines"]) <= 1


@pytest.mark.parametrize("array", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_other_arrays_are_refused(reader: Reader, array: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected uint8"):
        reader.read(array)


def test_the_same_photograph_gives_the_same_result(
    reader: Reader, seen: Callable[[str], Seen]
) -> None:
    drawn, page = seen("plain")
    before = drawn.image.copy()
    assert reader.read(drawn.image) == page
    assert (drawn.image == before).all()


def test_mnist_rule_beats_the_stretched_box(reader: Reader, seen: Callable[[str], Seen]) -> None:
    stretched = Reader(reader.classifier, STRETCHED)
    by_rule = worse = digits = 0
    for name in ("plain", "ballpoint", "noise", "poor jpeg"):
        drawn, page = seen(name)
        by_rule += counted(drawn, page).right
        worse += counted(drawn, stretched.read(drawn.image)).right
        digits += len("".join(drawn.rows))
    assert by_rule > worse + 0.05 * digits


@pytest.mark.slow
def test_real_photographs(reader: Reader, real_photos) -> None:
    total = evaluate_photos(reader, real_photos).total
    assert total.right >= 0.94 * total.digits, total
    assert total.found >= 0.95 * total.boxes, total
    assert total.false <= 0.02 * total.boxes, total
