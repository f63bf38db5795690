"""What a recipe is: one experiment of a paper, declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwr.data.augment import Augment
from hwr.data.lines import Canvas, Patches
from hwr.data.synthesis import Synthesis
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
    image_size: int | None = None  # pixels a side, by a black border; None: as they are
    synthesis: Synthesis | None = None  # strings made of the images
    canvas: Canvas | None = None  # of images of strings: each whole, at one size
    patches: Patches | None = None  # of images of strings: cut from each
    augment: Augment | None = None  # warps of the training images
    validation: int = 5000  # images held out of the training set
    validation_split: str = ""  # the dataset's own part to validate on, instead
    # model
    model: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    # training
    pretraining: str = ""  # the recipe whose trained weights this one begins with
    task: str = "classification"  # or "classification-mse", "strings"
    epochs: int
    batch_size: int
    optimizer: str = "adam"
    lr: float = 1e-3  # the highest, where the schedule changes it
    momentum: float = 0.0  # SGD only
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.3  # share of the steps in which one-cycle rises
    label_smoothing: float = 0.0
    ema_decay: float = 0.0  # of the average of the weights that is measured and kept; 0: none
    patience: int = 0  # epochs without a better validation result before training ends; 0: no end

    @property
    def network(self) -> str:
        """The model and its options, as reports show them."""
        options = ", ".join(f"{name} {value}" for name, value in self.model_options.items())
        return f"{self.model} ({options})" if options else self.model

    @property
    def refinements(self) -> str:
        """What is done beyond plain training, as reports show it; empty if nothing."""
        named = {
            "synthesis": self.synthesis,
            "canvas": self.canvas,
            "patches": self.patches,
            "image size": self.image_size,
            "augmentation": self.augment,
            "label smoothing": self.label_smoothing,
            "average of the weights": self.ema_decay,
            "early stopping after": self.patience,
            "begins with the weights of": self.pretraining,
        }
        return "; ".join(f"{name} {value}" for name, value in named.items() if value)

    def claim(self) -> float | None:
        """The paper's accuracy in % for this number of epochs, or None."""
        return self.claimed.get(self.epochs)


recipes: Registry[Recipe] = Registry("recipe")


def declare(recipe: Recipe) -> Recipe:
    """Enter a recipe into the table under its name."""
    return recipes.register(recipe.name)(recipe)
