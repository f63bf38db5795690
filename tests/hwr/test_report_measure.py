"""What reports measure on readings: against definitions written out, and known cases."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwr.data
from hwr.data import mnist
from hwr.readings import Readings
from hwr.report import measure


def made(probabilities: list[list[float]], labels: list[int]) -> Readings:
    """Readings with these probabilities."""
    with np.errstate(divide="ignore"):
        return Readings(np.log(np.float32(probabilities)), np.array(labels))


@st.composite
def readings(draw: st.DrawFn) -> Readings:
    """Readings of some images in some classes, as a softmax makes them."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = draw(st.sampled_from([0.1, 3.0, 50.0])) * rng.standard_normal((n, classes))
    logits -= logits.max(1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return Readings(log_probabilities.astype(np.float32), rng.integers(0, classes, n))


@given(readings())
def test_scores_follow_their_definitions(read: Readings) -> None:
    names = [f"class {i}" for i in range(read.log_probabilities.shape[1])]
    pairs = list(zip(read.labels.tolist(), read.predictions.tolist()))
    assert read.confusion.sum() == len(read)
    assert read.confusion.trace() == read.right.sum()
    for i, score in enumerate(measure.per_class(read.confusion, names)):
        hits = pairs.count((i, i))
        of_class, read_as = (sum(pair[k] == i for pair in pairs) for k in (0, 1))
        assert (score.name, score.images) == (names[i], of_class)
        assert score.precision == (hits / read_as if read_as else 0)
        assert score.recall == (hits / of_class if of_class else 0)
        if score.precision + score.recall:
            mean = 2 * score.precision * score.recall / (score.precision + score.recall)
            assert score.f1 == pytest.approx(mean)
        else:
            assert score.f1 == 0


@given(readings())
def test_calibration_counts_every_image_once(read: Readings) -> None:
    bins = measure.reliability(read)
    assert len(bins) == 15
    assert sum(b.images for b in bins) == len(read)
    for b in bins:
        if b.confidence is not None and b.accuracy is not None and b.interval is not None:
            assert b.low - 1e-9 <= b.confidence <= b.high + 1e-9
            assert b.interval[0] <= b.accuracy <= b.interval[1]
    # The mean over images of what each one's bin is off by, image by image.
    places = np.minimum(np.ceil(read.confidences * 15) - 1, 14)
    off = [
        abs(np.mean(read.right[places == p]) - np.mean(read.confidences[places == p]))
        for p in places
    ]
    assert measure.calibration_error(bins) == pytest.approx(np.mean(off), abs=1e-12)


@given(readings())
def test_brier_and_loss_follow_their_definitions(read: Readings) -> None:
    truth = np.eye(read.log_probabilities.shape[1])[read.labels]
    brier = np.square(read.probabilities - truth).sum(1).mean()
    assert measure.brier(read) == pytest.approx(brier, abs=1e-6)
    assert read.loss == pytest.approx(-(truth * read.log_probabilities).sum(1).mean(), rel=1e-6)


def test_a_sure_and_right_model_has_no_error() -> None:
    read = made([[1, 0], [0, 1]], [0, 1])
    assert (read.loss, measure.brier(read)) == (0, 0)
    assert measure.calibration_error(measure.reliability(read)) == 0
    assert measure.mistakes(read, {}) == []
    assert measure.confused_pairs(read.confusion, 5) == []


def test_a_sure_and_wrong_model_is_as_bad_as_can_be() -> None:
    read = made([[1, 0], [1, 0]], [1, 1])
    assert read.loss == np.inf
    assert measure.brier(read) == 2
    assert measure.calibration_error(measure.reliability(read)) == 1


def test_mistakes_come_with_the_surest_first_and_what_people_saw() -> None:
    read = made([[0.6, 0.3, 0.1], [0, 0, 1], [0.8, 0.2, 0], [0.1, 0.1, 0.8]], [1, 2, 1, 0])
    first, second, third = measure.mistakes(read, {0: 0, 3: None})
    assert [m.index for m in (first, second, third)] == [2, 3, 0]
    assert (first.label, first.read_as, first.doubted) == (1, 0, False)
    assert first.probability == pytest.approx(0.8)
    assert first.label_probability == pytest.approx(0.2)
    assert (second.doubted, second.people) == (True, None)
    assert (third.doubted, third.people) == (True, 0)
    # Image 0 is read as people see it, image 3 left out: 0 and 1 right of 0, 1 and 2.
    assert measure.as_people_see(read, {0: 0, 3: None}) == (2, 3)


def test_classes_without_images_do_not_weigh_on_the_mean() -> None:
    read = made([[1, 0, 0], [0, 1, 0]], [0, 1])
    scores = measure.per_class(read.confusion, ["a", "b", "c"])
    assert scores[2] == measure.ClassScore("c", 0, 0, 0, 0)
    assert measure.macro(scores).f1 == 1
    assert measure.rates(read.confusion)[2].tolist() == [0, 0, 0]


def test_mnist_names_the_labels_that_people_doubt() -> None:
    test, train = (hwr.data.load("mnist", split=split) for split in ("test", "train"))
    assert len(test.doubted) == 15
    assert train.doubted == {}
    assert all(label != test.labels[index] for index, label in test.doubted.items())
    assert test.doubted == mnist.WRONG_TEST_LABELS
    assert test.subset(range(100)).doubted == test.doubted  # by position in the split as loaded


def test_other_digits_than_mnists_are_not_doubted(digits: Path) -> None:
    assert hwr.data.load("mnist", split="test", data_dir=digits).doubted == {}
