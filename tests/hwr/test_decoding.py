"""What a CTC output reads as, against every path there is."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.decoding import beam_search, collapse, greedy


def labellings(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of everything that (T, C) can read as."""
    steps, classes = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        read = tuple(sign for sign, _ in itertools.groupby(path) if sign != blank)
        p = math.exp(sum(log_probs[t, sign] for t, sign in enumerate(path)))
        found[read] = found.get(read, 0) + p
    return found


@given(st.integers(1, 5), st.integers(2, 3), st.integers(0, 10**6), st.data())
def test_a_beam_of_full_width_finds_the_most_probable_labellings(
    steps: int, classes: int, seed: int, data: st.DataObject
) -> None:
    blank = data.draw(st.integers(0, classes - 1))
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(classes), steps))
    truth = labellings(log_probs, blank)
    found = beam_search(log_probs, None, len(truth) + 1, blank)
    assert {labels for labels, _ in found} == truth.keys()
    for labels, score in found:
        assert math.exp(score) == pytest.approx(truth[labels], rel=1e-9)
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert sum(map(math.exp, scores)) == pytest.approx(1)
    assert beam_search(log_probs, None, 1, blank) == found[:1]
    narrow = beam_search(log_probs, 2, 2, blank)
    assert len(narrow) == min(2, len(truth))
    for labels, score in narrow:  # what a narrow beam has lost can only be missing
        assert score <= math.log(truth[labels]) + 1e-9


def test_the_most_probable_labelling_is_not_that_of_the_most_probable_path() -> None:
    probs = np.array([[0.6, 0.4], [0.6, 0.4]])  # nothing .36; 1 by three paths .64
    assert greedy(np.log(probs)[:, None]) == [()]
    ((labels, score),) = beam_search(np.log(probs))
    assert labels == (1,)
    assert math.exp(score) == pytest.approx(0.64)


@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 2), st.integers(0, 99))
def test_greedy_is_the_reading_of_the_best_path(n: int, steps: int, blank: int, seed: int) -> None:
    log_probs = np.random.default_rng(seed).normal(size=(steps, n, 3))
    expected = [
        tuple(sign for sign, _ in itertools.groupby(path) if sign != blank)
        for path in log_probs.argmax(2).T.tolist()
    ]
    assert greedy(log_probs, blank) == expected


def test_repeats_are_merged_unless_a_blank_is_between() -> None:
    paths = np.array([[1, 1, 2, 2, 2], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 2, 1, 2, 0]])
    assert collapse(paths) == [(1, 2), (1, 1), (), (2, 1, 2)]
    assert collapse(paths, blank=1) == [(2,), (0, 0), (0,), (0, 2, 2, 0)]


def test_what_cannot_be_is_not_found() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert beam_search(log_probs, None, 9) == [((1, 1), 0.0)]


@pytest.mark.parametrize("width", [0, -1])
def test_a_beam_has_a_width(width: int) -> None:
    with pytest.raises(ValueError, match=rf"width and top_k of 1 or more, not \(2, 3\), {width}"):
        beam_search(np.zeros((2, 3)), width)
    with pytest.raises(ValueError, match=r"needs log_probs \(T, C\)"):
        beam_search(np.zeros((2, 3, 1)))
