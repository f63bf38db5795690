"""Train a network: `python -m hwr.train` trains the paper's ResNet-18 on the MNIST inside.

Read `fit` first: it is the whole of training.
"""

from __future__ import annotations

import copy
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import tinynn as tn
from hwr import checkpoint, command, data
from hwr.config import (
    INITIAL_WEIGHTS,
    TRAIN_SUBSET,
    Config,
    make_optimizer,
    make_schedule,
    versions,
)
from hwr.data import Dataset, Loader
from hwr.errors import UserError
from hwr.evaluate import BATCH, Evaluation, create_model, evaluate, split_loader
from hwr.options import configure, free_folder, list_recipes, parser, resumed
from hwr.progress import Progress, clock
from hwr.statistics import describe_accuracy
from tinynn import functional as F
from tinynn.nn import Module
from tinynn.optim import Optimizer, Schedule

READ_LOSS_EVERY = 10  # steps; reading it more often would make a GPU wait


class Diverged(RuntimeError):
    """The loss or a weight is no longer a finite number."""


@dataclass
class Run:
    """A training run: its parts, and where it stands."""

    config: Config
    model: Module
    optimizer: Optimizer
    schedule: Schedule
    generator: np.random.Generator  # of the initial weights, then of dropout
    loader: Loader
    validation: Loader | None
    test: Loader
    step: int = 0  # updates so far
    epoch: int = 0  # epochs completed
    batch: int = 0  # batches of the present epoch completed
    loss_sum: float = 0.0  # over the images of the present epoch
    images: int = 0
    best: dict[str, float] = field(default_factory=dict)
    pending: list[tuple[int, Any]] = field(default_factory=list)  # (images, loss) not read yet

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return epoch_batches(self.config, self.loader)

    @property
    def mean_loss(self) -> float:
        """The mean training loss of the present epoch, in nats."""
        return self.loss_sum / self.images if self.images else math.nan

    def read_losses(self) -> None:
        """Fetch the losses of the last steps. Diverged if one is not finite."""
        for i, (count, loss) in enumerate(self.pending):
            value = float(loss)
            if not math.isfinite(value):
                step = self.step - len(self.pending) + i + 1
                raise Diverged(f"the loss is {value} at step {step} (epoch {self.epoch + 1})")
            self.loss_sum += value * count
            self.images += count
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
            "images": self.images,
            "best": self.best,
            "generator": self.generator.bit_generator.state,
            "finished": self.epoch >= self.config.recipe.epochs,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Continue from `progress`; weights and moments are loaded by the checkpoint."""
        for name in ("step", "epoch", "batch", "loss_sum", "images", "best"):
            setattr(self, name, progress[name])
        self.generator.bit_generator.state = progress["generator"]
        self.schedule.load_state_dict({"last_step": self.step})

    def save(self, folder: Path) -> None:
        """Write last.safetensors, unless something is not finite: then the old one stays."""
        self.check()
        checkpoint.save(folder / checkpoint.LAST, self.model, self.optimizer, self.progress())


def prepare(config: Config) -> Run:
    """Data, model, optimiser and schedule, everything drawn from the seed."""
    recipe = config.recipe
    train, held_out = split_data(config)
    test = split_loader(config, "test")  # read now: bad data must not come to light after training
    options: dict[str, Any] = {"seed": config.seed, "normalize": test.normalize}
    loader = Loader(train, recipe.batch_size, shuffle=True, **options)
    validation = Loader(held_out, BATCH, **options) if held_out else None
    config = with_data_facts(config, train, held_out)
    generator = config.rng(INITIAL_WEIGHTS)
    model = create_model(config, generator)
    check_last_batch(model, loader, epoch_batches(config, loader))
    config = config.with_facts(
        parameters=sum(p.size for p in model.parameters()), versions=versions()
    )
    optimizer = make_optimizer(recipe, model)
    schedule = make_schedule(recipe, optimizer, epoch_batches(config, loader) * recipe.epochs)
    return Run(config, model, optimizer, schedule, generator, loader, validation, test)


def split_data(config: Config) -> tuple[Dataset, Dataset | None]:
    """The images to train with, and those held out to choose the best weights by."""
    recipe = config.recipe
    folder = Path(config.data_dir) if config.data_dir else None
    train, held_out = data.load(recipe.dataset, split="train", data_dir=folder), None
    if recipe.validation:
        train, held_out = data.holdout(train, recipe.validation, config.seed)
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
        "train_images": len(train),
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


def check_last_batch(model: Module, loader: Loader, batches: int) -> None:
    """UserError if the last batch of an epoch is one image and the model cannot train on one."""
    if min(loader.batch_size, len(loader.dataset) - (batches - 1) * loader.batch_size) > 1:
        return
    image = loader.normalize(loader.dataset.images[:1])
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


def train_step(run: Run, images: np.ndarray, labels: np.ndarray) -> tn.Tensor:
    """One update from one batch. Returns the loss."""
    logits = run.model(tn.Tensor(images))
    loss = F.cross_entropy(logits, labels, label_smoothing=run.config.recipe.label_smoothing)
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    run.schedule.step()
    return loss


@np.errstate(all="ignore")  # overflow shows in the loss, where Run.check looks for it
def fit(run: Run, folder: Path, interrupted: Interrupted, save_every: float) -> bool:
    """Train to the last epoch. Returns False if it was interrupted (and saved) before."""
    last_save = time.monotonic()
    while run.epoch < run.config.recipe.epochs:
        run.model.train()
        batches = islice(run.loader.epoch(run.epoch, run.batch), run.batches - run.batch)
        label = f"epoch {run.epoch + 1}/{run.config.recipe.epochs}"
        size = run.loader.batch_size
        total = min(run.batches * size, len(run.loader.dataset))
        with Progress(label, total, run.batch * size) as progress:
            for images, labels in batches:
                loss = train_step(run, images, labels)
                run.step += 1
                run.batch += 1
                run.pending.append((len(labels), loss.data))
                if run.step % READ_LOSS_EVERY == 0 or not run.images:
                    run.read_losses()
                progress.update(len(labels), loss=run.mean_loss)
                if interrupted or time.monotonic() - last_save > save_every:
                    run.save(folder)
                    last_save = time.monotonic()
                if interrupted:
                    return False
        end_epoch(run, folder, progress)
        last_save = time.monotonic()
        if interrupted and run.epoch < run.config.recipe.epochs:
            return False
    return True


def end_epoch(run: Run, folder: Path, progress: Progress) -> None:
    """Validate, keep the best weights, report the epoch and save."""
    run.check()
    seconds, rate, train_loss = progress.seconds, progress.rate, run.mean_loss
    lr = run.optimizer.param_groups[0].lr
    run.epoch, run.batch, run.loss_sum, run.images = run.epoch + 1, 0, 0.0, 0
    figures = {"epoch": run.epoch, "step": run.step, "train_loss": train_loss, "lr": lr}
    line = f"epoch {run.epoch}/{run.config.recipe.epochs}: training loss {train_loss:.4f}"
    if run.validation is not None:
        result = evaluate(run.model, run.validation, "validating")
        if not math.isfinite(result.loss):
            raise Diverged(f"the validation loss is {result.loss} after step {run.step}")
        figures |= {"validation_loss": result.loss, "validation_accuracy": result.accuracy}
        line += f", validation loss {result.loss:.4f}, accuracy {100 * result.accuracy:.2f} %"
    else:
        result = None
    if result is None or is_better(result, run.best):
        run.best = {"epoch": run.epoch}
        if result is not None:
            run.best |= {"accuracy": result.accuracy, "loss": result.loss}
        checkpoint.save_weights(folder / checkpoint.BEST, run.model, run.best)
    figures |= {"images_per_s": rate, "seconds": seconds}
    checkpoint.log(folder, **figures)  # before saving: a resumed run drops what is not saved
    run.save(folder)
    print(f"{line}, {rate:,.0f} images/s, {clock(seconds)}", flush=True)


def is_better(result: Evaluation, best: dict[str, float]) -> bool:
    """Whether a validation result beats the best so far: accuracy first, then loss.

    The test images have no say.
    """
    if not best:
        return True
    return (result.accuracy, -result.loss) > (best["accuracy"], -best["loss"])


class Interrupted:
    """True once Ctrl-C was pressed or the process was asked to end. A second Ctrl-C ends it."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested

    def request(self, number: int, frame: object) -> None:
        """The signal handler: finish the step, then stop."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nstopping after this step ...", file=sys.stderr, flush=True)


@contextmanager
def catch_interrupts() -> Iterator[Interrupted]:
    """Within the block, Ctrl-C and SIGTERM set a flag between two steps instead of breaking one."""
    interrupted = Interrupted()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, interrupted.request) for s in signals]
    try:
        yield interrupted
    finally:
        for s, handler in zip(signals, before):
            signal.signal(s, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says."""
    typed = vars(parser().parse_args(argv))
    if typed.get("list_recipes"):
        return list_recipes()
    found = resumed(typed) if "resume" in typed else None
    config = found[1] if found else configure(typed)
    command.check_backend(config.backend)
    command.set_threads(config.threads)
    with tn.use_backend(config.backend):
        run = prepare(config)
        if typed.get("dry_run"):
            from hwr.summary import dry_run

            return dry_run(run)
        folder = found[0] if found else typed.get("output_dir") or free_folder(config.recipe.name)
        return train(run, folder, is_new=found is None, save_every=typed.get("save_every", 120.0))


