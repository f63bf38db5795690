"""Measure a trained run: `python -m hwr.evaluate runs/<name>`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import checkpoint, command, data, models
from hwr.config import Config
from hwr.data import Dataset, Loader, Strings
from hwr.data.augment import VIEWS
from hwr.data.lines import Canvas, Patches
from hwr.data.loader import Augment
from hwr.errors import UserError
from hwr.files import write_atomic
from hwr.progress import Progress
from hwr.readings import Readings
from hwr.recipes import Recipe
from hwr.statistics import describe_accuracy, wilson_interval
from hwr.tasks import Classification, Result, StringEvaluation, Task, tasks
from tinynn import functional as F
from tinynn.kernels.threads import usable_cpus
from tinynn.nn import Module

SEED = 0  # of strings composed to be read: the same ones for every run
CLASSIFICATION = Classification()


@np.errstate(all="ignore")  # weights near the largest number overflow; the loss shows it
def evaluate(
    model: Module,
    loader: Loader,
    label: str = "evaluating",
    *,
    views: Sequence[Loader] = (),
    task: Task = CLASSIFICATION,
) -> Result:
    """Read every image as `outputs` does, and make of it what the task makes."""
    loss, readings, truths = 0.0, [], []
    for output, labels in outputs(model, loader, label, views):
        loss += task.loss(output, labels, reduction="sum").item()
        readings.append(task.read(output).numpy())
        truths.append(labels)
    mean_loss = loss / len(loader.dataset)
    return task.result(mean_loss, np.concatenate(readings), np.concatenate(truths), loader.dataset)


@np.errstate(all="ignore")
def read(
    model: Module, loader: Loader, label: str = "reading", *, views: Sequence[Loader] = ()
) -> Readings:
    """The probability of each class for every image, read as `outputs` does."""
    parts = [
        (F.log_softmax(output, 1).numpy(), labels)
        for output, labels in outputs(model, loader, label, views)
    ]
    log_probabilities, labels = map(np.concatenate, zip(*parts))
    return Readings(log_probabilities, labels)


def outputs(
    model: Module, loader: Loader, label: str, views: Sequence[Loader] = ()
) -> Iterator[tuple[tn.Tensor, np.ndarray]]:
    """What a model in evaluation mode makes of each batch of a loader, and the labels.

    `views` load the same images in other forms; the probabilities of all the forms are averaged.
    Of a batch that does not fit into memory half is read at a time, or half of that.
    """
    model.eval()
    rows = loader.batch_size
    with Progress(label, len(loader.dataset)) as progress:
        for batches in zip(*(each.epoch(0) for each in (loader, *views))):
            (forms, (labels, *_)), begin = zip(*batches), 0
            while begin < len(labels):
                part = slice(begin, begin + rows)
                try:
                    output = output_of(model, [images[part] for images in forms])
                except MemoryError:
                    if rows == 1:
                        raise
                    rows = -(-rows // 2)
                    continue
                yield output, labels[part]
                progress.update(len(labels[part]))
                begin += rows


@tn.no_grad()
def output_of(model: Module, forms: Sequence[np.ndarray]) -> tn.Tensor:
    """What a model makes of images; of several forms of them the logarithm of their mean
    probability."""
    outputs = [model(tn.Tensor(form)) for form in forms]
    if len(outputs) == 1:
        return outputs[0]
    mean = F.stack([F.softmax(each, -1) for each in outputs]).mean(0)
    return mean.clip(min=1e-37).log()  # no logarithm of 0


def split_loader(config: Config, split: str, augment: Augment | None = None) -> Loader:
    """The batches of one split ("train" or "test"), prepared as the run prepared its images."""
    found = load_split(config, split)
    dataset = arrange(config.recipe, found, config.facts.get("class_names", ()))
    return reading_loader(config.recipe, dataset, augment)


def load_split(config: Config, split: str) -> Dataset | Strings:
    """One split of the run's dataset: characters, or lines if the recipe says what to make of them.

    UserError if the dataset holds the other.
    """
    recipe = config.recipe
    load = data.load_strings if recipe.canvas or recipe.patches else data.load
    return load(recipe.dataset, split=split, data_dir=config.data_dir)


def arrange(recipe: Recipe, found: Dataset | Strings, classes: Sequence[str]) -> Dataset:
    """Images of one size: characters as they are, lines as the recipe says."""
    if isinstance(found, Dataset):
        return found
    return line_form(recipe)(found, classes)


def classes_of(recipe: Recipe, found: Dataset | Strings) -> tuple[str, ...]:
    """What is to be told apart in these images."""
    return found.classes if isinstance(found, Dataset) else line_form(recipe).classes(found)


def line_form(recipe: Recipe) -> Canvas | Patches:
    """What a recipe makes of lines."""
    form = recipe.canvas or recipe.patches
    assert form is not None, "load_split loads lines for such recipes alone"
    return form


def reading_loader(recipe: Recipe, dataset: Dataset, augment: Augment | None = None) -> Loader:
    """The batches of a dataset to be read, prepared as a recipe prepares its images."""
    return Loader(
        dataset,
        tasks.get(recipe.task).batch,
        seed=SEED,
        normalize=data.Normalize(recipe.mean, recipe.std, recipe.image_size),
        synthesis=recipe.synthesis,
        augment=augment,
    )


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
        description="Measure the test accuracy of a trained run, or how well photographs are read.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument(
        "run",
        type=Path,
        nargs="?",
        help="a run folder, such as runs/chi2022-resnet18; with --photos the shipped network "
        "if not given",
    )
    p.add_argument(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="read the photographs of a folder with labels.json and compare",
    )
    add_run_options(p)
    p.add_argument(
        "--misread",
        metavar="PNG",
        type=Path,
        help="draw the strings read wrong here, of a run that reads strings",
    )
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
    command.add_allow_reference(p)
    p.add_argument("--data-dir", help="folder of the data; the run's own if not given")
    p.add_argument("--threads", type=command.count(1), metavar="N",
                   help="threads the kernels use; the run's own if not given")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


@contextmanager
def opened(folder: Path, args: argparse.Namespace) -> Iterator[tuple[Config, Module]]:
    """A run as `add_run_options` say; within the block its backend is the current one."""
    config = read_config(folder)
    backend = args.backend or config.backend
    command.check_backend(backend, args.allow_reference)
    own = min(config.threads, usable_cpus())  # as in training, for the same bits
    command.set_threads(args.threads or own)
    with tn.use_backend(backend):
        config, model = load_run(folder, f"{args.weights}.safetensors")
        if args.data_dir:
            config = replace(config, data_dir=args.data_dir)
        yield config, model


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a run folder and print the result."""
    args = parser().parse_args(argv)
    if args.photos is not None:
        from hwr.vision.evaluation import report_photos

        return report_photos(args)
    if args.run is None:
        raise UserError("name a run folder, such as runs/chi2022-resnet18, or --photos FOLDER")
    with opened(args.run, args) as (config, model):
        first, *views = (
            split_loader(config, args.split, view) for view in VIEWS.get(args.tta, [None])
        )
        result = evaluate(model, first, views=views, task=tasks.get(config.recipe.task))
        if args.misread:
            draw_misread(args.misread, first, result, load_classes(config))
    report(args, config, result)
    return 0


