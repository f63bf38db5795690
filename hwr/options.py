"""The options of `python -m hwr.train`, and the configuration that follows from them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwr import checkpoint, command, recipes
from hwr.config import OPTIMIZERS, SCHEDULES, Config
from hwr.errors import UserError
from hwr.recipes import DEFAULT, Recipe
from tinynn.backend import backend_names
from tinynn.kernels.threads import usable_cpus


def parser() -> argparse.ArgumentParser:
    """The command line. Options not typed are absent from the namespace: the recipe decides."""
    default = recipes.get(DEFAULT)
    p = argparse.ArgumentParser(
        prog="python -m hwr.train",
        description="Train a network; without options the paper's ResNet-18 on MNIST.",
        epilog="An option that is not given takes the recipe's value; the defaults shown are those "
        f"of {DEFAULT}.",
        argument_default=argparse.SUPPRESS,
    )

    def option(flag: str, shown: Any, text: str, **kind: Any) -> None:
        p.add_argument(flag, help=f"{text} (default: {shown})", **kind)

    width, stem = default.model_options["width"], default.model_options["stem"]
    option("--recipe", DEFAULT, "the experiment", metavar="NAME")
    option("--model", default.model, "the network", metavar="NAME")
    option("--stem", stem, "ResNet's first layer, 7x7 or 3x3", metavar="STEM")
    option("--width", width, "channels of the first stage", type=command.count(1), metavar="N")
    option("--epochs", default.epochs, "passes over the images", type=command.count(1), metavar="N")
    option("--batch-size", default.batch_size, "images a step", type=command.count(1), metavar="N")
    option("--optimizer", default.optimizer, f"one of {', '.join(OPTIMIZERS)}", metavar="NAME")
    option("--lr", default.lr, "learning rate, or its peak", type=command.number(0), metavar="LR")
    option("--schedule", default.schedule, f"one of {', '.join(SCHEDULES)}", metavar="NAME")
    option("--momentum", default.momentum, "of SGD", type=command.number(0, 1), metavar="M")
    option(
        "--weight-decay", default.weight_decay, "weight decay", type=command.number(0), metavar="D"
    )
    option(
        "--label-smoothing",
        default.label_smoothing,
        "share spread over all classes",
        type=command.number(0, 1),
        metavar="E",
    )
    option(
        "--validation",
        default.validation,
        "training images held out",
        type=command.count(0),
        metavar="N",
    )
    option(
        "--train-size",
        "all",
        "use only N of the training images",
        type=command.count(1),
        metavar="N",
    )
    option(
        "--limit-batches",
        "all",
        "end every epoch after N batches",
        type=command.count(1),
        metavar="N",
    )
    option("--seed", 0, "decides everything that is random", type=command.count(0), metavar="N")
    option("--backend", "numpy", f"one of {', '.join(backend_names())}", metavar="NAME")
    option(
        "--threads",
        f"{usable_cpus()}, the processors here",
        "threads the kernels use",
        type=command.count(1),
        metavar="N",
    )
    option("--data-dir", "the data inside the package", "folder of the data", metavar="DIR")
    option("--output-dir", "runs/RECIPE", "folder of this run", type=Path, metavar="DIR")
    option(
        "--resume",
        "a new run",
        "go on with an interrupted run: its folder, or auto for the latest under runs "
        "(or --output-dir)",
        metavar="PATH|auto",
    )
    option(
        "--save-every",
        120,
        "seconds between checkpoints within an epoch",
        type=command.number(0),
        metavar="S",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="show layers, sizes and memory after one step; train and write nothing",
    )
    p.add_argument("--list-recipes", action="store_true", help="show the recipes and end")
    return p


RECIPE_FIELDS = (
    "model", "epochs", "batch_size", "optimizer", "lr", "schedule", "momentum", "weight_decay",
    "label_smoothing", "validation",
)  # fmt: skip
CONFIG_FIELDS = ("seed", "backend", "threads", "train_size", "limit_batches", "data_dir")


def configure(typed: dict[str, Any]) -> Config:
    """The configuration from what was typed: the recipe, and the changes to it."""
    recipe = recipes.get(typed.get("recipe", DEFAULT))
    changes = {k: typed[k] for k in RECIPE_FIELDS if k in typed}
    options = dict(recipe.model_options)
    model = typed.get("model", recipe.model)
    if model != recipe.model:
        options = {}
    options |= {k: typed[k] for k in ("stem", "width") if k in typed}
    if model != recipe.model or options != recipe.model_options:  # no longer the paper's network
        name = "-".join([model, *map(str, options.values())])
        changes |= {"name": name, "claimed": {}, "model_options": options}
    settings = {k: typed[k] for k in CONFIG_FIELDS if k in typed}
    settings.setdefault("threads", usable_cpus())
    return Config(recipe=replace(recipe, **changes), **settings)


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, ... : the first that holds no run yet."""
    folder, n = Path("runs") / name, 1
    while (folder / checkpoint.CONFIG).exists():
        n += 1
        folder = Path("runs") / f"{name}-{n}"
    return folder


def resumed(typed: dict[str, Any]) -> tuple[Path, Config] | None:
    """The folder and configuration to go on with; None if `auto` finds nothing to go on with.

    UserError if an option was typed that differs from the run's own.
    """
    if typed["resume"] == "auto":
        where = typed.get("output_dir", Path("runs"))
        folder = checkpoint.find_unfinished(where)
        if folder is None:
            print(f"no interrupted run under {where}: starting a new one")
            return None
    else:
        folder = Path(typed["resume"])
        folder = folder.parent if folder.suffix == ".safetensors" else folder
        if not folder.is_dir():
            raise UserError(f"--resume {typed['resume']}: there is no such run folder")
    config = Config.read(folder / checkpoint.CONFIG)
    if checkpoint.progress_of(folder).get("finished"):
        raise UserError(
            f"{folder} is finished ({config.recipe.epochs} epochs); measure it by "
            f"python -m hwr.evaluate {folder}"
        )
    own = {**vars(config.recipe), **vars(config), **config.recipe.model_options}
    own["recipe"] = config.recipe.name
    for name in ("recipe", "stem", "width", *RECIPE_FIELDS, *CONFIG_FIELDS):
        if name in typed and typed[name] != own.get(name):
            raise UserError(
                f"--{name.replace('_', '-')} {typed[name]} differs from {own.get(name)} of the run "
                f"in {folder}; leave it out to resume, or start a new run without --resume"
            )
    return folder, config


def list_recipes() -> int:
    """Print every recipe with its paper, model, and the figure the paper claims."""
    for name in recipes.names():
        recipe: Recipe = recipes.get(name)
        options = ", ".join(f"{k} {v}" for k, v in recipe.model_options.items())
        claims = ", ".join(f"{a:g} % after {e} epochs" for e, a in recipe.claimed.items())
        print(f"{name}\n  {recipe.paper}")
        print(f"  {recipe.model}{f' ({options})' if options else ''} on {recipe.dataset}")
        print(f"  claimed: {claims or 'nothing'}")
        if recipe.note:
            print(f"  {recipe.note}")
    return 0
