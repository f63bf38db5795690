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
NOTE = f"device-synchronised: {BURST} updates on batches of the device, then a wait, over {BURST}"


def run(args: Any, names: Sequence[str], report: Report, with_torch: bool) -> int:
    """Time the works on the device, print the times and ratios, and save them."""
    if idle := [name for name in names if not WORKS[name].training]:
        raise UserError(f"{idle[0]} trains nothing; on a GPU training steps are timed: name others")
    print(NOTE, flush=True)
    rows = []
    for work in (WORKS[name] for name in names):
        makes = engines(work, args.backend, args.seed, with_torch)
        timings, failed = measure(work.name, makes, args.rounds, args.steps)
        row = {"work": work.name, "batch": work.batch, "timings": timings, "failed": failed}
        rows.append({**row, "ratios": ratios(timings)})
        print("\n".join(lines(rows[-1])), flush=True)
    report.save(rows, charts.gpu_step, note=NOTE)
    return 0


def measure(
    name: str, makes: Sequence[Make], rounds: int, steps: int
) -> tuple[list[Timing], dict[str, str]]:
    """The seconds of one update on each engine, and why engines failed."""
    made, failed = [], {}
    with Progress(name, len(makes) * (rounds + 1), unit="turns") as progress:
        started = [Engine() for _ in makes]
        for engine, make in zip(started, makes):
            try:
                engine.make(make)
                made.append(engine)
            except EngineError as error:
                failed[f"{make[0].__name__} {make[1][1:]}"] = str(error)
            progress.update(1)
        timings = take_turns(made, rounds, steps, lambda: progress.update(1))
        for engine in started:
            engine.__exit__(None, None, None)
    return [
        replace(t, median=t.median / BURST, low=t.low / BURST, high=t.high / BURST) for t in timings
    ], failed


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
        shown.append("    " + ", ".join(f"{k} {v}" for k, v in t.facts["flags"].items()))
    shown += [f"  {names:60} {ratio:.2f}" for names, ratio in row["ratios"].items()]
    return shown + [f"  {name} failed: {error}" for name, error in row["failed"].items()]
