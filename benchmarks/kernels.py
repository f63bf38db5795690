"""Each kernel beside PyTorch's op and the roofline: `python -m benchmarks.kernels`.

Every kernel that the numpy backend replaces is timed: those that a training step of each ResNet-18
calls, with its shapes; the others with shapes of other networks (`other_calls.py`). `--explain
MODEL` times nothing: it shows for each layer which algorithm runs, and why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import charts, roofline
from benchmarks.calls import ArrayOf, Call
from benchmarks.compare import Engine, Facts, Step, Timing, steps_of_turn, take_turns
from benchmarks.explain import explain
from benchmarks.other_calls import calls_to_time
from benchmarks.results import Report, chosen, has_torch, parser, thread_count
from benchmarks.works import WORKS
from hwr import command
from hwr.models import models
from hwr.progress import Progress
from tinynn.backend import get_backend
from tinynn.kernels import reference, reference_ctc, reference_pool, reference_softmax
from tinynn.kernels.threads import usable_cpus

NETWORKS = ("resnet18-7x7", "resnet18-3x3")
POSITIVE = ("var", "square", "rstd", "delta", "total")


def main(argv: Sequence[str] | None = None) -> int:
    """Time every kernel, or explain the layers of a model."""
    p = parser("kernels", "Time kernels of tinynn, PyTorch's ops and the machine's limits.",
               rounds=3, steps=3)  # fmt: skip
    p.add_argument("kernels", nargs="*", help="names, such as conv2d (default: all)")
    p.add_argument("--works", nargs="+", default=NETWORKS, metavar="WORK",
                   help="whose steps' calls are timed")  # fmt: skip
    p.add_argument("--threads", type=thread_count, default=usable_cpus(), help="of all")
    p.add_argument("--backend", default="numpy", help="of tinynn")
    p.add_argument(
        "--explain", nargs="?", const="resnet18", metavar="MODEL",
        help="show which algorithm computes each layer, and why; time nothing",
    )  # fmt: skip
    p.add_argument("--batch-size", type=command.count(2), default=128, help="with --explain")
    p.add_argument("--stem", choices=["7x7", "3x3"], help="with --explain resnet18")
    p.add_argument("--width", type=command.count(1), help="with --explain resnet18")
    args = p.parse_args(argv)
    threads = args.threads
    if args.explain:
        options = {n: getattr(args, n) for n in ("stem", "width") if getattr(args, n)}
        (name,) = chosen("model", [args.explain], models.names())
        print(explain(name, args.batch_size, options))
        return 0
    command.check_backend(args.backend)
    works = [WORKS[name] for name in chosen("work", args.works, list(WORKS))]
    kernels = chosen("kernel", args.kernels, list(reference.KERNELS))
    report = Report("kernels", argv, args, [threads], backend=args.backend,
                    works=[work.name for work in works])  # fmt: skip
    timed = calls_to_time(works, kernels)
    makes: list[tuple[Any, tuple[Any, ...]]] = [(tinynn_kernel, (args.backend, args.seed, threads))]
    if has_torch():
        makes += [(torch_kernel, (last, args.seed, threads)) for last in (False, True)]
    rows, roof = measure(timed, makes, threads, args)
    report.save(
        rows, charts.kernels, sgemm_multiply_adds_per_s=roof.multiply_adds,
        copied_bytes_per_s=roof.copies,
    )  # fmt: skip
    return 0


def measure(
    calls: dict[Call, int], makes: list[tuple[Any, Any]], threads: int, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], roofline.Roofline]:
    """Time every call on every engine, and print a line each."""
    with ExitStack() as stack:
        sgemm = stack.enter_context(Engine())
        sgemm.make(roofline.sgemm(threads))
        rate = roofline.rate(*take_turns([sgemm], args.rounds, max(args.steps, 5)))
        roof = roofline.Roofline(rate, roofline.copy_rates(threads))
        print(
            f"roofline: sgemm {2e-9 * rate:.0f} GFLOP/s (multiply and add counted apart), "
            f"copy {1e-9 * roof.memory:.1f} GB/s from memory, "
            f"{1e-9 * max(roof.copies.values()):.1f} from the cache\n{head()}",
            flush=True,
        )
        engines = [stack.enter_context(Engine()) for _ in makes]
        rows = []
        with Progress("kernels", len(calls), unit="calls") as progress:
            for call, count in calls.items():
                rows.append(as_row(call, count, roof, time(call, engines, makes, args)))
                print(line(rows[-1]), flush=True)
                progress.update(1)
    for total in totals(rows):
        print(total)
    return rows, roof


def time(
    call: Call, engines: list[Engine], makes: list[tuple[Any, Any]], args: argparse.Namespace
) -> list[Timing]:
    """One call on every engine."""
    seconds = [
        engine.make((make, (call, *options))) for engine, (make, options) in zip(engines, makes)
    ]
    return take_turns(engines, args.rounds, steps_of_turn(max(seconds), args.steps))


# ---------------------------------------------------------------------------------------------
# In an engine's process
# ---------------------------------------------------------------------------------------------


def tinynn_kernel(call: Call, backend: str, seed: int, threads: int) -> tuple[Step, Facts]:
    """One call of our kernel."""
    import tinynn as tn

    tn.set_num_threads(threads)
    kernel = get_backend(backend).kernels[call.kernel]
    arguments = list(draw(call, seed).values())
    return lambda: kernel(*arguments), {"engine": "tinynn", "memory_format": "NHWC"}


def torch_kernel(call: Call, channels_last: bool, seed: int, threads: int) -> tuple[Step, Facts]:
    """PyTorch's op for one call."""
    import torch

    from benchmarks.engines import torch_facts
    from benchmarks.torch_kernels import OPS, Case

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    step = OPS[call.kernel](Case(call, draw(call, seed), layout))
    return step, torch_facts("PyTorch", channels_last)


