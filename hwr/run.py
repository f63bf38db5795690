"""A training run: its parts made from a configuration, and where it stands."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import checkpoint, data
from hwr.config import (
    INITIAL_WEIGHTS,
    TRAIN_SUBSET,
    Config,
    make_ema,
    make_optimizer,
    make_schedule,
)
from hwr.data import Dataset, Loader
from hwr.data.device_loader import DeviceLoader
from hwr.errors import UserError
from hwr.evaluate import (
    arrange,
    classes_of,
    create_model,
    load_split,
    reading_loader,
    split_loader,
)
from hwr.machine import machine
from hwr.tasks import Task, tasks
from tinynn import functional as F
from tinynn.nn import Module
from tinynn.optim import EMA, Optimizer, Schedule


class Diverged(RuntimeError):
    """The loss or a weight is no longer a finite number."""


@dataclass
class Run:
    """A training run: its parts, and where it stands."""

    config: Config
    task: Task
    model: Module
    optimizer: Optimizer
    schedule: Schedule
    ema: EMA | None
    generator: np.random.Generator  # of the initial weights, then of dropout
    loader: Loader
    validation: Loader | None
    test: Loader
    step: int = 0  # updates so far
    epoch: int = 0  # epochs completed
    batch: int = 0  # batches of the present epoch completed
    loss_sum: float = 0.0  # over the images of the present epoch
    correct: int = 0  # of those images, as read while training
    images: int = 0
    best: dict[str, float] = field(default_factory=dict)
    # labels, loss and reading of the last steps, not fetched yet
    pending: list[tuple[np.ndarray, tn.Tensor, tn.Tensor]] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return epoch_batches(self.config, self.loader)

    @property
    def stale(self) -> int:
        """Epochs since the best validation result."""
        return self.epoch - int(self.best.get("epoch", self.epoch))

    @property
    def finished(self) -> bool:
        """Whether training has come to its end, early or not."""
        recipe = self.config.recipe
        return self.epoch >= recipe.epochs or 0 < recipe.patience <= self.stale

    @property
    def mean_loss(self) -> float:
        """The mean training loss of the present epoch, in nats."""
        return self.loss_sum / self.images if self.images else math.nan

    @property
    def train_accuracy(self) -> float:
        """The share of the present epoch's images read right, each as it was trained on."""
        return self.correct / self.images if self.images else math.nan

    def start_epoch(self, epoch: int) -> None:
        """Begin to count anew."""
        self.epoch, self.batch, self.loss_sum, self.correct, self.images = epoch, 0, 0.0, 0, 0

    def read_losses(self) -> None:
        """Fetch the losses of the last steps. Diverged if one is not finite."""
        if not self.pending:
            return
        batches, losses, read = zip(*self.pending)
        values = F.stack(losses).numpy().tolist()  # all at once: a GPU takes long to be asked
        readings, begin = F.cat(read).numpy(), 0
        for i, (value, labels) in enumerate(zip(values, batches)):
            if not math.isfinite(value):
                step = self.step - len(self.pending) + i + 1
                raise Diverged(f"the loss is {value} at step {step} (epoch {self.epoch + 1})")
            end = begin + len(labels)
            self.loss_sum += value * len(labels)
            self.correct += int(self.task.right(readings[begin:end], labels).sum())
            self.images += len(labels)
            begin = end
        self.pending.clear()

    def check(self) -> None:
        """Diverged unless every loss, weight and moment so far is a finite number."""
        self.read_losses()
        for name, array in {**self.model.state_dict(), **self.optimizer.state_dict()}.items():
            if not np.isfinite(array).all():
                raise Diverged(f"{name} is not finite after step {self.step}")

    def progress(self) -> dict[str, Any]:
        """Where the run stands, for the checkpoint's metadata."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "images": self.images,
            "best": self.best,
            "generator": self.generator.bit_generator.state,
            "finished": self.finished,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Continue from `progress`; weights and moments are loaded by the checkpoint."""
        for name in ("step", "epoch", "batch", "loss_sum", "correct", "images", "best"):
            setattr(self, name, progress[name])
        self.generator.bit_generator.state = progress["generator"]
        self.schedule.load_state_dict({"last_step": self.step})

    def save(self, folder: Path) -> None:
        """Write last.safetensors, unless something is not finite: then the old one stays."""
        self.check()
        checkpoint.save(
            folder / checkpoint.LAST, self.model, self.optimizer, self.ema, self.progress()
        )


