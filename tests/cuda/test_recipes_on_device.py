"""Every recipe's model takes a step on a device without waiting, and the step can be recorded."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stream_double import forbid

import tinynn as tn
from hwr import models
from hwr.config import make_ema, make_optimizer
from hwr.models.jin import SMALL
from hwr.recipes import Recipe, recipes
from hwr.tasks import tasks
from hwr.train import train_step
from tinynn import functional as F
from tinynn.capture import WARM_UP, Recording, graph_pool


def different() -> Iterator[Any]:
    """One recipe of each model, options, task and optimiser."""
    seen = set()
    for recipe in map(recipes.get, recipes.names()):
        options = str(sorted(recipe.model_options.items()))
        key = recipe.model, options, recipe.task, recipe.optimizer, recipe.ema_decay > 0
        if key not in seen:
            seen.add(key)
            yield pytest.param(recipe, id=recipe.name)


each_recipe = pytest.mark.parametrize("recipe", list(different()))


def a_batch(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Two images of the size that a recipe's have, and their labels."""
    height = width = recipe.image_size or 28
    labels = np.array([1, 2])
    if recipe.task == "strings":
        height, width = recipe.model_options.get("height", 32), 96
        labels = np.array([[1, 2, 2], [3, -1, -1]])
    elif recipe.patches:
        height = width = 113
    images = np.random.default_rng(0).standard_normal((2, height, width, 1))
    return images.astype(np.float32), labels


def a_run(recipe: Recipe, images: np.ndarray) -> Any:
    """What a training step asks of a run."""
    given = {"classes": 10, "size": images.shape[1]}
    known = {k: v for k, v in given.items() if k in models.options_of(recipe.model)}
    model = models.create(recipe.model, seed=0, **{**known, **recipe.model_options}).train()
    optimizer, ema = make_optimizer(recipe, model), make_ema(recipe, model)
    config, task = SimpleNamespace(recipe=recipe), tasks.get(recipe.task)
    return SimpleNamespace(config=config, model=model, task=task, optimizer=optimizer, ema=ema)


@each_recipe
def test_a_step_waits_for_nothing(recipe: Recipe) -> None:
    images, labels = a_batch(recipe)
    with tn.use_backend("double") as backend:
        run = a_run(recipe, images)
        with forbid("waiting"):
            loss, read = train_step(run, backend.asarray(images), labels)
        assert np.isfinite(loss.item())
        assert len(read) == 2


@each_recipe
def test_a_step_can_be_recorded(recipe: Recipe, device: str) -> None:
    images, labels = a_batch(recipe)
    with tn.use_backend(device) as backend:
        run = a_run(recipe, images)
        if device == "cupy":  # compile; an emulator would take minutes
            for _ in range(WARM_UP):
                train_step(run, *map(backend.asarray, (images, labels)))
        elif recipe.patches:  # the step before has moved the shares that make them smaller
            F.interpolate(np.zeros((1, 115, 115, 1), np.float32), SMALL, mode="bilinear")
        step, pool = partial(train_step, run), graph_pool(backend.xp)
        recording = Recording(step, list(map(backend.asarray, (images, labels))), backend, pool)
        assert len(recording.outputs) == 2
        if device == "cupy":
            loss, _ = recording.replay((images, labels))
            assert np.isfinite(loss.item())