def draw(call: Call, seed: int) -> dict[str, Any]:
    """Arguments of a call: random arrays where it has arrays."""
    rng = np.random.default_rng(seed)
    given = {name: draw_array(name, value, rng) for name, value in call.arguments}
    if call.kernel == "max_pool2d_grad":  # taps as the forward pass finds them
        x = rng.standard_normal(given["x_shape"], np.float32)
        _, given["tap"] = reference_pool.max_pool2d(x, *list(given.values())[3:])
    if call.kernel.startswith("label_cross_entropy"):
        given["labels"] = rng.integers(0, given["logits"].shape[1], len(given["logits"]))
    if call.kernel == "label_cross_entropy_grad":  # of the same logits
        names = "logits", "labels", "ignore_index", "label_smoothing"
        _, given["top"], given["total"] = reference_softmax.label_cross_entropy(
            *(given[n] for n in names)
        )
    if call.kernel.startswith("rnn"):  # states neither die out nor explode
        given["w"] /= np.sqrt(len(given["w"]))
    if call.kernel == "rnn_grad":
        given["y"] = np.tanh(given["y"])
    if call.kernel.startswith("ctc_loss"):
        given |= draw_labellings(given["log_probs"], given["targets"].shape, rng)
    if call.kernel == "ctc_loss_grad":  # of the same labellings
        labelling = list(given.values())[1:6]
        given["losses"], given["alpha"] = reference_ctc.ctc_loss(*labelling)
    return given


def draw_labellings(
    x: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Probabilities, and labels without the blank, 0; every text as long as can be."""
    (steps, samples, signs), labels = x.shape, shape[1]
    return {
        "log_probs": reference_softmax.log_softmax(x, 2),
        "targets": rng.integers(1, signs, shape),
        "input_lengths": np.full(samples, steps),
        "target_lengths": np.full(samples, labels),
    }


def draw_array(name: str, value: Any, rng: np.random.Generator) -> Any:
    """Normally distributed numbers, positive where they stand for squares; random bits."""
    if not isinstance(value, ArrayOf):
        return value
    if name in ("lr", "step"):
        return np.full(value.shape, 1e-4 if name == "lr" else 1.0)
    shape = value.shape[::-1] if value.transposed else value.shape
    if name == "bits":
        return rng.integers(0, 2**16, shape, value.dtype)
    numbers = rng.standard_normal(shape, np.float32).astype(value.dtype)
    numbers = abs(numbers) if name in POSITIVE else numbers
    return numbers.T if value.transposed else numbers


# ---------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------


def as_row(
    call: Call, count: int, roof: roofline.Roofline, timings: list[Timing]
) -> dict[str, Any]:
    """One call's figures; `calls`: how often the steps make it."""
    ours, *theirs = timings
    floor = roof.seconds(call.multiply_adds, call.bytes)
    return {
        "kernel": call.kernel,
        "call": str(call),
        "calls": count,
        "multiply_adds": call.multiply_adds,
        "bytes": call.bytes,
        "floor": floor,
        "over_floor": ours.median / floor,
        "ratio": ours.median / min(t.median for t in theirs) if theirs else None,
        "timings": timings,
    }


def head() -> str:
    """The table's first line."""
    return (
        f"{'kernel':20} {'arguments':60} {'calls':>5} {'tinynn ms':>9} {'PyTorch ms':>10} "
        f"{'ch. last':>9} {'ratio':>6} {'floor ms':>8} {'/floor':>6}"
    )


def line(row: dict[str, Any]) -> str:
    """One call's times."""
    ours, *theirs = row["timings"]
    others = [f"{1e3 * t.median:.3f}" for t in theirs] or ["", ""]
    ratio = f"{row['ratio']:.2f}" if theirs else ""
    return (
        f"{row['kernel']:20} {row['call']:60} {row['calls']:5} {1e3 * ours.median:9.3f} "
        f"{others[0]:>10} {others[1]:>9} {ratio:>6} {1e3 * row['floor']:8.3f} "
        f"{row['over_floor']:6.1f}"
    )


def totals(rows: list[dict[str, Any]]) -> list[str]:
    """For each kernel the sum over all calls of the steps, ours and PyTorch's better a call."""
    lines = []
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        mine = [row for row in rows if row["kernel"] == kernel]
        ours = sum(row["calls"] * row["timings"][0].median for row in mine)
        text = f"{kernel:20} {'all calls':60} {sum(r['calls'] for r in mine):5} {1e3 * ours:9.3f}"
        if len(mine[0]["timings"]) > 1:
            theirs = sum(r["calls"] * r["timings"][0].median / r["ratio"] for r in mine)
            text += f" {1e3 * theirs:10.3f} {'':9} {ours / theirs:6.2f}"
        lines.append(text)
    return lines


if __name__ == "__main__":
    command.run("benchmarks.kernels", main)
