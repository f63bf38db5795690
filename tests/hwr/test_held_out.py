"""No recipe sees a test image before the end of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwr import data, train
from hwr.data import Loader
from hwr.recipes import recipes

Cli = Callable[..., Any]

# Those of lines of writing have theirs in test_lines.py: MNIST's digits do not feed them.
CHARACTERS = [
    name
    for name, recipe in ((name, recipes.get(name)) for name in recipes.names())
    if recipe.task == "classification" and recipe.patches is None
]


@pytest.mark.parametrize("name", CHARACTERS)
def test_no_recipe_sees_a_test_image_before_the_end_of_training(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    training, fit, epoch = [False], train.fit, Loader.epoch
    seen = []

    def watched_fit(*args: Any) -> bool:
        training[0] = True
        done = fit(*args)
        training[0] = False
        return done

    def watched_epoch(loader: Loader, *args: Any) -> Any:
        if training[0]:
            seen.append(loader.dataset.split)
        return epoch(loader, *args)

    monkeypatch.setattr(train, "fit", watched_fit)
    monkeypatch.setattr(Loader, "epoch", watched_epoch)
    test = data.load("mnist", split="test", data_dir=digits).subset(range(40))
    load = data.load
    monkeypatch.setattr(
        data, "load", lambda *a, split, **k: test if split == "test" else load(*a, split=split, **k)
    )
    options = ["--epochs", 1, "--limit-batches", 1, "--batch-size", 8, "--validation", 20]
    options += ["--dataset", "mnist"]
    options += ["--model", "mlp"]  # which network reads them is all the same
    done = cli("train", "--recipe", name, *options, "--data-dir", digits, "--threads", 1)
    assert done.code == 0, done.err
    assert set(seen) == {"train"}
    assert len(seen) >= 2  # one epoch of training, and its validation
