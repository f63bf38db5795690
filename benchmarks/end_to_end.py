"""Whole training runs, from start to printed accuracy: `python -m benchmarks.end_to_end`.

Each run is a process of its own: ours with an empty cache of compiled kernels (cold) and with the
one that run left (warm), then the same recipe in PyTorch. The `fast` recipe's time is the time to
99.3 % if its accuracy reached that. With `--backend cupy` both train on the GPU.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.results import Report, chosen, has_torch, parser, thread_count
from hwr import command
from hwr.progress import clock
from hwr.recipes import DEFAULT, recipes
from tinynn.backend import get_backend
from tinynn.kernels.threads import usable_cpus

TARGET = 99.3  # % of the test images
ACCURACY = re.compile(r"test accuracy (\d+\.\d+) %")


def main(argv: Sequence[str] | None = None) -> int:
    """Train each recipe on each engine, one after the other."""
    p = parser("end_to_end", "Time whole training runs of hwr.train and of PyTorch.")
    p.add_argument("--recipes", nargs="+", default=[DEFAULT, "fast"], metavar="NAME",
                   help="of hwr.train --list-recipes")  # fmt: skip
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
        backend=args.backend, target=args.target, train_size=args.train_size,
    )  # fmt: skip
    with_torch = has_torch()
    rows = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for name in names:
            for row in runs(name, args, Path(folder), with_torch):
                rows.append(row)
                print(line(row), flush=True)
    report.save(rows, charts.end_to_end)
    return 1 if any(row["accuracy"] is None for row in rows) else 0


def runs(name: str, args: argparse.Namespace, folder: Path, with_torch: bool) -> Any:
    """The runs of one recipe, each when it is asked for."""
    options = ["--recipe", name, "--threads", args.threads, "--seed", args.seed]
    if args.train_size:
        options += ["--train-size", args.train_size]
    kernels = str(folder / f"{name}-kernels")
    cache = {"NUMBA_CACHE_DIR": kernels, "CUPY_CACHE_DIR": kernels}
    for state in ("cold", "warm"):
        ours = ["--backend", args.backend, "--output-dir", folder / f"{name}-{state}"]
        yield timed(name, f"tinynn, {state}", ["hwr.train", *options, *ours], args, cache)
    if with_torch:
        options += ["--memory-format", args.memory_format, "--device", args.device]
        yield timed(name, "PyTorch", ["benchmarks.torch_recipe", *options], args, {})


def timed(
    recipe: str,
    engine: str,
    words: list[Any],
    args: argparse.Namespace,
    environment: dict[str, str],
) -> dict[str, Any]:
    """Run a module; the seconds until it prints its accuracy, and that accuracy in %."""
    path = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    seconds = accuracy = None
    print(f"{recipe}: {engine} ...", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **environment, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for text in process.stdout:
            if found := ACCURACY.search(text):
                seconds, accuracy = time.perf_counter() - begin, float(found[1])
    return {
        "recipe": recipe,
        "engine": engine,
        "memory_format": args.memory_format if engine == "PyTorch" else "NHWC",
        "seed": args.seed,
        "seconds": seconds,
        "accuracy": accuracy,
        "reached": accuracy is not None and accuracy >= args.target,
        "target": args.target,
        "exit_code": process.returncode,
    }


def line(row: dict[str, Any]) -> str:
    """One run as text."""
    what = f"{row['recipe']:24} {row['engine']:14} {row['memory_format']:14}"
    if row["seconds"] is None:
        return f"{what} ended with code {row['exit_code']} and no accuracy"
    aim = "reached" if row["reached"] else "not reached"
    return (
        f"{what} {row['seconds']:8.1f} s ({clock(row['seconds'])}), test accuracy "
        f"{row['accuracy']:.2f} %; {row['target']:g} % {aim}"
    )


if __name__ == "__main__":
    command.run("benchmarks.end_to_end", main)
