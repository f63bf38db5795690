"""Look at the data: `python -m hwr.data augment` draws what training makes of the images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwr import command, data
from hwr.data.augment import Augment
from hwr.data.picture import augmented, png
from hwr.errors import UserError
from hwr.files import write_atomic
from hwr.recipes import DEFAULT, Recipe, recipes


def parser() -> argparse.ArgumentParser:
    """The command line: a command for each thing to do with data."""
    p = argparse.ArgumentParser(prog="python -m hwr.data", description="Look at the data.")
    commands = p.add_subparsers(required=True, metavar="COMMAND")

    augment = commands.add_parser(
        "augment",
        help="draw augmented images",
        description="Draw images of each class: on the left as they are, beside them as training "
        "sees them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    augment.set_defaults(run=draw_augmented)
    augment.add_argument("--recipe", metavar="NAME", default=DEFAULT, help="the experiment")
    augment.add_argument(
        "--augment",
        metavar="WARP",
        type=command.augmentation,
        default=argparse.SUPPRESS,
        help=f"{command.AUGMENT_HELP} (default: the recipe's)",
    )
    augment.add_argument("--versions", metavar="N", type=command.count(1), default=12, help="each")
    augment.add_argument("--seed", metavar="N", type=command.count(0), default=0, help="of warps")
    augment.add_argument("--data-dir", metavar="DIR", type=Path, help="folder of the data")
    augment.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("augment.png"), help="the picture"
    )
    return p


def draw_augmented(args: argparse.Namespace) -> int:
    """Write the picture of what an augmentation does. UserError if the recipe has none."""
    recipe: Recipe = recipes.get(args.recipe)
    augment: Augment | None = getattr(args, "augment", recipe.augment)
    if augment is None:
        raise UserError(
            f"{recipe.name} trains on the images as they are; name another --recipe, or say what "
            "to draw, such as --augment affine"
        )
    train = data.load(recipe.dataset, split="train", data_dir=args.data_dir)
    picture = augmented(train, augment, args.versions, args.seed)
    write_atomic(args.output, png(picture))
    print(f"{args.output}: {len(np.unique(train.labels))} classes of {train.name}, {augment}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    args = parser().parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    command.run("hwr.data", main)
