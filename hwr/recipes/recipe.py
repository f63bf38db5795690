"""What a recipe is: one experiment of a paper, declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwr.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run but the seed.

    `claimed` is what the paper reports: test accuracy in % by number of epochs. `note` says what
    the paper leaves out and how we complete it.
    """

    name: str
    paper: str
    note: str = ""
    claimed: Mapping[int, float] = field(default_factory=dict)
    # data
    dataset: str = "mnist"
    mean: float = 0.1307  # of pixel / 255 over MNIST's training images
    std: float = 0.3081
    validation: int = 5000  # images held out of the training set
    # model
    model: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    # training
    epochs: int
    batch_size: int
    optimizer: str = "adam"
    lr: float = 1e-3  # the highest, where the schedule changes it
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.3  # share of the steps in which one-cycle rises
    label_smoothing: float = 0.0

    @property
    def network(self) -> str:
        """The model and its options, as reports show them."""
        options = ", ".join(f"{name} {value}" for name, value in self.model_options.items())
        return f"{self.model} ({options})" if options else self.model

    def claim(self) -> float | None:
        """The paper's accuracy in % for this number of epochs, or None."""
        return self.claimed.get(self.epochs)


recipes: Registry[Recipe] = Registry("recipe")


def declare(recipe: Recipe) -> Recipe:
    """Enter a recipe into the table under its name."""
    return recipes.register(recipe.name)(recipe)
