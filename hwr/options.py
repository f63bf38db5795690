"""The options of `python -m hwr.train`, and the configuration that follows from them."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr import checkpoint
from hwr.command import AUGMENT_HELP, add_allow_reference, augmentation, count, number
from hwr.config import OPTIMIZERS, SCHEDULES, Config
from hwr.data import datasets
from hwr.errors import UserError
from hwr.evaluate import arrange, classes_of, load_split
from hwr.recipes import DEFAULT, Recipe, recipes
from hwr.tasks import tasks
from tinynn.backend import backend_names
from tinynn.kernels.threads import usable_cpus

RUNS = Path("runs")
RECIPE_FIELDS = (
    "dataset", "model", "task", "epochs", "batch_size", "optimizer", "lr", "schedule", "momentum",
    "weight_decay", "label_smoothing", "ema_decay", "validation", "patience", "augment",
    "image_size", "mean", "std",
)  # fmt: skip
CONFIG_FIELDS = (
    "seed", "backend", "threads", "train_size", "limit_batches", "data_dir", "initial_weights",
    "keep_epochs", "amp", "capture",
)  # fmt: skip
ANYWHERE = "backend", "threads", "capture"  # may differ in a run resumed: on another machine
MODEL_OPTIONS = ("stem", "width")


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

    def option(
        flag: str, value: str, shown: Any, text: str, parse: Callable[[str], Any] = str
    ) -> None:
        p.add_argument(flag, metavar=value, type=parse, help=f"{text} (default: {shown})")

    width, stem = default.model_options["width"], default.model_options["stem"]
    smoothing = default.label_smoothing
    cpus = f"{usable_cpus()}, the processors here"
    option("--recipe", "NAME", DEFAULT, "the experiment; --list-recipes shows them")
    option("--model", "NAME", default.model, "the network")
    option("--dataset", "NAME", default.dataset, "the images; python -m hwr.data list shows them")
    option("--stem", "STEM", stem, "ResNet's first layer, 7x7 or 3x3")
    option("--width", "N", width, "channels of the first stage", count(1))
    p.add_argument(
        "--model-option",
        metavar="NAME=VALUE",
        type=model_option,
        action="append",
        help="another option of the network, such as layers=4; may be repeated (default: none)",
    )
    option(
        "--task", "NAME", default.task, f"what is learnt by which loss: {', '.join(tasks.names())}"
    )
    option("--epochs", "N", default.epochs, "passes over the images", count(1))
    option("--batch-size", "N", default.batch_size, "images a step", count(1))
    option("--optimizer", "NAME", default.optimizer, f"one of {', '.join(OPTIMIZERS)}")
    option("--lr", "LR", default.lr, "learning rate, or its peak", number(0))
    option("--schedule", "NAME", default.schedule, f"one of {', '.join(SCHEDULES)}")
    option("--momentum", "M", default.momentum, "of SGD", number(0, 1))
    option("--weight-decay", "D", default.weight_decay, "weight decay", number(0))
    option("--label-smoothing", "E", smoothing, "share spread over all classes", number(0, 1))
    option("--ema-decay", "D", default.ema_decay, "measure an average of the weights", number(0, 1))
    option("--validation", "N", default.validation, "training images held out", count(0))
    option(
        "--patience",
        "N",
        default.patience,
        "epochs without improvement, then stop (0: never)",
        count(0),
    )
    option("--augment", "WARP", "none", AUGMENT_HELP, augmentation)
    option("--image-size", "N", "as they are", "pad the images to N by N pixels", count(1))
    option("--mean", "M", default.mean, "subtracted from pixels / 255", number(0, 1))
    option("--std", "S", default.std, "what is left is divided by this", number(0))
    option(
        "--initial-weights",
        "RUN",
        "random, or runs/NAME of the recipe's pretraining",
        "begin with the weights of a trained run: fine-tuning",
        absolute,
    )
    option("--train-size", "N", "all", "use only N of the training images", count(1))
    option("--limit-batches", "N", "all", "end every epoch after N batches", count(1))
    option("--keep-epochs", "N,N", "none", "keep and test the weights after these, too", epochs)
    option("--seed", "N", 0, "decides everything that is random", count(0))
    option("--backend", "NAME", "numpy", f"one of {', '.join(backend_names())}")
    option("--threads", "N", cpus, "threads the kernels use", count(1))
    option("--data-dir", "DIR", "HWR_DATA, else the user's cache", "folder of the data", absolute)
    option("--output-dir", "DIR", RUNS / "RECIPE", "folder of this run", Path)
    option(
        "--resume",
        "PATH|auto",
        "a new run",
        f"go on with an interrupted run: its folder, or auto for the latest under {RUNS} "
        "(or --output-dir)",
    )
    option("--save-every", "S", 120, "seconds between checkpoints within an epoch", number(0))
    p.add_argument(
        "--amp",
        action="store_true",
        help="on a GPU multiply in bf16; sums, weights and the loss stay float32",
    )
    add_allow_reference(p)
    p.add_argument(
        "--no-capture",
        dest="capture",
        action="store_false",
        help="on a GPU launch every kernel of a step, rather than one graph recorded of it",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="show layers, sizes and memory after one step; train and write nothing",
    )
    p.add_argument("--list-recipes", action="store_true", help="show the recipes and end")
    return p


def absolute(text: str) -> str:
    """The path from the root, so that a run finds its data from every folder."""
    return str(Path(text).absolute())


def model_option(text: str) -> tuple[str, Any]:
    """An argument type: an option of the network and its value, in JSON or a plain word."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def epochs(text: str) -> list[int]:
    """An argument type: numbers of epochs, as in 5,10."""
    return sorted({count(1)(part) for part in text.split(",")})


