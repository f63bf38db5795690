"""Splits made here, and pictures that occur twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.data import Strings
from hwr.data.duplicates import compare, fingerprint, not_among, once
from hwr.data.split import divide
from hwr.errors import DataError

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_every_sample_has_one_split(labels: list[int], seed: int) -> None:
    parts = divide(labels, SHARES, seed=seed)
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == list(range(len(labels)))
    for label in set(labels):
        counts = {s: sum(labels[i] == label for i in part) for s, part in parts.items()}
        n = labels.count(label)
        assert counts["train"] >= 1
        for split in ("validation", "test"):
            assert abs(counts[split] - n * SHARES[split]) <= 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=80))
def test_a_group_stays_together(samples: list[tuple[int, int]]) -> None:
    labels = [label for label, _ in samples]
    groups = [f"{label}-{number}" for label, number in samples]
    parts = divide(labels, SHARES, groups=groups)
    sides = [{groups[i] for i in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set(groups))


def test_the_same_seed_gives_the_same_split() -> None:
    labels = np.arange(100) % 7
    first, again, other = (divide(labels, seed=seed)["test"].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_equal_pictures_count_once_and_contradictions_never() -> None:
    a, b, c = (np.full((2, 2), i, np.uint8) for i in range(3))
    labels = np.array([0, 0, 1, 2, 2])
    assert once([fingerprint(i) for i in (a, a, b, c, b)], labels).tolist() == [0, 3]
    assert not_among([a, b, c], [b]).tolist() == [0, 2]
    assert fingerprint(np.zeros((2, 3), np.uint8)) != fingerprint(np.zeros((3, 2), np.uint8))


def test_what_two_splits_share_is_found() -> None:
    a, b, c, d = (np.full((2, 2), i, np.uint8) for i in range(4))
    report = compare({"train": ([a, b, b, c], [0, 1, 1, 2]), "test": ([d, b, c], [3, 1, 7])})
    assert report.within == {"train": 1, "test": 0}
    assert report.across == {("train", "test"): ((1, 1), (3, 2))}
    assert report.contradictions == ((("train", 3), ("test", 2)),)


def lines(**changes: object) -> Strings:
    images = tuple(np.full((4, 5 + i), i, np.uint8) for i in range(3))
    values = {
        "name": "x", "split": "train", "images": images, "texts": ("ab", "b", ""),
        "alphabet": ("a", "b"), "groups": {"writer": np.array(["w", "v", "w"])},
    }  # fmt: skip
    return Strings(**{**values, **changes})  # type: ignore[arg-type]


def test_strings_have_labels_that_leave_zero_to_the_blank() -> None:
    data = lines()
    assert [label.tolist() for label in data.labels] == [[1, 2], [2], []]
    part = data.subset([2, 0]).subset([1])
    assert part.texts == ("ab",)
    assert part.images[0].shape == (4, 5)
    assert part.indices.tolist() == [0]
    assert part.groups["writer"].tolist() == ["w"]


def test_strings_check_themselves() -> None:
    box = np.zeros((1, 4), np.int64)
    for changes, message in [
        ({"texts": ("a", "b")}, "2 texts, expected 3"),
        ({"texts": ("a", "b", "c")}, "text 2 is 'c', but 'c' is none of the 2 symbols ab"),
        ({"images": (np.zeros((2, 2, 1), np.uint8),) * 3}, r"image 0 is uint8 \(2, 2, 1\)"),
        ({"images": (np.zeros((0, 2), np.uint8),) * 3}, r"image 0 is uint8 \(0, 2\)"),
        ({"groups": {"form": np.array(["f"])}}, "1 of kind 'form', expected 3"),
        ({"boxes": (box,)}, "boxes of 1 images, expected 3"),
        ({"boxes": (box, box, box)}, r"boxes 0 are \(1, 4\), expected \(2, 4\)"),
    ]:
        with pytest.raises(DataError, match=f"x train: {message}"):
            lines(**changes)
    with pytest.raises(DataError, match="indices run from 0 to 3, expected 0 to 2"):
        lines().subset([0, 3])
