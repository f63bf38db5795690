"""The configuration of one run: a recipe with the user's changes, and where and how it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from hwr.data.augment import Augment
from hwr.data.lines import Canvas, Patches
from hwr.data.synthesis import Synthesis
from hwr.errors import UserError, unknown_name
from hwr.recipes import Recipe
from tinynn import optim
from tinynn.nn import Module
from tinynn.optim import EMA, Optimizer, Schedule

T = TypeVar("T")

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "adadelta": optim.Adadelta,
}
BUILT: dict[str, type[Any]] = {  # what of a recipe is not plain JSON
    "augment": Augment,
    "synthesis": Synthesis,
    "canvas": Canvas,
    "patches": Patches,
}
SCHEDULES = ("constant", "one-cycle", "cosine", "step", "exponential")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a run was: written to its folder's config.json, and enough to do it again."""

    recipe: Recipe
    seed: int = 0
    backend: str = "numpy"
    threads: int = 1
    amp: bool = False  # products on a GPU in bf16
    capture: bool = True  # on a GPU record the training step as one graph
    train_size: int | None = None  # use only so many of the training images
    limit_batches: int | None = None  # stop every epoch after so many batches
    data_dir: str | None = None
    initial_weights: str | None = None  # the run folder whose weights this one begins with
    keep_epochs: list[int] = field(default_factory=list)  # keep and test the weights after these
    facts: dict[str, Any] = field(default_factory=dict)  # parameters, splits, machine, commit

    def with_facts(self, **facts: Any) -> Config:
        """The same with more recorded about it."""
        return replace(self, facts={**self.facts, **facts})

    def to_json(self) -> str:
        """Indented JSON, as config.json holds it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def read(path: Path) -> Config:
        """Read a config.json. UserError if it is missing or damaged."""
        try:
            values = json.loads(path.read_text("utf-8"))
            recipe = values["recipe"]
            recipe["claimed"] = {int(k): v for k, v in recipe["claimed"].items()}
            for name, kind in BUILT.items():
                if recipe.get(name) is not None:
                    recipe[name] = build(kind, recipe[name])
            values["recipe"] = build(Recipe, recipe)
            config = build(Config, values)
            if missing := {"classes", "class_names"} - config.facts.keys():
                raise KeyError(f"facts lack {' and '.join(sorted(missing))}")
            return config
        except FileNotFoundError:
            raise UserError(
                f"{path}: there is no such file; a run folder holds config.json and "
                "last.safetensors; see the folders under runs/"
            ) from None
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise UserError(
                f"{path}: not the configuration of a run ({error}); the file is damaged: put back "
                "a copy, or train again"
            ) from None

    def rng(self, stream: int) -> np.random.Generator:
        """A generator for one purpose. The loader uses [seed, epoch] and [seed, epoch, batch]."""
        return np.random.default_rng([self.seed, 0, 0, stream])


def build(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from what JSON made of it. TypeError for a wrong field or type of value."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            raise TypeError(f"{name} is {value!r}, expected {hints[name]}")
    return kind(**values)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type such as int, float, str, `int | None` or Mapping[str, Any]."""
    kind = get_origin(hint) or hint
    if kind is UnionType:
        return any(fits(value, option) for option in get_args(hint))
    if kind is tuple:  # JSON made a list of it
        return isinstance(value, (list, tuple)) and all(map(fits, value, get_args(hint)))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


INITIAL_WEIGHTS, TRAIN_SUBSET = 2, 3  # streams of Config.rng; 1 is the held-out part's


def make_optimizer(recipe: Recipe, model: Module) -> Optimizer:
    """The recipe's optimiser over the model's parameters."""
    if recipe.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        options["momentum"] = recipe.momentum
    return OPTIMIZERS[recipe.optimizer](model.parameters(), **options)


def make_schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> Schedule:
    """The recipe's schedule over `steps` updates in all."""
    per_epoch = max(1, steps // max(1, recipe.epochs))
    match recipe.schedule:
        case "constant":
            return optim.ConstantLR(optimizer)
        case "one-cycle":
            return optim.OneCycleLR(optimizer, recipe.lr, steps, pct_start=recipe.warmup)
        case "cosine":
            return optim.CosineAnnealingLR(optimizer, steps)
        case "step":  # a tenth after each third
            return optim.StepLR(optimizer, max(1, steps // 3))
        case "exponential":  # nine tenths an epoch
            return optim.ExponentialLR(optimizer, 0.9 ** (1 / per_epoch))
    raise unknown_name("schedule", recipe.schedule, SCHEDULES)


def make_ema(recipe: Recipe, model: Module) -> EMA | None:
    """The recipe's average of the model's weights, if it keeps one."""
    if not 0 <= recipe.ema_decay < 1:
        raise UserError(
            f"--ema-decay {recipe.ema_decay:g} is not from 0 to below 1; 0.999 is usual, and 1 "
            "would never learn"
        )
    return EMA(model, recipe.ema_decay) if recipe.ema_decay else None