def configure(typed: dict[str, Any]) -> Config:
    """The configuration from what was typed: the recipe, and the changes to it."""
    recipe = recipes.get(typed.get("recipe", DEFAULT))
    changes = {name: typed[name] for name in RECIPE_FIELDS if name in typed}
    model = typed.get("model", recipe.model)
    options = dict(recipe.model_options) if model == recipe.model else {}
    options |= typed_options(typed)
    if model != recipe.model or options != recipe.model_options:  # no longer the paper's network
        name = "-".join([model, *map(str, options.values())])
        changes |= {"name": name, "paper": f"no paper's: {recipe.name} with another network"}
        changes |= {"note": "", "claimed": {}, "model_options": options}
    if typed.get("dataset", recipe.dataset) != recipe.dataset:
        recipe = on_dataset(replace(recipe, **changes), typed)
    else:
        recipe = replace(recipe, **changes)
    if "momentum" in typed and recipe.optimizer != "sgd":
        raise UserError(
            f"--momentum {typed['momentum']:g} is for SGD, but the optimizer is "
            f"{recipe.optimizer}; add --optimizer sgd, or leave --momentum out"
        )
    settings = {name: typed[name] for name in CONFIG_FIELDS if name in typed}
    settings.setdefault("threads", usable_cpus())
    if recipe.pretraining:
        settings.setdefault("initial_weights", absolute(str(RUNS / recipe.pretraining)))
    return Config(recipe=recipe, facts={"recipe": typed.get("recipe", DEFAULT)}, **settings)


def typed_options(typed: dict[str, Any]) -> dict[str, Any]:
    """The options of the network among what was typed."""
    named = {name: typed[name] for name in MODEL_OPTIONS if name in typed}
    return named | dict(typed.get("model_option", []))


