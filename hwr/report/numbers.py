"""A finished look at a run, and all its numbers as report.json holds them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwr import checkpoint
from hwr.config import Config
from hwr.data import Loader
from hwr.errors import UserError
from hwr.evaluate import read, split_loader
from hwr.readings import Readings
from hwr.report import measure
from hwr.statistics import wilson_interval
from tinynn.nn import Module


@dataclass(frozen=True)
class Look:
    """A run, one of its checkpoints, and what the model made of the images of a split."""

    folder: Path
    weights: str  # last or best
    config: Config
    model: Module
    loader: Loader
    readings: Readings
    progress: dict[str, Any]  # where training stands
    epochs: list[dict[str, Any]]  # lines of metrics.jsonl

    @property
    def names(self) -> list[str]:
        """The names of the classes."""
        return list(self.config.facts["class_names"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images as the model reads them."""
        _, h, w, c = self.loader.normalize(self.loader.dataset.images[:1]).shape
        return h, w, c

    @property
    def epoch(self) -> int:
        """The epoch that the weights are of."""
        best = self.progress.get("best", {}).get("epoch", 0)
        return int(best if self.weights == "best" else self.progress.get("epoch", 0))

    @property
    def deviations(self) -> list[str]:
        """Why the figures of this run are not to be held against the recipe's, if they are not."""
        config, done = self.config, self.progress.get("epoch", 0)
        named = {
            f"training has not finished: {done} of {config.recipe.epochs} epochs are done":
                not self.progress.get("finished"),
            f"only {config.train_size or 0:,} of the training images were used":
                config.train_size is not None,
            f"every epoch ended after {config.limit_batches} batches":
                config.limit_batches is not None,
        }  # fmt: skip
        return [sentence for sentence, applies in named.items() if applies]


def look(folder: Path, weights: str, split: str, config: Config, model: Module) -> Look:
    """Read every image of a split. UserError if the data are not those the run tells apart."""
    loader = split_loader(config, split)
    if list(loader.dataset.classes) != list(config.facts["class_names"]):
        raise UserError(
            f"{folder} tells {len(config.facts['class_names'])} classes apart, but "
            f"{loader.dataset.name} has {len(loader.dataset.classes)} or others; choose the "
            "--data-dir the run was trained on"
        )
    readings = read(model, loader, f"reading the {split} images")
    if not np.isfinite(readings.log_probabilities).all():
        raise UserError(
            f"{folder / weights}.safetensors: the model's outputs are not finite numbers; train "
            "again with a lower --lr"
        )
    progress, epochs = checkpoint.progress_of(folder), checkpoint.epochs(folder)
    return Look(folder, weights, config, model, loader, readings, progress, epochs)


def numbers(seen: Look) -> dict[str, Any]:
    """Everything that report.json holds."""
    readings, config, dataset = seen.readings, seen.config, seen.loader.dataset
    right, total = int(readings.right.sum()), len(readings)
    scores = measure.per_class(readings.confusion, seen.names)
    bins = measure.reliability(readings)
    return {
        "run": seen.folder.resolve().name,
        "weights": seen.weights,
        "split": dataset.split,
        "recipe": config.recipe.name,
        "claimed": config.recipe.claim(),
        "deviations": seen.deviations,
        "accuracy": right / total,
        "interval": wilson_interval(right, total),
        "correct": right,
        "total": total,
        "loss": readings.loss,
        "brier": measure.brier(readings),
        "doubted_labels": doubted(seen),
        "classes": seen.names,
        "confusion": readings.confusion.tolist(),
        "confusion_rates": measure.rates(readings.confusion).tolist(),
        "per_class": [asdict(score) for score in scores],
        "macro": asdict(measure.macro(scores)),
        "calibration": {
            "definition": measure.CALIBRATION,
            "error": measure.calibration_error(bins),
            "bins": [asdict(each) for each in bins],
        },
        "mistakes": [asdict(each) for each in measure.mistakes(readings, dataset.doubted)],
        "epochs": seen.epochs,
        "config": asdict(config),
    }


def doubted(seen: Look) -> dict[str, Any] | None:
    """The accuracy with what people see in place of labels they doubt; None if they doubt none."""
    labels = seen.loader.dataset.doubted
    if not labels:
        return None
    right, total = measure.as_people_see(seen.readings, labels)
    return {
        "indices": list(labels),
        "people_see": list(labels.values()),
        "accuracy": right / total,
        "interval": wilson_interval(right, total),
        "correct": right,
        "total": total,
    }
