"""Look inside: `python -m hwr.inspect RUN`, or `python -m hwr.inspect --plain-vs-residual`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr import checkpoint, command
from hwr.evaluate import add_run_options, opened, require_classes, split_loader
from hwr.files import write_atomic
from hwr.inspect import plain_vs_residual
from hwr.inspect.inside import look
from hwr.inspect.page import page, summary
from hwr.machine import machine
from hwr.report.style import INSTALL, installed


def parser() -> argparse.ArgumentParser:
    """The command line for a trained run."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.inspect",
        description="Look into a trained network while it reads one image: every layer's "
        "activations, what the shortcuts carry, the weights that never learn, batch norm's "
        "statistics, gradients and steps.",
        epilog=f"{plain_vs_residual.FLAG} trains networks with and without shortcuts instead, and "
        "has options of its own: add --help to see them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("run", type=Path, help="a run folder, such as runs/chi2022-resnet18")
    p.add_argument("--image", metavar="N", type=command.count(0), default=0, help="which image")
    p.add_argument(
        "--batch-size",
        metavar="N",
        type=command.count(2),
        help="images of the training step, the image first; the run's own if not given",
    )
    p.add_argument("--output-dir", metavar="DIR", type=Path, help="RUN/inspect if not given")
    add_run_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Look into a run, or train plain and residual networks."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if plain_vs_residual.FLAG in argv:
        return plain_vs_residual.main(argv)
    args = parser().parse_args(argv)
    moments = args.run / checkpoint.LAST if args.weights == "last" else None
    with opened(args.run, args) as (config, model):
        require_classes(config, "this look inside")
        dataset = split_loader(config, args.split).dataset
        size = args.batch_size or config.recipe.batch_size
        inside = look(config, model, dataset, args.image, size, moments)
    recipe = config.recipe
    values: dict[str, Any] = {"run": args.run.resolve().name, "recipe": recipe.name}
    values |= {"model": recipe.network, "seed": config.seed, "checkpoint": args.weights}
    values |= {"machine": machine(), **inside.figures()}
    folder: Path = args.output_dir or args.run / "inspect"
    about = f"{recipe.network}, trained as {recipe.name} for {recipe.epochs} epochs, seed "
    about += f"{config.seed}; the {args.weights} weights."
    document = page(inside, f"Inside {values['run']}", about)
    document.write(folder, "inside")
    text = json.dumps(values, indent=1)
    write_atomic(folder / "inside.json", text + "\n")
    if args.json:
        print(text)
        return 0
    print(*summary(inside), sep="\n")
    if not installed():
        print(f"no pictures: matplotlib is not installed; {INSTALL}", file=sys.stderr)
    print(f"page: {folder / 'inside.html'}")
    return 0


if __name__ == "__main__":
    command.run("hwr.inspect", main)
