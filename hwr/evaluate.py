"""Measure a trained run: `python -m hwr.evaluate runs/<name>`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import checkpoint, command, data, models
from hwr.config import Config
from hwr.data import Loader
from hwr.data.augment import VIEWS
from hwr.data.loader import Augment
from hwr.errors import UserError
from hwr.progress import Progress
from hwr.readings import Readings
from hwr.statistics import describe_accuracy, wilson_interval
from tinynn import functional as F
from tinynn.kernels.threads import usable_cpus
from tinynn.nn import Module

BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a dataset.

    `loss` is the mean cross-entropy in nats; `confusion[t, p]` counts images of class t read as p.
    """

    loss: float
    confusion: np.ndarray  # (classes, classes) int64

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of images read right."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The share read right, from 0 to 1."""
        return self.correct / self.total


def evaluate(
    model: Module, loader: Loader, label: str = "evaluating", *, views: Sequence[Loader] = ()
) -> Evaluation:
    """Read every image as `read` does, and keep the loss and the confusion matrix."""
    readings = read(model, loader, label, views=views)
    return Evaluation(readings.loss, readings.confusion)


@tn.no_grad()
@np.errstate(all="ignore")  # weights near the largest number overflow; the loss shows it
def read(
    model: Module, loader: Loader, label: str = "reading", *, views: Sequence[Loader] = ()
) -> Readings:
    """Read every image of a loader in evaluation mode.

    `views` load the same images in other forms; the probabilities of all the forms are averaged.
    """
    model.eval()
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    with Progress(label, len(loader.dataset)) as progress:
        for (images, labels), *more in zip(*(each.epoch(0) for each in (loader, *views))):
            logits = model(tn.Tensor(images))
            if more:
                forms = [logits, *(model(tn.Tensor(form)) for form, _ in more)]
                mean = F.stack([F.softmax(each, 1) for each in forms]).mean(0)
                logits = mean.clip(min=1e-37).log()  # no logarithm of 0
            parts.append((F.log_softmax(logits, 1).numpy(), labels))
            progress.update(len(labels))
    log_probabilities, labels = map(np.concatenate, zip(*parts))
    return Readings(log_probabilities, labels)


def split_loader(config: Config, split: str, augment: Augment | None = None) -> Loader:
    """The batches of one split ("train" or "test"), prepared as the run prepared its images."""
    recipe = config.recipe
    folder = Path(config.data_dir) if config.data_dir else None
    dataset = data.load(recipe.dataset, split=split, data_dir=folder)
    normalize = data.Normalize(recipe.mean, recipe.std, recipe.image_size)
    return Loader(dataset, BATCH, seed=config.seed, normalize=normalize, augment=augment)


def load_run(folder: Path, weights: str = checkpoint.LAST) -> tuple[Config, Module]:
    """The configuration of a run and its trained model. UserError if either is not right."""
    config = read_config(folder)
    model = create_model(config)
    checkpoint.load(folder / weights, model)
    return config, model


def read_config(folder: Path) -> Config:
    """The configuration of a run. UserError if the folder is not one of a run."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a run folder; train one first: python -m hwr.train")
    return Config.read(folder / checkpoint.CONFIG)


def create_model(config: Config, generator: np.random.Generator | None = None) -> Module:
    """The run's model, with fresh weights."""
    recipe = config.recipe
    names = "classes", "channels"
    sizes: dict[str, Any] = {name: config.facts[name] for name in names if name in config.facts}
    size = recipe.image_size or config.facts.get("image_size")
    if size is not None and "size" in models.options_of(recipe.model):
        sizes["size"] = size
    return models.create(recipe.model, generator=generator, **(sizes | dict(recipe.model_options)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.evaluate",
        description="Measure the test accuracy of a trained run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("run", type=Path, help="a run folder, such as runs/chi2022-resnet18")
    add_run_options(p)
    p.add_argument(
        "--tta",
        choices=list(VIEWS),
        help="test-time augmentation: read each image in several forms and average the "
        "probabilities",
    )
    return p


def add_run_options(p: argparse.ArgumentParser) -> None:
    """The options of every command that looks at a run; `opened` obeys them."""
    p.add_argument("--weights", default="last", help="which checkpoint: last, best or epoch-N")
    p.add_argument("--split", choices=["test", "train"], default="test", help="which images")
    p.add_argument("--backend", help="numpy, reference or cupy; the run's own if not given")
    p.add_argument("--data-dir", help="folder of the data; the run's own if not given")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


@contextmanager
def opened(folder: Path, args: argparse.Namespace) -> Iterator[tuple[Config, Module]]:
    """A run as `add_run_options` say; within the block its backend is the current one."""
    config = read_config(folder)
    backend = args.backend or config.backend
    command.check_backend(backend)
    command.set_threads(min(config.threads, usable_cpus()))  # as in training, for the same bits
    with tn.use_backend(backend):
        config, model = load_run(folder, f"{args.weights}.safetensors")
        if args.data_dir:
            config = replace(config, data_dir=args.data_dir)
        yield config, model


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a run folder and print the result."""
    args = parser().parse_args(argv)
    with opened(args.run, args) as (config, model):
        first, *views = (
            split_loader(config, args.split, view) for view in VIEWS.get(args.tta, [None])
        )
        result = evaluate(model, first, views=views)
    report(args, config, result)
    return 0


def report(args: argparse.Namespace, config: Config, result: Evaluation) -> None:
    """Print the accuracy with its interval, or everything as JSON."""
    if args.json:
        interval = wilson_interval(result.correct, result.total)
        values = {
            "run": str(args.run),
            "weights": args.weights,
            "split": args.split,
            "tta": args.tta,
            "accuracy": result.accuracy,
            "interval": interval,
            "correct": result.correct,
            "total": result.total,
            "loss": result.loss,
            "confusion": result.confusion.tolist(),
        }
        print(json.dumps(values))
        return
    if args.tta:
        print(f"test-time augmentation: {args.tta}, the mean of {len(VIEWS[args.tta])} readings")
    print(f"{args.split} accuracy {describe_accuracy(result.correct, result.total)}")
    print(f"{args.split} loss {result.loss:.4f} nats")
    claim = config.recipe.claim()
    if claim is not None and args.split == "test":
        print(f"the paper reports {claim:.2f} % after {config.recipe.epochs} epochs")
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = np.argsort(wrong, axis=None)[::-1][:5]
    names = load_classes(config)
    shown = [
        f"{names[t]} read as {names[p]} {wrong[t, p]} times"
        for t, p in (np.unravel_index(i, wrong.shape) for i in pairs)
        if wrong[t, p]
    ]
    if shown:
        print("most frequent errors: " + ", ".join(shown))


def load_classes(config: Config) -> list[str]:
    """The names of the classes a run tells apart."""
    return list(config.facts["class_names"])


if __name__ == "__main__":
    command.run("hwr.evaluate", main)
