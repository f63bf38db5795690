"""Time of a training (or inference) step beside PyTorch: `python -m benchmarks.step`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from benchmarks.compare import Engine, Timing, as_json, compare, machine
from benchmarks.engines import tinynn_step, torch_step
from benchmarks.works import WORKS
from hwr import command
from hwr.errors import unknown_name
from hwr.files import write_atomic
from tinynn.kernels.threads import usable_cpus


def main() -> int:
    """Time the works and print the ratios."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.step",
        description="Time steps of tinynn and of PyTorch (where it is installed), turn by turn.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("works", nargs="*", default=["resnet18-7x7"], help=f"of {', '.join(WORKS)}")
    p.add_argument("--threads", type=command.count(1), default=usable_cpus(), help="of both")
    p.add_argument("--rounds", type=command.count(1), default=5, help="turns of each engine")
    p.add_argument("--steps", type=command.count(1), default=4, help="steps a turn")
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument("--output", type=Path, help="write the results as JSON")
    args = p.parse_args()
    for name in args.works:
        if name not in WORKS:
            raise unknown_name("work", name, WORKS)
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()) + f", threads {args.threads}")
    results = {}
    for name in args.works:
        work = WORKS[name]
        engines: list[Engine] = [(tinynn_step, (work, args.threads, args.backend))]
        if importlib.util.find_spec("torch"):
            engines += [(torch_step, (work, args.threads, last)) for last in (False, True)]
        results[name] = compare(engines, args.rounds, args.steps)
        show(name, results[name])
    if args.output:
        write_atomic(
            args.output, as_json({f"{k}, {args.threads} threads": v for k, v in results.items()})
        )
    return 0


def show(name: str, timings: list[Timing]) -> None:
    """Print one work's times, and ours over the better of PyTorch's."""
    for t in timings:
        print(
            f"{name:24} {t.label:32} {1e3 * t.median:9.1f} ms a step "
            f"({1e3 * t.low:.1f} to {1e3 * t.high:.1f}), peak memory {t.peak_mib:,.0f} MiB"
        )
    if len(timings) > 1:
        best = min(t.median for t in timings[1:])
        print(f"{name:24} tinynn / PyTorch's better: {timings[0].median / best:.2f}", flush=True)


if __name__ == "__main__":
    command.run("benchmarks.step", main)
