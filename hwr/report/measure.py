"""What is measured on the readings of a dataset: pure functions, plain NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.readings import Readings
from hwr.statistics import wilson_interval

BINS = 15
CALIBRATION = (
    "Expected calibration error: the mean, over all images, of |accuracy - confidence| of the bin "
    f"an image is in; {BINS} bins of equal width by confidence, the probability of what the image "
    "is read as (Guo et al. 2017, section 2)."
)


@dataclass(frozen=True)
class ClassScore:
    """How one class is read.

    `precision` is the share of the images read as this class that are of it, `recall` the share of
    its images read as it, `f1` their harmonic mean; 0 where there is nothing to take a share of.
    """

    name: str
    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is above `low` and at most `high`; means are None for none."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None
    interval: tuple[float, float] | None  # of the accuracy, 95 %


@dataclass(frozen=True)
class Mistake:
    """An image read as what it is not: where it stands, and how sure the model was."""

    index: int
    label: int
    read_as: int
    probability: float  # of what it is read as
    label_probability: float
    doubted: bool = False  # people who looked at it did not agree with the label
    people: int | None = None  # the class that most of them saw instead


def rates(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K): the share of class t's images read as p; a row of zeros for a class without any."""
    images = confusion.sum(1, keepdims=True)
    return confusion / np.maximum(images, 1)


def per_class(confusion: NDArray[np.int64], names: list[str]) -> list[ClassScore]:
    """Precision, recall and F1 of every class. Source: van Rijsbergen 1979, chapter 7."""
    right = confusion.diagonal()
    images, read = confusion.sum(1), confusion.sum(0)
    precision = right / np.maximum(read, 1)
    recall = right / np.maximum(images, 1)
    f1 = 2 * right / np.maximum(images + read, 1)  # 2 p r / (p + r)
    columns = (column.tolist() for column in (images, precision, recall, f1))
    return [ClassScore(*row) for row in zip(names, *columns)]


def macro(scores: list[ClassScore]) -> ClassScore:
    """The mean over the classes that have images, each weighing the same."""
    present = [score for score in scores if score.images]
    means = (
        float(np.mean([getattr(score, name) for score in present]))
        for name in ("precision", "recall", "f1")
    )
    return ClassScore("mean of the classes", sum(score.images for score in present), *means)


def reliability(readings: Readings, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy in bins of equal width. Source: Guo et al. 2017, section 2."""
    confidence, right = readings.confidences, readings.right
    # Of ]low, high], so that a confidence of 1 is in the last bin.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    made = []
    for i in range(bins):
        inside = place == i
        n, correct = int(inside.sum()), int(right[inside].sum())
        means = (
            (float(confidence[inside].mean()), correct / n, wilson_interval(correct, n))
            if n
            else (None, None, None)
        )
        made.append(Bin(i / bins, (i + 1) / bins, n, *means))
    return made


def calibration_error(bins: list[Bin]) -> float:
    """sum over bins of images / N |accuracy - confidence|, as `CALIBRATION` says."""
    total = sum(b.images for b in bins)
    gaps = (
        b.images * abs(b.accuracy - b.confidence)
        for b in bins
        if b.accuracy is not None and b.confidence is not None
    )
    return sum(gaps) / total


def brier(readings: Readings) -> float:
    """The mean over images of sum over k of (p_k - [k is the label])^2, from 0 to 2.

    Source: Brier 1950.
    """
    p = readings.probabilities
    of_label = p[np.arange(len(p)), readings.labels]
    return float((np.square(p).sum(1) - 2 * of_label + 1).mean())


def mistakes(readings: Readings, doubted: Mapping[int, int | None]) -> list[Mistake]:
    """Every image that is read wrong, the most confident first; `doubted` as a Dataset has it."""
    wrong = np.flatnonzero(~readings.right)
    wrong = wrong[np.argsort(-readings.confidences[wrong], kind="stable")]
    p = readings.probabilities
    return [
        Mistake(
            index=int(i),
            label=int(readings.labels[i]),
            read_as=int(readings.predictions[i]),
            probability=float(readings.confidences[i]),
            label_probability=float(p[i, readings.labels[i]]),
            doubted=int(i) in doubted,
            people=doubted.get(int(i)),
        )
        for i in wrong
    ]


def as_people_see(readings: Readings, doubted: Mapping[int, int | None]) -> tuple[int, int]:
    """How many are read right, and of how many, with what people see in place of doubted labels.

    Images on which people did not agree are left out.
    """
    truth, kept = readings.labels.copy(), np.ones(len(readings), bool)
    for index, label in doubted.items():
        truth[index] = -1 if label is None else label
        kept[index] = label is not None
    return int((readings.predictions == truth)[kept].sum()), int(kept.sum())


def confused_pairs(confusion: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """The most frequent confusions (of class, read as class, times), most frequent first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    cells = zip(*np.unravel_index(order, wrong.shape))
    return [(int(t), int(p), int(wrong[t, p])) for t, p in cells if wrong[t, p]]
