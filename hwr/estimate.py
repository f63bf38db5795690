"""How long training would take here: a few steps are timed, and counted up."""

from __future__ import annotations

import time

import tinynn as tn
from hwr.config import Config
from hwr.run import Run, prepare
from hwr.train import train_step

STEPS = 3


def training_seconds(config: Config) -> float:
    """About the seconds that a run of this configuration trains, on this machine and backend."""
    with tn.use_backend(config.backend):
        run = prepare(config)
        return step_seconds(run) * run.batches * config.recipe.epochs


def step_seconds(run: Run) -> float:
    """The median time of a training step, the making of its batch apart."""
    images, labels = next(iter(run.loader.epoch(0)))
    train_step(run, images, labels)  # compiles kernels, fills caches
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        loss, _ = train_step(run, images, labels)
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - began)
    return sorted(times)[STEPS // 2]