def train(run: Run, folder: Path, *, is_new: bool, save_every: float) -> int:
    """Train from the start or from the last checkpoint, and test. Returns the exit code."""
    began = time.monotonic()
    with catch_interrupts() as interrupted:
        start(run, folder, is_new)
        try:
            done = fit(run, folder, interrupted, save_every)
        except Diverged as error:
            at = checkpoint.progress_of(folder)["step"]
            print(
                f"hwr.train: {error}; training stopped. {folder / checkpoint.LAST} holds the "
                f"weights of step {at}. Try a lower --lr than {run.config.recipe.lr:g}.",
                file=sys.stderr,
            )
            return 1
    if not done:
        print(
            f"stopped at step {run.step} (epoch {run.epoch + 1}, batch {run.batch}) and "
            f"saved; go on by\n  python -m hwr.train --resume {folder}"
        )
        return 130
    finish(run, folder, time.monotonic() - began)
    return 0


def start(run: Run, folder: Path, is_new: bool) -> None:
    """Make the run folder or read the checkpoint to go on from; say what will run."""
    recipe, facts = run.config.recipe, run.config.facts
    if is_new:
        checkpoint.create_run(folder, run.config)
    path = folder / checkpoint.LAST
    if path.exists():
        progress = checkpoint.load(path, run.model, run.optimizer)
        try:
            run.restore(progress)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: its metadata do not say where training stood ({error})"
            ) from None
    else:
        run.save(folder)
    checkpoint.rewind_metrics(folder, run.epoch)
    checkpoint.remove_leftovers(folder)
    held_out = f", {recipe.validation:,} held out" if recipe.validation else ""
    print(
        f"{recipe.name}: {recipe.network}, {facts['parameters']:,} parameters\n"
        f"{recipe.dataset}: {facts['train_images']:,} images to train{held_out}\n"
        f"epochs {recipe.epochs}, batches an epoch {run.batches:,}, "
        f"batch size {recipe.batch_size}, {recipe.optimizer} at {recipe.lr:g} ({recipe.schedule}), "
        f"seed {run.config.seed}, backend {run.config.backend}, threads {run.config.threads}\n"
        f"folder: {folder}"
    )
    if not is_new:
        print(f"resuming at step {run.step} (epoch {run.epoch + 1}, batch {run.batch})")
    sys.stdout.flush()


def finish(run: Run, folder: Path, seconds: float) -> None:
    """Measure the last weights on the test images and say what to do next."""
    result = evaluate(run.model, run.test, "testing")
    checkpoint.log(
        folder,
        step=run.step,
        test_accuracy=result.accuracy,
        test_loss=result.loss,
        test_correct=result.correct,
        test_images=result.total,
    )
    recipe = run.config.recipe
    print(f"test accuracy {describe_accuracy(result.correct, result.total)}", end="")
    claim = recipe.claim()
    print(
        f"; the paper reports {claim:.2f} % after {recipe.epochs} epochs" if claim else "",
        f"total time: {clock(seconds)}",
        f"checkpoint: {folder / checkpoint.LAST}",
        f"next: python -m hwr.evaluate {folder}",
        sep="\n",
    )


if __name__ == "__main__":
    command.run("hwr.train", main)
