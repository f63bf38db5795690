"""Everything that is measured on one run: an image read, and a batch as a training step sees it."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import checkpoint
from hwr.config import Config, make_optimizer
from hwr.data import Dataset, Normalize
from hwr.errors import UserError
from hwr.evaluate import load_classes
from hwr.inspect.activations import Activation, activations
from hwr.inspect.batch_norm import Statistics, statistics
from hwr.inspect.shortcuts import Shortcut, measure, opened
from hwr.inspect.taps import Taps, taps, weights_of
from hwr.inspect.updates import Update, updates
from hwr.summary import recording
from tinynn import functional as F
from tinynn import nn
from tinynn.nn import Module

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class Image:
    """The image that was read: its place in its split, what it is, and what it was read as."""

    split: str
    index: int
    label: str
    read_as: str
    probability: float
    loss: float  # nats


@dataclass(frozen=True, eq=False)
class Batch:
    """A training step on a batch, on a copy of the model: `shortcuts` in training mode, the taps,
    batch norms, and the step itself with learning rate `lr`."""

    size: int
    loss: float  # nats
    lr: float
    shortcuts: list[Shortcut]
    taps: list[Taps]
    statistics: list[Statistics]
    updates: list[Update]


@dataclass(frozen=True, eq=False)
class Inside:
    """All of it. `weights` are those that multiply, of which `dead` never receive a gradient."""

    image: Image
    activations: list[Activation]
    shortcuts: list[Shortcut]
    batch: Batch
    weights: int

    @property
    def dead(self) -> int:
        """Weights on taps that only ever see padding."""
        return sum(each.dead for each in self.batch.taps)

    def figures(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        batch = self.batch
        return {
            "image": asdict(self.image),
            "activations": [each.figures() for each in self.activations],
            "shortcuts": [asdict(each) | {"share": each.share} for each in self.shortcuts],
            "weights": self.weights,
            "dead_weights": self.dead,
            "batch": {
                "size": batch.size,
                "loss": batch.loss,
                "lr": batch.lr,
                "shortcuts": [asdict(each) | {"share": each.share} for each in batch.shortcuts],
                "taps": [asdict(each) for each in batch.taps],
                "batch_norms": [each.figures() for each in batch.statistics],
                "updates": [asdict(each) | {"ratio": each.ratio} for each in batch.updates],
            },
        }


def look(
    config: Config, model: Module, dataset: Dataset, index: int, size: int, moments: Path | None
) -> Inside:
    """Look into a trained model as it reads image `index`, and as it trains on `size` images.

    The batch is the image and those that follow it, none of them warped. `moments` is the
    checkpoint that holds the optimiser's moments, None to begin with none. UserError for an index
    out of range. The model is left as it was.
    """
    if not 0 <= index < len(dataset):
        raise UserError(
            f"--image {index}: {dataset.name} {dataset.split} has the images 0 to "
            f"{len(dataset) - 1}"
        )
    recipe = config.recipe
    normalize = Normalize(recipe.mean, recipe.std, recipe.image_size)
    indices = (index + np.arange(min(size, len(dataset)))) % len(dataset)
    images, labels = normalize(dataset.images[indices]), dataset.labels[indices]
    found, logits = activations(model, images[:1])
    image = described(dataset, index, logits, load_classes(config))
    batch = trained_on(config, model, images, labels, moments)
    return Inside(image, found, passed(model, images[:1], labels[:1]), batch, weights_of(model))


def described(dataset: Dataset, index: int, logits: tn.Tensor, names: list[str]) -> Image:
    """What an image was read as."""
    log_probabilities = F.log_softmax(logits, 1).numpy()[0]
    label, read_as = int(dataset.labels[index]), int(log_probabilities.argmax())
    probability, loss = float(np.exp(log_probabilities[read_as])), -float(log_probabilities[label])
    return Image(dataset.split, index, names[label], names[read_as], probability, loss)


def passed(model: Module, images: np.ndarray, labels: np.ndarray) -> list[Shortcut]:
    """The blocks' figures in evaluation mode. Parameters keep no gradient."""
    with opened(model.eval()) as passages:
        F.cross_entropy(model(tn.Tensor(images)), labels).backward()
    model.zero_grad()
    return [measure(*each) for each in passages.items()]


def trained_on(
    config: Config, model: Module, images: np.ndarray, labels: np.ndarray, moments: Path | None
) -> Batch:
    """One training step on a copy of the model, at the recipe's learning rate."""
    recipe, twin = config.recipe, copy.deepcopy(model).train()
    optimizer = make_optimizer(recipe, twin)
    if moments is not None:
        checkpoint.load(moments, twin, optimizer)
    for group in optimizer.param_groups:
        group.lr = recipe.lr
    originals = dict(model.named_modules())
    norms: list[Statistics] = []
    inputs: dict[str, tuple[nn.Conv2d, tuple[int, ...]]] = {}

    def note(name: str, module: Module, x: Any, y: Any) -> None:
        if isinstance(module, BatchNorm) and module.running_mean is not None:
            norms.append(statistics(name, originals[name], x))  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv2d):
            inputs[name] = module, x.shape

    with opened(twin) as passages, recording(twin, note):
        loss = F.cross_entropy(
            twin(tn.Tensor(images)), labels, label_smoothing=recipe.label_smoothing
        )
        loss.backward()
    return Batch(
        len(labels),
        float(loss.item()),
        recipe.lr,
        [measure(*each) for each in passages.items()],
        [taps(name, *each) for name, each in inputs.items()],
        norms,
        updates(twin, optimizer),
    )
