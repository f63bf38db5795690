"""Intervals for accuracies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.statistics import describe_accuracy, wilson_interval

Counts = tuple[int, int]


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    total = draw(st.integers(1, 10**6))
    return draw(st.integers(0, total)), total


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(correct: int, total: int, low: float, high: float) -> None:
    # Source: Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(counts())
def test_the_interval_is_a_range_of_proportions_around_the_observed_one(counts: Counts) -> None:
    correct, total = counts
    low, high = wilson_interval(correct, total)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= correct / total <= high + 1e-12


@given(counts())
def test_its_ends_are_where_the_observation_is_z_deviations_away(counts: Counts) -> None:
    correct, total = counts
    for end in wilson_interval(correct, total, z=1.5):
        if 0 < end < 1:
            distance = (correct / total - end) ** 2
            assert distance == pytest.approx(2.25 * end * (1 - end) / total, rel=1e-6, abs=1e-18)


@given(counts())
def test_errors_have_the_mirrored_interval(counts: Counts) -> None:
    correct, total = counts
    low, high = wilson_interval(total - correct, total)
    assert wilson_interval(correct, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(counts(), st.integers(2, 100))
def test_more_images_narrow_it(counts: Counts, factor: int) -> None:
    correct, total = counts
    low, high = wilson_interval(correct, total)
    narrow = wilson_interval(correct * factor, total * factor)
    assert narrow[1] - narrow[0] < high - low


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_what_is_no_proportion_is_refused(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} of {total} is not a proportion"):
        wilson_interval(correct, total)


def test_the_words() -> None:
    assert describe_accuracy(9912, 10_000) == (
        "99.12 % (95 % interval 98.92 to 99.29 %; 9,912 of 10,000)"
    )