def prepare(config: Config, split: str = "train") -> Run:
    """Data, model, optimiser and schedule, everything drawn from the seed.

    `split` is the part of the dataset to train on.
    """
    recipe = config.recipe
    if recipe.patience and not (recipe.validation or recipe.validation_split):
        raise UserError(
            f"--patience {recipe.patience} needs images to validate on, and --validation is 0; "
            "the test images decide nothing"
        )
    if late := [epoch for epoch in config.keep_epochs if epoch > recipe.epochs]:
        raise UserError(
            f"--keep-epochs {late[0]} is after the last epoch, {recipe.epochs}; keep earlier ones, "
            "or train longer by --epochs"
        )
    task = tasks.get(recipe.task)
    train, held_out = split_data(config, split)
    config = with_data_facts(config, train, held_out)
    test = split_loader(config, "test")  # read now: bad data must not come to light after training
    loader = training_loader(config, train)
    validation = reading_loader(recipe, held_out) if held_out else None
    generator = config.rng(INITIAL_WEIGHTS)
    model = create_model(config, generator)
    images, labels = loader.first()
    check_image(model, images)
    check_last_batch(model, images, loader, epoch_batches(config, loader))
    with tn.no_grad():  # an output or labels that are not of this task, or too long
        task.loss(model(tn.Tensor(images)), labels, label_smoothing=recipe.label_smoothing)
    config = config.with_facts(
        parameters=sum(p.size for p in model.parameters()), machine=machine()
    )
    optimizer = make_optimizer(recipe, model)
    schedule = make_schedule(recipe, optimizer, epoch_batches(config, loader) * recipe.epochs)
    ema = make_ema(recipe, model)
    return Run(config, task, model, optimizer, schedule, ema, generator, loader, validation, test)


def training_loader(config: Config, dataset: Dataset) -> Loader:
    """The batches to train on, made on the device where the backend has one that can."""
    recipe, backend = config.recipe, tn.current_backend()
    options: dict[str, Any] = {
        "seed": config.seed,
        "normalize": data.Normalize(recipe.mean, recipe.std, recipe.image_size),
        "shuffle": True,
        "synthesis": recipe.synthesis,
        "augment": recipe.augment,
    }
    if backend.has_device and DeviceLoader.fits(recipe.augment, recipe.synthesis):
        return DeviceLoader(dataset, recipe.batch_size, backend=backend, **options)
    return Loader(dataset, recipe.batch_size, **options)


def split_data(config: Config, split: str = "train") -> tuple[Dataset, Dataset | None]:
    """The images to train with, and those held out to choose the best weights by."""
    recipe = config.recipe
    found: Any = load_split(config, split)  # characters or lines: both divide alike
    kept: Any = None
    classes = classes_of(recipe, found)
    if recipe.validation_split:
        kept = load_split(config, recipe.validation_split)
    elif recipe.validation:  # whole lines, where patches are cut from lines
        found, kept = data.holdout(found, recipe.validation, config.seed)
    train = arrange(recipe, found, classes)
    held_out = None if kept is None else arrange(recipe, kept, classes)
    if config.train_size is not None:
        if config.train_size > len(train):
            raise UserError(
                f"--train-size {config.train_size} is more than the {len(train)} training images "
                f"left of {recipe.dataset} after {recipe.validation} were held out"
            )
        order = config.rng(TRAIN_SUBSET).permutation(len(train))
        train = train.subset(np.sort(order[: config.train_size]))
    return train, held_out


def with_data_facts(config: Config, train: Dataset, held_out: Dataset | None) -> Config:
    """The configuration with the data recorded. UserError if a run to resume had other data."""
    facts = {
        "classes": len(train.classes),
        "class_names": list(train.classes),
        "channels": train.images.shape[3],
        "image_size": max(train.images.shape[1:3]),
        "train_images": len(train),
        "data_note": train.note,
        "train_split": data.split_hash(train.indices),
        "validation_split": data.split_hash(held_out.indices) if held_out else None,
    }
    for name, value in facts.items():
        if config.facts.get(name, value) != value:
            raise UserError(
                f"the data have changed since the run began: {name} was {config.facts[name]}, now "
                f"it is {value}; resume with the data it began with, or start a new run"
            )
    return config.with_facts(**facts)


def check_image(model: Module, image: np.ndarray) -> None:
    """UserError if the model cannot read images of that size."""
    try:
        with tn.no_grad():
            model.eval()(tn.Tensor(image))
    except ValueError as error:
        _, h, w, _ = image.shape
        raise UserError(
            f"the model cannot read images of {h}x{w}; change --image-size ({error})"
        ) from None


def check_last_batch(model: Module, image: np.ndarray, loader: Loader, batches: int) -> None:
    """UserError if the last batch of an epoch is one image and the model cannot train on one."""
    if min(loader.batch_size, len(loader.dataset) - (batches - 1) * loader.batch_size) > 1:
        return
    try:
        copy.deepcopy(model).train()(tn.Tensor(image))
    except ValueError as error:
        raise UserError(
            f"{len(loader.dataset)} images in batches of {loader.batch_size} leave a batch of one "
            f"image, and this model cannot train on one; change --batch-size ({error})"
        ) from None


def epoch_batches(config: Config, loader: Loader) -> int:
    """Batches in an epoch, which --limit-batches may end early."""
    limit = config.limit_batches
    return len(loader) if limit is None else min(limit, len(loader))
