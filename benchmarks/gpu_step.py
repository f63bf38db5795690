"""`python -m benchmarks.step --backend cupy`: steps on a GPU beside PyTorch's, in all its ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks import charts
from benchmarks.compare import Engine, EngineError, Make, Timing, take_turns
from benchmarks.gpu_engines import BURST, PRECISIONS, engines
from benchmarks.results import Report
from benchmarks.works import WORKS
from hwr.errors import UserError
from hwr.progress import Progress

NAMES = "resnet18-7x7", "resnet18-3x3", "mlp"  # where no other is named
NOTE = (
    f"device-synchronised: {BURST} updates on batches of the device, then a wait, over {BURST}; "
    "PyTorch's optimisers are its fused ones"
)


def run(args: Any, names: Sequence[str], report: Report, with_torch: bool) -> int:
    """Time the works on the device, print the times and ratios, and save them one by one.

    Returns the exit code: 1 if nothing could be timed.
    """
    if idle := [name for name in names if not WORKS[name].training]:
        raise UserError(f"{idle[0]} trains nothing; on a GPU training steps are timed: name others")
    print(NOTE, flush=True)
    rows: list[dict[str, Any]] = []
    for work in (WORKS[name] for name in names):
        makes = engines(work, args.backend, args.seed, with_torch)
        timings, failed = measure(work.name, makes, args.rounds, args.steps)
        row = {"work": work.name, "batch": work.batch, "timings": timings, "failed": failed}
        rows.append({**row, "ratios": ratios(timings)})
        print("\n".join(lines(rows[-1])), flush=True)
        report.save(rows, charts.gpu_step, note=NOTE)
    return 0 if any(row["timings"] for row in rows) else 1


def measure(
    name: str, makes: Sequence[Make], rounds: int, steps: int
) -> tuple[list[Timing], dict[str, str]]:
    """The seconds of one update on each engine, and why engines failed."""
    failed: dict[Engine, str] = {}
    with Progress(name, len(makes) * (rounds + 1), unit="turns") as progress:
        started = {Engine(): make for make in makes}
        for engine, make in started.items():
            try:
                engine.make(make)
            except EngineError as error:
                failed[engine] = str(error)
            progress.update(1)
        made = [engine for engine in started if engine not in failed]
        timings = take_turns(made, rounds, steps, lambda: progress.update(1), failed)
        for engine in started:
            engine.__exit__(None, None, None)
    names = {engine: f"{step.__name__} {given[1:]}" for engine, (step, given) in started.items()}
    return [
        replace(t, median=t.median / BURST, low=t.low / BURST, high=t.high / BURST) for t in timings
    ], {names[engine]: reason for engine, reason in failed.items()}


def ratios(timings: Sequence[Timing]) -> dict[str, float]:
    """tinynn over PyTorch: captured and eager, over its eager, compiled and whole-step graph."""
    times: dict[str, float] = {}
    for t in timings:  # of PyTorch's two memory formats the better
        times[t.engine] = min(t.median, times.get(t.engine, t.median))
    found = {}
    for precision in PRECISIONS:
        for ours in ("captured", "eager"):
            for theirs in ("eager", "compiled", "graph"):
                pair = f"tinynn, {ours}, {precision}", f"PyTorch, {theirs}, {precision}"
                if all(name in times for name in pair):
                    found[" / ".join(pair)] = times[pair[0]] / times[pair[1]]
    return found


def lines(row: dict[str, Any]) -> list[str]:
    """One work as text: times, memory, flags, ratios, failures."""
    shown = [f"{row['work']}, batch {row['batch']}"]
    for t in row["timings"]:
        shown.append(
            f"  {t.label:42} {1e3 * t.median:8.3f} ms ({1e3 * t.low:.3f} to {1e3 * t.high:.3f}), "
            f"{t.facts['device_mib']:,.0f} MiB of the device"
        )
        flags = {k: v for k, v in t.facts.items() if k == "captured"} | t.facts["flags"]
        shown.append("    " + ", ".join(f"{k} {v}" for k, v in flags.items()))
    shown += [f"  {names:60} {ratio:.2f}" for names, ratio in row["ratios"].items()]
    return shown + [f"  {name} failed: {error}" for name, error in row["failed"].items()]
