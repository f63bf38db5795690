"""Photographs drawn with known numbers are read; pages without numbers give none."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hwr.data import Dataset, pen
from hwr.errors import UserError
from hwr.vision import Parameters, Reader
from hwr.vision.evaluation import compare, evaluate_photos, overlap
from hwr.vision.photograph import Image
from hwr.vision.synthetic import Scene, photograph

PAGE = (205, 214, 219)  # grey levels of paper: blue, green, red

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


def paper() -> Image:
    rng = np.random.default_rng(0)
    return np.clip(PAGE + rng.normal(0, 3, (900, 700, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", SCENES)
def test_numbers_are_read_in_any_light_on_any_paper(
    reader: Reader, mnist_test: Dataset, name: str
) -> None:
    drawn = photograph(SCENES[name], mnist_test, np.random.default_rng(7))
    counts = compare(reader.read(drawn.image), drawn.truth, drawn.image.shape[:2])
    assert counts.edits <= 0.13 * counts.digits, counts  # MNIST's own digits are not all legible
    assert counts.found >= counts.boxes - 1, counts
    assert counts.false <= 1, counts


def test_boxes_lie_around_the_digits_of_the_original(reader: Reader, mnist_test: Dataset) -> None:
    scene = Scene(desk=True, turn_deg=15, digit=60)
    drawn = photograph(scene, mnist_test, np.random.default_rng(3))
    page = reader.read(drawn.image)
    assert page["sheet"]
    read = [digit["box"] for line in page["lines"] for digit in line["digits"]]
    best = [max(overlap(box, true) for box in read) for true in drawn.boxes]
    assert np.median(best) > 0.6  # the known boxes are those of turned boxes, and larger


def test_lines_are_printed_from_top_to_bottom(reader: Reader, mnist_test: Dataset) -> None:
    drawn = photograph(Scene(rows=(3, 6, 4, 5)), mnist_test, np.random.default_rng(2))
    page = reader.read(drawn.image)
    assert [len(line["text"]) for line in page["lines"]] == [3, 6, 4, 5]
    for line in page["lines"]:
        left = [digit["box"][0] for digit in line["digits"]]
        assert left == sorted(left)
        assert line["text"] == "".join(str(digit["label"]) for digit in line["digits"])


def smudged() -> Image:
    page, rng = paper().astype(np.float32), np.random.default_rng(1)
    for _ in range(12):
        spot = np.zeros(page.shape[:2], np.float32)
        middle, size = rng.integers(80, 620, 2).tolist(), rng.integers(6, 40, 2).tolist()
        cv2.ellipse(spot, middle, size, int(rng.integers(180)), 0, 360, 1, -1)
        page -= cv2.GaussianBlur(spot, (0, 0), rng.uniform(1, 8))[..., None] * rng.uniform(40, 150)
    return np.clip(page, 0, 255).astype(np.uint8)


def shaded() -> Image:
    return (paper() * np.linspace(1, 0.35, 700)[None, :, None]).astype(np.uint8)


def signs() -> Image:
    page, rng = paper().astype(np.float32), np.random.default_rng(4)
    for row in range(4):
        for column in range(6):
            glyph = cv2.resize(pen.sign(rng), (90, 90), interpolation=cv2.INTER_AREA) / 255
            y, x = 60 + 190 * row, 60 + 95 * column
            page[y : y + 90, x : x + 90] *= 1 - 0.8 * glyph[..., None]
    return page.astype(np.uint8)


@pytest.mark.parametrize("make", [paper, shaded, smudged], ids=lambda make: make.__name__)
def test_nothing_is_read_where_nothing_is_written(reader: Reader, make) -> None:
    assert reader.read(make())["lines"] == []


def test_ruled_paper_alone_gives_nothing(reader: Reader, mnist_test: Dataset) -> None:
    rng = np.random.default_rng(0)
    for ruling in ("lines", "squares"):
        drawn = photograph(Scene(rows=(), ruling=ruling), mnist_test, rng)
        assert reader.read(drawn.image)["lines"] == []


def test_letters_are_refused_and_the_reason_given(reader: Reader) -> None:
    page = reader.read(signs())
    assert sum(len(line["text"]) for line in page["lines"]) <= 2  # of 24 signs
    assert len(page["refused"]) >= 12
    assert all(mark["reason"] for mark in page["refused"])


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (40, 3, 3), (30, 30, 3)])
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


def test_the_same_photograph_gives_the_same_result(reader: Reader, mnist_test: Dataset) -> None:
    drawn = photograph(Scene(), mnist_test, np.random.default_rng(9))
    before = drawn.image.copy()
    assert reader.read(drawn.image) == reader.read(drawn.image)
    assert (drawn.image == before).all()


def test_mnist_rule_beats_the_stretched_box(mnist_test: Dataset, reader: Reader) -> None:
    stretched = Reader(reader.classifier, replace(Parameters(), normalise="stretch"))
    right = []
    for each in (reader, stretched):
        drawn = photograph(Scene(), mnist_test, np.random.default_rng(1))
        right.append(compare(each.read(drawn.image), drawn.truth, drawn.image.shape[:2]).right)
    assert right[0] > right[1]


@pytest.mark.slow
def test_real_photographs(reader: Reader, real_photos) -> None:
    total = evaluate_photos(reader, real_photos).total
    assert total.right >= 0.94 * total.digits, total
    assert total.found >= 0.95 * total.boxes, total
    assert total.false <= 0.02 * total.boxes, total
