"""Time of a training (or inference) step beside PyTorch: `python -m benchmarks.step`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import charts, gpu_step, roofline
from benchmarks.calls import calls_of
from benchmarks.compare import Make, Timing, compare
from benchmarks.engines import step_of, tinynn_step, torch_engines
from benchmarks.results import Report, chosen, has_torch, parser, thread_counts
from benchmarks.works import WORKS, Work
from hwr import command
from hwr.progress import Progress
from tinynn.backend import get_backend
from tinynn.kernels.threads import usable_cpus

FLOOR = (
    "floor: the step's multiply-adds on taps that see data, over NumPy's sgemm rate in the same "
    "turns; Winograd's kernels multiply less and may go below. Adam passes by weights that have "
    "never had a gradient, as filters' taps that see only padding"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Time the works and print the ratios."""
    p = parser(
        "step", "Time steps of tinynn and of PyTorch, turn by turn, all works if none is named.",
        rounds=5, steps=4,
    )  # fmt: skip
    p.add_argument("works", nargs="*", help=f"of {', '.join(WORKS)}")
    p.add_argument(
        "--threads", type=thread_counts, default=[usable_cpus()], help="of all; several: 1,2"
    )
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument(
        "--torch-fused", action="store_true", help="time PyTorch's fused optimisers as well"
    )
    args = p.parse_args(argv)
    names = chosen("work", args.works, list(WORKS))
    command.check_backend(args.backend)
    on_gpu = get_backend(args.backend).has_device
    optimizers = ["fused"] if on_gpu else ["default"] + ["fused"] * args.torch_fused
    report = Report(
        "step", argv, args, ["gpu"] if on_gpu else args.threads, backend=args.backend,
        torch_optimizers=optimizers,
    )  # fmt: skip
    with_torch = has_torch()
    if on_gpu:
        return gpu_step.run(args, args.works or gpu_step.NAMES, report, with_torch)
    print(f"{FLOOR}\n{head()}", flush=True)
    rows = []
    for work in (WORKS[name] for name in names):
        products = multiply_adds(work)
        for threads in args.threads:
            engines: list[Make] = [
                roofline.sgemm(threads),
                (tinynn_step, (work, threads, args.backend, args.seed)),
            ]
            if with_torch:
                engines += torch_engines(work, threads, args.seed, args.torch_fused)
            with Progress(work.name, len(engines) * args.rounds, unit="turns") as progress:
                timings = compare(engines, args.rounds, args.steps, lambda: progress.update(1))
            rows.append(as_row(work, threads, products, timings))
            print(line(rows[-1]), flush=True)
    report.save(rows, charts.step, note=FLOOR)
    return 0


def multiply_adds(work: Work) -> int:
    """Those of one step, on taps that see data."""
    calls = calls_of(lambda backend: step_of(work, backend), get_backend("numpy"))
    return sum(call.multiply_adds for call in calls)


def as_row(work: Work, threads: int, count: int, timings: list[Timing]) -> dict[str, Any]:
    """The figures of `count` multiply-adds; the first timing is sgemm's, the second ours."""
    sgemm, ours, *theirs = timings
    rate = roofline.rate(sgemm)
    floor = count / rate
    return {
        "work": work.name,
        "model": work.model,
        "options": dict(work.options),
        "batch": work.batch,
        "optimizer": work.optimizer if work.training else None,
        "threads": threads,
        "multiply_adds": count,
        "sgemm_multiply_adds_per_s": rate,
        "floor": floor,
        "over_floor": ours.median / floor,
        "ratio": ours.median / min(t.median for t in theirs) if theirs else None,
        "timings": [ours, *theirs],
    }


def head() -> str:
    """The table's first line."""
    return (
        f"{'work':22} {'threads':>7} {'tinynn ms':>10} {'(range)':>17} {'PyTorch ms':>10} "
        f"{'ratio':>6} {'floor ms':>8} {'/floor':>6} {'MiB':>11}  PyTorch's better"
    )


def line(row: dict[str, Any]) -> str:
    """One work's times, and ours over the better of PyTorch's."""
    ours, *theirs = row["timings"]
    span = f"({1e3 * ours.low:.1f}-{1e3 * ours.high:.1f})"
    memory, best_ms, ratio, which = f"{ours.peak_mib:.0f}", "", "", ""
    if theirs:
        best = min(theirs, key=lambda t: t.median)
        best_ms, ratio, which = f"{1e3 * best.median:.1f}", f"{row['ratio']:.2f}", best.label
        memory += f"/{best.peak_mib:.0f}"
    return (
        f"{row['work']:22} {row['threads']:7} {1e3 * ours.median:10.1f} {span:>17} {best_ms:>10} "
        f"{ratio:>6} {1e3 * row['floor']:8.1f} {row['over_floor']:6.2f} {memory:>11}  {which}"
    )


if __name__ == "__main__":
    command.run("benchmarks.step", main)
