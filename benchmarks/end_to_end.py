"""Whole training runs, from start to printed accuracy: `python -m benchmarks.end_to_end`.

Each run is a process of its own: ours with an empty cache of compiled kernels (cold) and with the
one that run left (warm), then the same recipe in PyTorch, in the memory format whose step is the
quicker. Before them, the same of a process that takes a single step: what a start costs.

The test images are read once, after the last epoch: a run's time is the time to 99.3 % if its
accuracy reached that, which is chance; `--seeds 10` shows how often. How soon the held-out images
are read so well is told beside it, for every epoch's end and accuracy on them are printed.
With `--backend cupy` both train on the GPU.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks import charts
from benchmarks.compare import compare
from benchmarks.engines import torch_step
from benchmarks.first_step import DONE, WORK
from benchmarks.results import Report, chosen, has_torch, parser, thread_count
from benchmarks.works import WORKS, Work
from hwr import command
from hwr.errors import UserError
from hwr.progress import clock
from hwr.recipes import DEFAULT, recipes
from tinynn.backend import get_backend
from tinynn.kernels.threads import usable_cpus

Row = dict[str, Any]
TARGET = 99.3  # % of the test images
ACCURACY = re.compile(r"test accuracy (\d+\.\d+) %")
EPOCH = re.compile(r"epoch (\d+)\b.*\bvalidation (?:loss \S+ )?accuracy (\d+\.\d+) %")
STARTS = {"cold": (1, 20.0), "warm": (3, 2.0)}  # how many; seconds to the first step, at most
FORMATS = ("contiguous", "channels_last")


def main(argv: Sequence[str] | None = None) -> int:
    """Train each recipe on each engine, one after the other."""
    p = parser("end_to_end", "Time whole training runs of hwr.train and of PyTorch.")
    p.add_argument("--recipes", nargs="+", default=[DEFAULT, "fast"], metavar="NAME",
                   help="of hwr.train --list-recipes")  # fmt: skip
    p.add_argument("--seeds", type=command.count(1), default=1,
                   help="train with so many seeds, from SEED on (cold with the first)")  # fmt: skip
    p.add_argument("--threads", type=thread_count, default=usable_cpus(), help="of all")
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument("--memory-format", choices=["better", *FORMATS], default="better",
                   help="of PyTorch; better: that whose step is the quicker")  # fmt: skip
    p.add_argument("--target", type=command.number(0, 100), default=TARGET,
                   help="test accuracy in %% to reach")  # fmt: skip
    p.add_argument("--first-step", choices=list(WORKS), default=WORK, metavar="WORK",
                   help="of benchmarks.step: what a start ends with")  # fmt: skip
    p.add_argument("--train-size", type=command.count(1), help="use only N of the images")
    args = p.parse_args(argv)
    names = chosen("recipe", args.recipes, recipes.names())
    command.check_backend(args.backend)
    args.device = "cuda" if get_backend(args.backend).has_device else "cpu"
    where = [args.threads] if args.device == "cpu" else ["gpu"]
    report = Report(
        "end_to_end", argv, args, where, memory_formats=["NHWC", args.memory_format],
        backend=args.backend, target=args.target, train_size=args.train_size, seeds=args.seeds,
        first_step=args.first_step,
    )  # fmt: skip
    with_torch = has_torch()
    rows, starts, torch_steps = [], [], {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        if args.device == "cpu":
            print(f"from the start of a process to the end of its first step, {args.first_step}:")
            for start in first_steps(args, Path(folder), with_torch):
                starts.append(start)
                print(start_line(start), flush=True)
        for name in names:
            layout = args.memory_format
            if with_torch and layout == "better":
                layout, torch_steps[name] = better_format(name, args)
            for row in runs(name, layout, args, Path(folder), with_torch):
                rows.append(row)
                print(line(row), flush=True)
    report.save(rows, charts.end_to_end, first_step=starts, torch_step_s=torch_steps)
    return 1 if any(run["accuracy"] is None for row in rows for run in row["runs"]) else 0


def first_steps(args: argparse.Namespace, folder: Path, with_torch: bool) -> Iterator[Row]:
    """Starts of each engine; ours without compiled kernels, and with those that the first left."""
    words = ["--work", args.first_step, "--threads", args.threads, "--seed", args.seed]
    cache = {"NUMBA_CACHE_DIR": str(folder / "first-step-kernels")}
    for state, (count, limit) in STARTS.items():
        yield start(f"tinynn, {state}", "tinynn", words, count, limit, folder, cache)
    if with_torch:
        yield start("PyTorch", "torch", words, STARTS["warm"][0], None, folder, {})


def start(
    label: str, engine: str, words: list[Any], count: int, limit: float | None, folder: Path,
    environment: dict[str, str],
) -> Row:  # fmt: skip
    """So many starts of one engine, one after the other."""
    print(f"first step: {label} ...", file=sys.stderr, flush=True)
    module = ["benchmarks.first_step", engine, *words]
    seconds = []
    for _ in range(count):
        lines, code = run(module, folder, environment)
        if code:
            raise UserError(f"benchmarks.first_step {engine} ended with code {code}")
        (done,) = (at for at, text in lines if text.startswith(DONE))
        seconds.append(done)
    return {"engine": label, "seconds": seconds, "limit_s": limit}


def start_line(row: Row) -> str:
    """The starts of one engine as text."""
    text = f"  {row['engine']:14} {median(row['seconds']):8.2f} s"
    if row["limit_s"] is None:
        return text
    word = "reached" if median(row["seconds"]) <= row["limit_s"] else "missed"
    return f"{text}; the aim of {row['limit_s']:g} s {word}"


def better_format(name: str, args: argparse.Namespace) -> tuple[str, dict[str, float]]:
    """PyTorch's memory format whose step of a recipe is the quicker, by a short timing, and the
    seconds in both. On the GPU channels_last, untimed."""
    if args.device != "cpu":
        return "channels_last", {}
    recipe = recipes.get(name)
    work = Work(
        name=name, model=recipe.model, batch=recipe.batch_size, options=recipe.model_options,
        optimizer="sgd" if recipe.optimizer == "sgd" else "adam",
    )  # fmt: skip
    makes = [(torch_step, (work, args.threads, last, True, args.seed)) for last in (False, True)]
    seconds = {t.memory_format: t.median for t in compare(makes, rounds=3, steps=3)}
    best = min(seconds, key=lambda layout: seconds[layout])
    shown = ", ".join(f"{1e3 * seconds[layout]:.1f} ms {layout}" for layout in FORMATS)
    print(f"{name}: a step of PyTorch takes {shown}: {best} is trained", flush=True)
    return best, seconds


def runs(
    name: str, layout: str, args: argparse.Namespace, folder: Path, with_torch: bool
) -> Iterator[Row]:
    """The runs of one recipe on each engine, each when it is asked for."""
    options = ["--recipe", name, "--threads", args.threads]
    if args.train_size:
        options += ["--train-size", args.train_size]
    kernels = str(folder / f"{name}-kernels")
    cache = {"NUMBA_CACHE_DIR": kernels, "CUPY_CACHE_DIR": kernels}
    seeds = range(args.seed, args.seed + args.seeds)
    row = {"recipe": name, "target": args.target}
    for state, some in (("cold", seeds[:1]), ("warm", seeds)):
        words = ["hwr.train", *options, "--backend", args.backend]
        row |= {"engine": f"tinynn, {state}", "memory_format": "NHWC"}
        yield timed(row, words, some, folder, cache)
    if with_torch:
        options += ["--memory-format", layout, "--device", args.device]
        row |= {"engine": "PyTorch", "memory_format": layout}
        yield timed(row, ["benchmarks.torch_recipe", *options], seeds, folder, {})


def timed(
    row: Row, words: list[Any], seeds: Iterable[int], folder: Path, environment: dict[str, str]
) -> Row:
    """The row with its runs: a module run in `folder` with each seed."""
    print(f"{row['recipe']}: {row['engine']} ...", file=sys.stderr, flush=True)
    made = []
    for seed in seeds:
        lines, code = run([*words, "--seed", seed], folder, environment)
        made.append({"seed": seed, **figures(lines), "exit_code": code})
    return {**row, "runs": made}


def run(
    words: list[Any], folder: Path, environment: dict[str, str]
) -> tuple[list[tuple[float, str]], int]:
    """Run a module: each line that it prints after how many seconds, and its exit code."""
    path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    lines = []
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], stdout=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for text in process.stdout:
            lines.append((time.perf_counter() - begin, text))
    return lines, process.returncode


def figures(lines: list[tuple[float, str]]) -> Row:
    """The test accuracy in % and when it was printed; the same of the held-out images after each
    epoch."""
    found: Row = {"seconds": None, "accuracy": None, "epochs": []}
    for seconds, text in lines:
        if match := ACCURACY.search(text):
            found |= {"seconds": seconds, "accuracy": float(match[1])}
        elif match := EPOCH.search(text):
            epoch = {"epoch": int(match[1]), "seconds": seconds}
            found["epochs"].append({**epoch, "validation_accuracy": float(match[2])})
    return found


def validated(run: Row, target: float) -> float | None:
    """The seconds to the end of the first epoch after which the held-out images are read so well.

    The test images have no say.
    """
    reached = (e["seconds"] for e in run["epochs"] if e["validation_accuracy"] >= target)
    return next(reached, None)


def line(row: Row) -> str:
    """The runs of one engine as text: the median time, the mean accuracy."""
    what = f"{row['recipe']:24} {row['engine']:14} {row['memory_format']:14}"
    done = [run for run in row["runs"] if run["seconds"] is not None]
    if len(done) < len(row["runs"]):
        codes = sorted({run["exit_code"] for run in row["runs"] if run["seconds"] is None})
        return f"{what} ended with code {' and '.join(map(str, codes))} and no accuracy"
    seconds, target = median(run["seconds"] for run in done), row["target"]
    accuracies = [run["accuracy"] for run in done]
    accuracy = f"{mean(accuracies):.2f} %"
    reached = sum(accuracy >= target for accuracy in accuracies)
    aim = "reached" if reached else "not reached"
    if len(done) > 1:
        accuracy += f" ({min(accuracies):.2f} to {max(accuracies):.2f})"
        aim = f"reached by {reached} of {len(done)} seeds"
        if reached:
            aim += f", in {median(r['seconds'] for r in done if r['accuracy'] >= target):.1f} s"
    text = (
        f"{what} {seconds:8.1f} s ({clock(seconds)}), test accuracy {accuracy}; {target:g} % {aim}"
    )
    if held_out := [s for r in done if (s := validated(r, target)) is not None]:
        text += f"; of the held-out images after {median(held_out):.1f} s"
        text += f" ({len(held_out)} of {len(done)} seeds)" * (len(done) > 1)
    return text


if __name__ == "__main__":
    command.run("benchmarks.end_to_end", main)
