"""How long training would take here: a few steps are timed, and counted up."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import tinynn as tn
from hwr.config import Config
from hwr.data import datasets
from hwr.run import Run, prepare
from hwr.train import captured_step
from tinynn.capture import WARM_UP, CapturedStep

STEPS = 3


@dataclass(frozen=True)
class Sample:
    """A run to time steps of, and what it stands for."""

    run: Run
    images: int  # to train with
    held_out: int

    @property
    def seconds(self) -> float:
        """About the time that all its epochs take."""
        config = self.run.config
        batches = -(-self.images // config.recipe.batch_size)
        if config.limit_batches is not None:
            batches = min(batches, config.limit_batches)
        return step_seconds(self.run) * batches * config.recipe.epochs


def sample(config: Config) -> Sample:
    """A run of this configuration. Test images stand in where those to train on must be made."""
    recipe = config.recipe
    entry = datasets.get(recipe.dataset)
    if not entry.made:
        run = prepare(config)
        kept = len(run.validation.dataset) if run.validation else 0
        return Sample(run, len(run.loader.dataset), kept)
    kept = entry.splits.get(recipe.validation_split) or recipe.validation
    images = (entry.splits["train"] or 0) - recipe.validation
    timed = replace(recipe, validation=0, validation_split="", patience=0)
    run = prepare(replace(config, recipe=timed, train_size=None), "test")
    return Sample(run, config.train_size or images, kept)


def training_seconds(config: Config) -> float:
    """About the seconds that a run of this configuration trains, on this machine and backend."""
    with tn.use_backend(config.backend):
        return sample(config).seconds


def step_seconds(run: Run) -> float:
    """The median time of a training step, the making of its batch apart."""
    images, labels = next(iter(run.loader.epoch(0)))
    step, times = captured_step(run), []
    for _ in range(WARM_UP + 1 if isinstance(step, CapturedStep) else 1):
        step(images, labels)  # compiles kernels, fills caches, is recorded
    for _ in range(STEPS):
        began = time.perf_counter()
        loss, _ = step(images, labels)
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - began)
    return sorted(times)[STEPS // 2]