def require_classes(config: Config, what: str) -> None:
    """UserError for a run that does not tell classes apart."""
    if config.recipe.task != "classification":
        raise UserError(
            f"{config.recipe.name} reads {config.recipe.task}, and {what} is for runs that tell "
            "classes apart; for strings: python -m hwr.evaluate RUN --misread PNG"
        )


def draw_misread(path: Path, loader: Loader, result: Result, classes: Sequence[str]) -> None:
    """Draw some of the strings read wrong. UserError for a run that reads no strings."""
    from hwr.report.misread import picture  # matplotlib behind it

    if not isinstance(result, StringEvaluation):
        raise UserError("--misread is for runs that read strings; for others: python -m hwr.report")
    if result.correct == result.total:
        print(f"no string is misread: {path} is not drawn", file=sys.stderr)
        return
    write_atomic(path, picture(loader, result, classes))


def report(args: argparse.Namespace, config: Config, result: Result) -> None:
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
            **result.figures(),
        }
        print(json.dumps(values))
        return
    if args.tta:
        print(f"test-time augmentation: {args.tta}, the mean of {len(VIEWS[args.tta])} readings")
    print(f"{args.split} {result.measure} {describe_accuracy(result.correct, result.total)}")
    print(f"{args.split} loss {result.loss:.4f} nats")
    claim = config.recipe.claim()
    if claim is not None and args.split == "test":
        print(f"the paper reports {claim:.2f} % after {config.recipe.epochs} epochs")
    for line in result.lines(load_classes(config)):
        print(line)


def load_classes(config: Config) -> list[str]:
    """The names of the classes a run tells apart."""
    return list(config.facts["class_names"])


if __name__ == "__main__":
    command.run("hwr.evaluate", main)
