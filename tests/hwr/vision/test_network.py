"""The network that ships, and the images it learnt from."""

import hashlib
import json

import numpy as np
import pytest

from hwr.data import Dataset, photo_digits
from hwr.vision import Reader
from hwr.vision.calibrate import area_under_curve, calibration_error
from hwr.vision.classifier import FACTS, SHIPPED, WEIGHTS


def test_the_facts_are_those_of_the_weights() -> None:
    facts = json.loads((SHIPPED / FACTS).read_text())
    weights = (SHIPPED / WEIGHTS).read_bytes()
    assert len(weights) <= 3_000_000
    assert facts["sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["test"]["accuracy"] >= 0.994
    assert {"seed", "recipe", "temperature", "train"} <= facts.keys()


def test_it_reads_mnist(reader: Reader, mnist_test: Dataset) -> None:
    scores = reader.classifier.log_probabilities(list(mnist_test.images[:1500, :, :, 0]))
    assert (scores.argmax(1) == mnist_test.labels[:1500]).mean() > 0.985
    assert np.exp(scores).sum(1) == pytest.approx(1, abs=1e-3)


def test_no_images_no_scores(reader: Reader) -> None:
    assert reader.classifier.log_probabilities([]).shape == (0, 11)


@pytest.fixture(scope="module")
def photographer(mnist_test: Dataset) -> photo_digits.Photographer:
    return photo_digits.Photographer(mnist_test.subset(np.arange(150)), np.random.default_rng(0))


def test_photographs_of_digits_stay_legible(
    photographer: photo_digits.Photographer, reader: Reader
) -> None:
    images, labels = photographer.dataset()
    assert images.shape[1:] == (28, 28, 1)
    assert images.dtype == np.uint8
    assert set(labels) == set(range(11))
    right = reader.classifier.log_probabilities(list(images[..., 0])).argmax(1) == labels
    assert right.mean() > 0.85


def test_the_same_seed_makes_the_same_images(mnist_test: Dataset) -> None:
    few = mnist_test.subset(np.arange(12))
    first, second = (
        photo_digits.Photographer(few, np.random.default_rng(3)).dataset()[0] for _ in range(2)
    )
    assert (first == second).all()


def test_what_is_no_digit_is_told_apart(
    photographer: photo_digits.Photographer, reader: Reader
) -> None:
    images = [photographer.no_digit() for _ in range(150)]
    refused = np.exp(reader.classifier.log_probabilities(images)[:, 10])
    assert (refused > 0.5).mean() > 0.7


def test_measures_of_calibration() -> None:
    labels = np.array([0, 1, 0, 1])
    sure = np.array([[1.0, 0], [0, 1.0], [1.0, 0], [0, 1.0]])
    assert calibration_error(sure, labels, np.ones(4)) == pytest.approx(0)
    assert calibration_error(sure, 1 - labels, np.ones(4)) == pytest.approx(1)
    assert area_under_curve(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0]) > 0) == 1
