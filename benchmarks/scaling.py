"""How a training step grows with threads, batch, width and depth: `python -m benchmarks.scaling`.

Each series changes one thing, and its growth is fitted: time ~ size^exponent, by least squares of
the logarithms. What does not grow with the size (with the batch: the update of the weights and
their packing) makes small sizes dear and the exponent small. So fixed + rate size^expected is
fitted too, and the exponent of the two largest sizes told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import tinynn as tn
from benchmarks import charts
from benchmarks.calls import calls_of
from benchmarks.compare import Facts, Make, Step, Timing, compare
from benchmarks.engines import step_of
from benchmarks.results import Report, chosen, parser, thread_count
from benchmarks.works import WORKS, Work
from hwr import command
from hwr.progress import Progress
from tinynn import nn
from tinynn.backend import Backend, get_backend
from tinynn.kernels.threads import usable_cpus

SPEEDUP = 1.75  # at least, from one thread to two
HOW_TO_READ = (
    "an exponent below the expected one: what does not grow so, the fixed part first of all, "
    "dominates the small sizes; the last two sizes tell where it goes"
)
DEPTH_WORK = Work(name="residual blocks", model="", batch=128)


@dataclass(frozen=True)
class Series:
    """Sizes of one thing, and the exponent that the time should grow with."""

    sizes: tuple[int, ...]
    expected: float
    what: str
    work: Callable[[int], Work]
    fitted_from: int = 1  # the smallest size that is fitted


SERIES = {
    "threads": Series(
        tuple(n for n in (1, 2, 4, 8, 16, 32, 64) if n <= usable_cpus()), -1.0,
        "the paper's ResNet-18, batch 128", lambda size: WORKS["resnet18-7x7"],
    ),
    "batch": Series(
        (32, 64, 128, 256), 1.0, "the paper's ResNet-18",
        lambda size: replace(WORKS["resnet18-7x7"], batch=size),
    ),
    "width": Series(
        (16, 32, 64, 128), 2.0, "ResNet-18 for small images, batch 128",
        lambda size: replace(WORKS["resnet18-3x3"], options={"stem": "3x3", "width": size}),
        fitted_from=32,  # of 16 channels a step keeps 120 MB, which large processors' caches hold
    ),
    "depth": Series(
        (2, 4, 8, 16), 1.0, "BasicBlocks of 64 channels on 14x14, batch 128",
        lambda size: replace(DEPTH_WORK, options={"blocks": size}),
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Time every series and print its exponents."""
    p = parser("scaling", "Time training steps of growing size, and fit the growth.",
               rounds=5, steps=3)  # fmt: skip
    p.add_argument("series", nargs="*", help=f"of {', '.join(SERIES)} (default: all)")
    p.add_argument("--threads", type=thread_count, default=usable_cpus(),
                   help="where threads are not the series")  # fmt: skip
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument("--most", type=command.count(1), help="leave out the sizes above this")
    args = p.parse_args(argv)
    names = chosen("series", args.series, list(SERIES))
    command.check_backend(args.backend)
    report = Report("scaling", argv, args, [args.threads], backend=args.backend,
                    memory_format="NHWC")  # fmt: skip
    print(HOW_TO_READ)
    rows = []
    for name in names:
        series = SERIES[name]
        sizes = [n for n in series.sizes if args.most is None or n <= args.most] or [
            series.sizes[0]
        ]
        makes = [make(name, size, args) for size in sizes]
        with Progress(name, len(makes) * args.rounds, unit="turns") as progress:
            timings = compare(makes, args.rounds, args.steps, lambda: progress.update(1))
        rows.append(as_row(name, series, sizes, timings))
        print(table(rows[-1]), flush=True)
    report.save(rows, charts.scaling, note=HOW_TO_READ)
    return 0


def make(name: str, size: int, args: Any) -> Make:
    """The step of one size of a series."""
    threads = size if name == "threads" else args.threads
    return sized_step, (name, size, threads, args.backend, args.seed)


def sized_step(name: str, size: int, threads: int, backend: str, seed: int) -> tuple[Step, Facts]:
    """A training step of one size of a series."""
    tn.set_num_threads(threads)
    facts = {"engine": "tinynn", "memory_format": "NHWC", "threads": threads, name: size}
    return step_at(name, size, get_backend(backend), seed), facts


