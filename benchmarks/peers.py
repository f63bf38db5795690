"""Other engines written in NumPy, same network and batch: `python -m benchmarks.peers`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import charts
from benchmarks.compare import Engine, EngineError, Make, Timing, take_turns
from benchmarks.engines import tinynn_step
from benchmarks.peer_engines import PEERS, UNUSABLE, peer_step
from benchmarks.results import Report, chosen, parser, thread_count
from benchmarks.works import WORKS, Work
from hwr import command
from hwr.progress import Progress
from tinynn.kernels.threads import usable_cpus

NAMES = ("mlp", "fast", "resnet18-7x7")


def main(argv: Sequence[str] | None = None) -> int:
    """Time a step of each network on every engine that has its layers."""
    p = parser("peers", "Time training steps of tinynn and of other engines written in NumPy.",
               rounds=3, steps=2)  # fmt: skip
    p.add_argument("works", nargs="*", help=f"of {', '.join(NAMES)} (default: all)")
    p.add_argument("--threads", type=thread_count, default=usable_cpus(), help="of all, and BLAS's")
    args = p.parse_args(argv)
    works = [WORKS[name] for name in chosen("work", args.works, NAMES)]
    absent = {
        name: f"not installed; pip install {peer.package}"
        for name, peer in PEERS.items()
        if importlib.util.find_spec(peer.package) is None
    }
    report = Report("peers", argv, args, [args.threads])
    for name, reason in {**absent, **UNUSABLE}.items():
        print(f"{name}: {reason}")
    rows = []
    for work in works:
        names = [n for n, p in PEERS.items() if work.model in p.networks and n not in absent]
        rows.append(measure(work, names, args))
        print("\n".join(lines(rows[-1])), flush=True)
    report.save(rows, charts.peers, absent=absent, unusable=UNUSABLE)
    return 0


def measure(work: Work, names: list[str], args: Any) -> dict[str, Any]:
    """One network: ours, our readable kernels, and every peer; what failed, and why."""
    makes: dict[str, Make] = {
        "tinynn": (tinynn_step, (work, args.threads, "numpy", args.seed)),
        "tinynn (reference)": (tinynn_step, (work, args.threads, "reference", args.seed)),
        **{name: (peer_step, (name, work, args.threads, args.seed)) for name in names},
    }
    failed: dict[str, str] = {}
    engines = []
    with ExitStack() as stack, Progress(work.name, len(makes), unit="engines made") as progress:
        for name, make in makes.items():
            engine = stack.enter_context(Engine())
            try:
                engine.make(make)
                engines.append(engine)
            except EngineError as error:
                failed[name] = str(error)
            progress.update(1)
        with Progress(work.name, len(engines) * args.rounds, unit="turns") as turns:
            timings = take_turns(engines, args.rounds, args.steps, lambda: turns.update(1))
    return {"work": work.name, "batch": work.batch, "timings": timings, "failed": failed}


def lines(row: dict[str, Any]) -> list[str]:
    """One network as text."""
    best: Timing = row["timings"][0]
    shown = [f"{row['work']}, batch {row['batch']}"]
    for t in row["timings"]:
        shown.append(
            f"  {t.label:32} {1e3 * t.median:10.1f} ms ({1e3 * t.low:.1f} to {1e3 * t.high:.1f}), "
            f"{t.median / best.median:6.1f} times tinynn's, peak memory {t.peak_mib:,.0f} MiB"
        )
    return shown + [f"  {name:32} failed: {error}" for name, error in row["failed"].items()]


if __name__ == "__main__":
    command.run("benchmarks.peers", main)
