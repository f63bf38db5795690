"""A process that takes one training step and says so: `end_to_end` measures a start by it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.engines import tinynn_step, torch_step
from benchmarks.works import WORKS
from hwr import command

WORK = "resnet18-7x7"  # the paper's ResNet-18
DONE = "the first step is done"


def main(argv: Sequence[str] | None = None) -> int:
    """Take the step."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.first_step", description="Take one training step."
    )
    p.add_argument("engine", choices=["tinynn", "torch"])
    p.add_argument("--work", choices=list(WORKS), default=WORK)
    p.add_argument("--threads", type=command.count(1), default=1)
    p.add_argument("--seed", type=command.count(0), default=0)
    args = p.parse_args(argv)
    work = WORKS[args.work]
    if args.engine == "tinynn":
        step, _ = tinynn_step(work, args.threads, "numpy", args.seed)
    else:
        step, _ = torch_step(work, args.threads, False, True, args.seed)
    step()
    print(DONE, flush=True)
    return 0


if __name__ == "__main__":
    command.run("benchmarks.first_step", main)