def step_at(name: str, size: int, backend: Backend, seed: int = 0) -> Step:
    """The step of one size of a series on a backend."""
    work = SERIES[name].work(size)
    model = blocks(size, seed) if name == "depth" else None
    return step_of(work, backend, seed, model)


def blocks(count: int, seed: int) -> nn.Module:
    """A chain of BasicBlocks between a small stem and a linear layer."""
    generator = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, 2, 1, bias=False, generator=generator),
        *(nn.BasicBlock(64, 64, generator=generator) for _ in range(count)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10, generator=generator),
    )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The slope of log(values) over log(sizes); None for a single size."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def fixed_part(
    sizes: Sequence[float], values: Sequence[float], power: float
) -> tuple[float, float] | None:
    """(fixed, rate) of values = fixed + rate size^power, by least squares of the relative errors;
    None for fewer than three sizes."""
    if len(sizes) < 3:
        return None
    grown, weights = np.asarray(sizes, float) ** power, 1 / np.asarray(values)
    rate, fixed = np.polyfit(grown, values, 1, w=weights)
    return float(fixed), float(rate)


def as_row(name: str, series: Series, sizes: list[int], timings: list[Timing]) -> dict[str, Any]:
    """One series: the times, the multiply-adds, and how both grow."""
    numpy = get_backend("numpy")
    work = [
        sum(call.multiply_adds for call in calls_of(partial(step_at, name, size), numpy))
        for size in sizes
    ]
    first = next((i for i, size in enumerate(sizes) if size >= series.fitted_from), len(sizes))
    fitted, seconds = sizes[first:], [t.median for t in timings][first:]
    row = {
        "series": name,
        "what": series.what,
        "sizes": sizes,
        "multiply_adds": work,
        "expected": series.expected,
        "fitted": fitted,
        "measured": exponent(fitted, seconds),
        "of_the_last_two": exponent(fitted[-2:], seconds[-2:]),
        "of_multiply_adds": None if name == "threads" else exponent(fitted, work[first:]),
        "fixed_and_rate_s": fixed_part(fitted, seconds, series.expected),
        "timings": timings,
    }
    if name == "threads" and 2 in sizes:
        row["speedup_1_to_2"] = timings[0].median / timings[sizes.index(2)].median
        row["speedup_required"] = SPEEDUP
    return row


def table(row: dict[str, Any]) -> str:
    """A series as text."""
    lines = [f"{row['series']}: {row['what']}"]
    for size, work, timing in zip(row["sizes"], row["multiply_adds"], row["timings"]):
        lines.append(
            f"  {size:4}  {1e3 * timing.median:9.1f} ms ({1e3 * timing.low:.1f} to "
            f"{1e3 * timing.high:.1f}), {1e-9 * work:8.2f} G multiply-adds, "
            f"{1e-9 * work / timing.median:6.1f} G/s"
        )
    if row["measured"] is not None:
        text = f"  exponent: expected {row['expected']:g}, measured {row['measured']:.2f}"
        text += f" from {row['fitted'][0]} on" if row["fitted"] != row["sizes"] else ""
        if len(row["fitted"]) > 2:
            text += f", of the last two sizes {row['of_the_last_two']:.2f}"
        if row["of_multiply_adds"] is not None:
            text += f"; of the multiply-adds {row['of_multiply_adds']:.2f}"
        lines.append(text)
    if row["fixed_and_rate_s"] is not None:
        fixed, rate = (1e3 * seconds for seconds in row["fixed_and_rate_s"])
        power = f"^{row['expected']:g}" if row["expected"] != 1 else ""
        lines.append(f"  time = {fixed:.3g} ms + {rate:.3g} ms {row['series']}{power}")
    if "speedup_1_to_2" in row:
        gain = row["speedup_1_to_2"]
        word = "reached" if gain >= SPEEDUP else "missed"
        lines.append(
            f"  from 1 to 2 threads: {gain:.2f} times as fast; the aim of {SPEEDUP} {word}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.run("benchmarks.scaling", main)
