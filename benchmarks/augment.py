"""Images warped a second on one core, as they are in training: `python -m benchmarks.augment`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks import charts
from benchmarks.results import Report, chosen, parser
from hwr import command
from hwr.data.augment import PRESETS

BATCH = 128
TARGET = 40_000  # images a second a core: no step of a network that small waits for its batch


def main(argv: Sequence[str] | None = None) -> int:
    """Warp batches by each preset."""
    p = parser("augment", "Time the warping of MNIST-sized images on one thread.",
               rounds=5, steps=50)  # fmt: skip
    p.add_argument("presets", nargs="*", help=f"of {', '.join(PRESETS)} (default: all)")
    args = p.parse_args(argv)
    names = chosen("augmentation", args.presets, list(PRESETS))
    command.set_threads(1)
    report = Report("augment", argv, args, [1], batch=BATCH, size="28x28", target=TARGET)
    rng = np.random.default_rng(args.seed)
    images = rng.integers(0, 256, (BATCH, 28, 28, 1), dtype=np.uint8)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, found in rates.items():  # in turns: a busy moment falls on all
            found.append(rate(name, images, rng, args.steps))
    rows = [row(name, found) for name, found in rates.items()]
    for each in rows:
        print(
            f"{each['augment']:8} {each['median']:>9,.0f} images/s "
            f"({each['lowest']:,.0f} to {each['highest']:,.0f})"
        )
    report.save(rows, charts.augment)
    return 0


def rate(name: str, images: np.ndarray, rng: np.random.Generator, batches: int) -> float:
    """Images a second over so many batches; one before them compiles and fills caches."""
    warp = PRESETS[name]
    warp(images, rng)
    began = time.perf_counter()
    for _ in range(batches):
        warp(images, rng)
    return batches * len(images) / (time.perf_counter() - began)


def row(name: str, found: list[float]) -> dict[str, Any]:
    """A preset's results."""
    return {
        "augment": name,
        "amounts": str(PRESETS[name]),
        "median": median(found),
        "lowest": min(found),
        "highest": max(found),
    }


if __name__ == "__main__":
    command.run("benchmarks.augment", main)
