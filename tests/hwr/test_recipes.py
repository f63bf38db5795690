"""What can be trained: the recipes as they are listed, and a network as `--dry-run` shows it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr import estimate, models, train
from hwr.data import datasets, location
from hwr.options import configure, parser
from hwr.recipes import DEFAULT, recipes
from hwr.summary import layers
from tinynn import functional as F
from tinynn.kernels.threads import usable_cpus

Cli = Callable[..., Any]


def test_a_dry_run_shows_the_network_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    run = cli("train", "--dry-run", "--batch-size", 2, "--threads", 1)
    assert run.code == 0
    assert list(tmp_path.iterdir()) == []
    lines = run.out.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "mult-adds", "live"]
    assert lines[1].split() == ["conv1", "Conv2d", "14x14x64", "3,136", "614,656", "100", "%"]
    assert "11,175,370 parameters; 33.011 million multiply-adds an image" in run.out
    assert "62 % only ever see padding" in run.out
    assert re.search(r"peak memory of a training step at batch 2: \d+ MiB of arrays", run.out)


def test_dead_weights_are_those_without_a_gradient() -> None:
    with tn.use_backend("reference"):
        model = models.create("resnet18", width=4, seed=0)
        rows = {row.name: row for row in layers(model, (28, 28, 1))}
        x = np.random.default_rng(0).normal(size=(64, 28, 28, 1)).astype(np.float32)
        logits = model.train()(tn.Tensor(x))
        F.cross_entropy(logits, np.arange(64) % 10).backward()
    for name, parameter in model.named_parameters():
        row = rows[name.removesuffix(".weight").removesuffix(".bias")]
        if row.kind == "Conv2d":
            assert parameter.grad is not None
            assert np.count_nonzero(parameter.grad) == row.live_weights, name
    live = sum(row.live_weights for row in rows.values())
    assert live / sum(row.weights for row in rows.values()) == pytest.approx(0.38, abs=0.005)


def test_a_dry_run_leaves_the_model_as_it_was() -> None:
    model = models.create("fast", seed=0)
    layers(model, (28, 28, 1))
    assert all("forward" not in vars(module) for module in model.modules())


def test_recipes_are_listed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "step_seconds", lambda run: 0.25)
    run = cli("train", "--list-recipes")
    assert run.code == 0
    assert "chi2022-resnet18\n  paper    Chi, Li and Huang" in run.out
    assert "resnet18 (stem 7x7, width 64), 11,175,370 parameters" in run.out
    assert "mnist, 55,000 images to train, 5,000 held out" in run.out
    assert "99.05 % after 2 epochs, 99.29 % after 5 epochs" in run.out
    assert [name for name in recipes.names() if f"{name}\n" not in run.out] == []
    every = [datasets.get(recipes.get(name).dataset) for name in recipes.names()]
    here = sum(map(location.is_found, every))
    assert run.out.count("  time     about ") == here
    assert run.out.count("  data     not here: ") == len(every) - here
    assert "photo-digits, 209,000 images to train, 19,000 held out" in run.out
    assert "about 3:35 here, 2 epochs on" in run.out  # .25 s x 430 batches x 2 epochs
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [n for n in recipes.names() if n != "photo"])  # listed above
def test_every_recipe_can_be_prepared(name: str, digits: Path, real_data: Path) -> None:
    recipe = recipes.get(name)
    assert recipe.name == name
    typed = ["--recipe", name, "--data-dir", str(real_data)]
    if recipe.dataset == "mnist":
        typed = ["--recipe", name, "--data-dir", str(digits), "--validation", "80"]
    elif not location.is_found(datasets.get(recipe.dataset), real_data):
        pytest.skip(f"the files of {recipe.dataset} are not here")
    run = train.prepare(configure(vars(parser().parse_args(typed))))
    assert run.config.facts["parameters"] > 0
    assert run.config.facts["recipe"] == name
    assert all(0 < accuracy < 100 for accuracy in recipe.claimed.values())


def test_help_shows_every_default() -> None:
    shown = " ".join(parser().format_help().split())
    recipe = recipes.get(DEFAULT)
    for flag, default in {
        "recipe": DEFAULT,
        "model": recipe.model,
        "stem": "7x7",
        "width": 64,
        "task": "classification",
        "epochs": 2,
        "batch-size": recipe.batch_size,
        "optimizer": recipe.optimizer,
        "lr": recipe.lr,
        "schedule": recipe.schedule,
        "momentum": recipe.momentum,
        "weight-decay": recipe.weight_decay,
        "label-smoothing": recipe.label_smoothing,
        "ema-decay": recipe.ema_decay,
        "patience": recipe.patience,
        "augment": "none",
        "image-size": "as they are",
        "mean": recipe.mean,
        "std": recipe.std,
        "validation": recipe.validation,
        "train-size": "all",
        "limit-batches": "all",
        "keep-epochs": "none",
        "seed": 0,
        "backend": "numpy",
        "threads": f"{usable_cpus()}, the processors here",
        "data-dir": "HWR_DATA, else the user's cache",
        "output-dir": "runs/RECIPE",
        "resume": "a new run",
        "save-every": 120,
    }.items():
        assert re.search(rf" --{flag} \S+ [^()]*(\([^()]*\) )?\(default: {default}\)", shown), flag
    valued = [a for a in parser()._actions if a.nargs != 0]
    assert all("(default: " in str(action.help) for action in valued)
