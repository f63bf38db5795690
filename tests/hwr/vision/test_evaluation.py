"""Counting what became of the digits of labelled photographs."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwr.data import Dataset
from hwr.vision.evaluation import compare, edit_distance
from hwr.vision.synthetic import Scene, photograph

TEXT = st.text("0123", max_size=8)


def page(*digits: tuple[int, list[int]], refused: tuple[list[int], ...] = ()) -> dict[str, Any]:
    line = {"text": "".join(str(label) for label, _ in digits),
            "digits": [{"label": label, "box": box} for label, box in digits]}  # fmt: skip
    return {"lines": [line] if digits else [], "refused": [{"box": box} for box in refused]}


A, B, FAR = [10, 10, 20, 30], [40, 10, 20, 30], [200, 10, 20, 30]
TRUTH = {"rows": ["12"], "digits": [{"label": 1, "box": A}, {"label": 2, "box": B}]}


def test_found_and_misread() -> None:
    counts = compare(page((1, A), (7, B)), TRUTH, (300, 300))
    assert (counts.found, counts.misread, counts.edits, counts.exact) == (2, 1, 1, 0)
    assert compare(page((1, A), (2, B)), TRUTH, (300, 300)).exact == 1


def test_merged_split_refused_and_false() -> None:
    assert compare(page((4, [10, 10, 50, 30])), TRUTH, (300, 300)).merged >= 1
    halves = page((1, [10, 10, 20, 14]), (1, [10, 26, 20, 14]), (2, B))
    assert compare(halves, TRUTH, (300, 300)).split == 1
    assert compare(page((1, A), refused=(B,)), TRUTH, (300, 300)).refused == 1
    assert compare(page((1, A), (2, B), (3, FAR)), TRUTH, (300, 300)).false == 1


def test_boxes_of_pages_that_lie_on_their_side() -> None:
    turned = {**TRUTH, "rotate_to_read": "ccw"}  # x, y after turning -> 300 - y - h, x before
    seen = page((1, [260, 10, 30, 20]), (2, [260, 40, 30, 20]))
    assert compare(seen, turned, (400, 300)).found == 2


@given(TEXT, TEXT, TEXT)
def test_the_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_the_command(cli, tmp_path: Path, mnist_test: Dataset) -> None:
    drawn = photograph(Scene(rows=(4, 5)), mnist_test, np.random.default_rng(1))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), drawn.image)
    labels = tmp_path / "photos" / "labels.json"
    labels.write_text(json.dumps({"a.png": drawn.truth}))
    run = cli("evaluate", "--photos", "photos")
    assert run.code == 0
    assert "digits found, where boxes are known" in run.out
    assert "P0 reports 99 of 100" in run.out
    values = json.loads(cli("evaluate", "--photos", "photos", "--json").out)
    assert values["counts"]["digits"] == 9
    assert values["digit_accuracy_interval"][0] <= values["digit_accuracy"]


def test_bad_folders(cli, tmp_path: Path) -> None:
    assert "there is no such folder" in cli("evaluate", "--photos", "nowhere").err
    assert "name a run folder" in cli("evaluate").err
    (tmp_path / "bare").mkdir()
    assert "error: cannot read bare/labels.json" in cli("evaluate", "--photos", "bare").err
    for text, words in (
        ("{", "not JSON"), ("[]", "expected an object"), ('{"a.png": {}}', 'lacks "rows"'),
        ('{"a.png": {"rows": ["1"]}}', "names a.png, which is neither there nor in images/"),
    ):  # fmt: skip
        (tmp_path / "labels.json").write_text(text)
        run = cli("evaluate", "--photos", ".")
        assert run.code == 2
        assert words in run.err