def on_dataset(recipe: Recipe, typed: dict[str, Any]) -> Recipe:
    """The recipe on another dataset than its own, as far as the options typed leave it open.

    Mean and standard deviation become those of that dataset's training images, unless the recipe
    takes plain pixels / 255. No more than a tenth of them is held out, and a tenth where the
    recipe validates on a part that this dataset has not. A smaller image size than theirs is
    dropped. And no paper claims anything about it.
    """
    entry = datasets.get(recipe.dataset)
    found = load_split(Config(recipe=recipe, data_dir=typed.get("data_dir")), "train")
    train = arrange(recipe, found, classes_of(recipe, found))
    changes: dict[str, Any] = {
        "name": f"{recipe.name}-{recipe.dataset}",
        "paper": f"no paper's: {recipe.name} on {recipe.dataset}",
        "claimed": {},
        "validation": min(recipe.validation, len(found) // 10),
    }
    if recipe.validation_split and recipe.validation_split not in entry.splits:
        changes |= {"validation_split": "", "validation": len(found) // 10}
    if (recipe.mean, recipe.std) != (0, 1):
        changes |= mean_and_std(train.images)
    if recipe.image_size is not None and recipe.image_size < max(train.images.shape[1:3]):
        changes["image_size"] = None
    typed_fields = set(typed) - {"dataset"}
    return replace(recipe, **{k: v for k, v in changes.items() if k not in typed_fields})


def mean_and_std(images: NDArray[np.uint8]) -> dict[str, float]:
    """Of pixel / 255, to four places."""
    counts, levels = np.zeros(256, np.int64), np.arange(256) / 255
    for image in images:  # one by one: counting takes eight bytes a pixel
        counts += np.bincount(image.ravel(), minlength=256)
    mean = float(counts @ levels / images.size)
    std = math.sqrt(float(counts @ (levels - mean) ** 2 / images.size))
    return {"mean": round(mean, 4), "std": max(round(std, 4), 1e-4)}


def free_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, ... : the first that holds no run yet."""
    folder, n = RUNS / name, 1
    while (folder / checkpoint.CONFIG).exists():
        n += 1
        folder = RUNS / f"{name}-{n}"
    return folder


def resumed(typed: dict[str, Any]) -> tuple[Path, Config] | None:
    """The folder and configuration to go on with; None if `auto` finds nothing to go on with.

    UserError if the run is finished, or an option was typed that differs from the run's own.
    """
    if typed["resume"] == "auto":
        where = typed.get("output_dir", RUNS)
        folder = checkpoint.find_unfinished(where)
        if folder is None:
            print(f"no interrupted run under {where}: starting a new one")
            return None
    else:
        folder = Path(typed["resume"])
        folder = folder.parent if folder.suffix == ".safetensors" else folder
        if not folder.is_dir():
            raise UserError(f"--resume {typed['resume']}: there is no such run folder")
        if typed.get("output_dir", folder).resolve() != folder.resolve():
            raise UserError(
                f"--output-dir {typed['output_dir']} differs from --resume {folder}; a resumed run "
                "stays in its folder: leave --output-dir out"
            )
    config = Config.read(folder / checkpoint.CONFIG)
    progress = checkpoint.progress_of(folder)
    if progress.get("finished"):
        raise UserError(
            f"{folder} is finished, epoch {progress['epoch']} was its last; measure it by "
            f"python -m hwr.evaluate {folder}"
        )
    check_same(typed, config, folder)
    if typed.get("backend", config.backend) != config.backend:
        print(f"on backend {typed['backend']} the run goes on, but not bit for bit as on its own")
    return folder, replace(config, **{name: typed[name] for name in ANYWHERE if name in typed})


def check_same(typed: dict[str, Any], config: Config, folder: Path) -> None:
    """UserError if an option was typed that differs from the run's own, and may not."""
    own = {**vars(config.recipe), **vars(config), **config.recipe.model_options}
    own["recipe"] = config.facts.get("recipe")
    wanted = {name: typed[name] for name in ("recipe", *RECIPE_FIELDS, *CONFIG_FIELDS)
              if name in typed and name not in ANYWHERE}  # fmt: skip
    for name, value in (wanted | typed_options(typed)).items():
        if value != own.get(name):
            raise UserError(
                f"--{name.replace('_', '-')} {value} differs from {own.get(name)} of the run "
                f"in {folder}; leave it out to resume, or start a new run without --resume"
            )
