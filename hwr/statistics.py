"""Accuracies with their uncertainty."""

from __future__ import annotations

import math


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval for a proportion; z = 1.96 gives 95 %.

    ((p + z^2/2n) +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n). Source: Wilson 1927.
    Raises ValueError unless 0 <= correct <= total and total > 0.
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"wilson_interval: {correct} of {total} is not a proportion")
    p, share = correct / total, z * z / total
    centre = (p + share / 2) / (1 + share)
    half = z * math.sqrt(p * (1 - p) / total + share / (4 * total)) / (1 + share)
    # Exact at the ends, where the difference above is rounding alone.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


def describe_accuracy(correct: int, total: int) -> str:
    """ "99.12 % (95 % interval 98.92 to 99.29 %; 9,912 of 10,000)"."""
    low, high = wilson_interval(correct, total)
    return (
        f"{100 * correct / total:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f} %; "
        f"{correct:,} of {total:,})"
    )
