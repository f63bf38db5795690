"""Whole training runs, from start to printed accuracy: `python -m benchmarks.end_to_end`.

Each run is a process of its own: ours with an empty cache of compiled kernels (cold) and with the
one that run left (warm), then the same recipe in PyTorch. The `fast` recipe's time is the time to
99.3 % if its accuracy reached that, which is chance: `--seeds 10` shows how often. With
`--backend cupy` both train on the GPU.
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
from benchmarks.results import Report, chosen, has_torch, parser, thread_count
from hwr import command
from hwr.progress import clock
from hwr.recipes import DEFAULT, recipes
from tinynn.backend import get_backend
from tinynn.kernels.threads import usable_cpus

Row = dict[str, Any]
TARGET = 99.3  # % of the test images
ACCURACY = re.compile(r"test accuracy (\d+\.\d+) %")


def main(argv: Sequence[str] | None = None) -> int:
    """Train each recipe on each engine, one after the other."""
    p = parser("end_to_end", "Time whole training runs of hwr.train and of PyTorch.")
    p.add_argument("--recipes", nargs="+", default=[DEFAULT, "fast"], metavar="NAME",
                   help="of hwr.train --list-recipes")  # fmt: skip
    p.add_argument("--seeds", type=command.count(1), default=1,
                   help="train with so many seeds, from SEED on (cold with the first)")  # fmt: skip
    p.add_argument("--threads", type=thread_count, default=usable_cpus(), help="of all")
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument("--memory-format", choices=["contiguous", "channels_last"],
                   default="channels_last", help="of PyTorch")  # fmt: skip
    p.add_argument("--target", type=command.number(0, 100), default=TARGET,
                   help="test accuracy in %% to reach")  # fmt: skip
    p.add_argument("--train-size", type=command.count(1), help="use only N of the images")
    args = p.parse_args(argv)
    names = chosen("recipe", args.recipes, recipes.names())
    command.check_backend(args.backend)
    args.device = "cuda" if get_backend(args.backend).has_device else "cpu"
    where = [args.threads] if args.device == "cpu" else ["gpu"]
    report = Report(
        "end_to_end", argv, args, where, memory_formats=["NHWC", args.memory_format],
        backend=args.backend, target=args.target, train_size=args.train_size, seeds=args.seeds,
    )  # fmt: skip
    with_torch = has_torch()
    rows = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for name in names:
            for row in runs(name, args, Path(folder), with_torch):
                rows.append(row)
                print(line(row), flush=True)
    report.save(rows, charts.end_to_end)
    return 1 if any(run["accuracy"] is None for row in rows for run in row["runs"]) else 0


def runs(name: str, args: argparse.Namespace, folder: Path, with_torch: bool) -> Iterator[Row]:
    """The runs of one recipe on each engine, each when it is asked for."""
    options = ["--recipe", name, "--threads", args.threads]
    if args.train_size:
        options += ["--train-size", args.train_size]
    kernels = str(folder / f"{name}-kernels")
    cache = {"NUMBA_CACHE_DIR": kernels, "CUPY_CACHE_DIR": kernels}
    seeds = range(args.seed, args.seed + args.seeds)
    for state, some in (("cold", seeds[:1]), ("warm", seeds)):
        words = ["hwr.train", *options, "--backend", args.backend]
        yield timed(name, f"tinynn, {state}", words, some, args, folder, cache)
    if with_torch:
        options += ["--memory-format", args.memory_format, "--device", args.device]
        words = ["benchmarks.torch_recipe", *options]
        yield timed(name, "PyTorch", words, seeds, args, folder, {})


def timed(
    recipe: str,
    engine: str,
    words: list[Any],
    seeds: Iterable[int],
    args: argparse.Namespace,
    folder: Path,
    environment: dict[str, str],
) -> Row:
    """Run a module in `folder` with each seed; the seconds until it prints its accuracy, and that
    in %."""
    print(f"{recipe}: {engine} ...", file=sys.stderr, flush=True)
    made = [{"seed": seed, **run([*words, "--seed", seed], folder, environment)} for seed in seeds]
    return {
        "recipe": recipe,
        "engine": engine,
        "memory_format": args.memory_format if engine == "PyTorch" else "NHWC",
        "target": args.target,
        "runs": made,
    }


def run(words: list[Any], folder: Path, environment: dict[str, str]) -> Row:
    """One run."""
    path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    seconds = accuracy = None
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], stdout=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for text in process.stdout:
            if found := ACCURACY.search(text):
                seconds, accuracy = time.perf_counter() - begin, float(found[1])
    return {"seconds": seconds, "accuracy": accuracy, "exit_code": process.returncode}


def line(row: Row) -> str:
    """The runs of one engine as text: the median time, the mean accuracy."""
    what = f"{row['recipe']:24} {row['engine']:14} {row['memory_format']:14}"
    done = [run for run in row["runs"] if run["seconds"] is not None]
    if len(done) < len(row["runs"]):
        codes = sorted({run["exit_code"] for run in row["runs"] if run["seconds"] is None})
        return f"{what} ended with code {' and '.join(map(str, codes))} and no accuracy"
    seconds = median(run["seconds"] for run in done)
    accuracies = [run["accuracy"] for run in done]
    accuracy = f"{mean(accuracies):.2f} %"
    reached = sum(accuracy >= row["target"] for accuracy in accuracies)
    aim = "reached" if reached else "not reached"
    if len(done) > 1:
        accuracy += f" ({min(accuracies):.2f} to {max(accuracies):.2f})"
        aim = f"reached by {reached} of {len(done)} seeds"
    return (
        f"{what} {seconds:8.1f} s ({clock(seconds)}), test accuracy {accuracy}; "
        f"{row['target']:g} % {aim}"
    )


if __name__ == "__main__":
    command.run("benchmarks.end_to_end", main)
