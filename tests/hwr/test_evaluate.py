"""`python -m hwr.evaluate`: the accuracy of a run, to read and as JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr.config import Config
from hwr.data.augment import VIEWS
from hwr.evaluate import load_run, split_loader
from hwr.recipes import recipes
from hwr.statistics import wilson_interval
from tinynn import functional as F

Cli = Callable[..., Any]


@pytest.fixture
def folder(cli: Cli, digits: Path) -> Path:
    """The folder of a run of two epochs."""
    options = "--model mlp --width 16 --validation 100 --batch-size 20 --lr 0.01 --threads 1"
    run = cli("train", *options.split(), "--data-dir", digits, "--output-dir", "run")
    assert run.code == 0, run.err
    return Path("run")


def test_json_holds_everything(cli: Cli, folder: Path) -> None:
    run = cli("evaluate", folder, "--json")
    assert run.code == 0
    values = json.loads(run.out)
    assert run.out.count("\n") == 1
    assert (values["run"], values["weights"], values["split"]) == ("run", "last", "test")
    confusion = np.array(values["confusion"])
    config, model = load_run(folder)
    loader = split_loader(config, "test")
    assert confusion.shape == (10, 10)
    assert confusion.sum(1).tolist() == np.bincount(loader.dataset.labels, minlength=10).tolist()
    assert values["correct"] == confusion.trace()
    assert values["total"] == 200
    assert values["accuracy"] == values["correct"] / 200
    assert values["interval"] == list(wilson_interval(values["correct"], 200))

    images, labels = next(loader.epoch(0))
    logits = model.eval()(tn.Tensor(images)).numpy()
    assert np.mean(logits.argmax(1) == labels) == values["accuracy"]
    shifted = np.exp(logits - logits.max(1, keepdims=True)).astype(np.float64)
    probability = shifted[np.arange(200), labels] / shifted.sum(1)
    assert values["loss"] == pytest.approx(-np.log(probability).mean(), rel=1e-5)

    last = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()][-1]
    assert last["test_accuracy"] == values["accuracy"]  # what training found
    assert last["test_loss"] == values["loss"]


def test_test_time_augmentation_averages_probabilities_and_is_named(cli: Cli, folder: Path) -> None:
    run = cli("evaluate", folder, "--tta", "rotations", "--json")
    assert run.code == 0, run.err
    values = json.loads(run.out)
    config, model = load_run(folder)
    readings = []
    for view in VIEWS["rotations"]:
        images, labels = next(split_loader(config, "test", view).epoch(0))
        readings.append(F.softmax(model.eval()(tn.Tensor(images)), 1).numpy().astype(np.float64))
    probability = np.mean(readings, 0)
    assert values["tta"] == "rotations"
    assert values["accuracy"] == np.mean(probability.argmax(1) == labels)
    loss = -np.log(probability[np.arange(200), labels]).mean()
    assert values["loss"] == pytest.approx(loss, rel=1e-5)

    plain = json.loads(cli("evaluate", folder, "--json").out)
    assert plain["tta"] is None
    assert plain["loss"] != values["loss"]
    text = cli("evaluate", folder, "--tta", "shifts").out
    assert text.startswith("test-time augmentation: shifts, the mean of 5 readings\ntest accuracy")


def test_images_are_padded_to_the_size_of_the_recipe() -> None:
    """Zhang's EfficientNet reads 32x32 pixels."""
    config = Config(recipe=recipes.get("zhang-efficientnet-b0"))
    images, _ = next(split_loader(config, "test").epoch(0))
    assert images.shape == (500, 32, 32, 1)
    assert not images[:, :2].any()
    assert images.max() == 1.0


def test_text_names_the_most_frequent_errors(cli: Cli, folder: Path) -> None:
    run = cli("evaluate", folder)
    confusion = np.array(json.loads(cli("evaluate", folder, "--json").out)["confusion"])
    np.fill_diagonal(confusion, 0)
    t, p = np.unravel_index(confusion.argmax(), confusion.shape)
    first = run.out.splitlines()[-1]
    assert first.startswith("most frequent errors: ")
    assert f" {confusion.max()} times" in first.split(",")[0]
    assert f"{t} read as {p} {confusion[t, p]} times" in first


def test_other_weights_images_and_backends(cli: Cli, folder: Path, digits: Path) -> None:
    last = json.loads(cli("evaluate", folder, "--json").out)
    shutil.copy(folder / "last.safetensors", "kept")
    (folder / "last.safetensors").write_bytes(b"")
    best = json.loads(cli("evaluate", folder, "--weights", "best", "--json").out)
    assert best["weights"] == "best"
    shutil.move("kept", folder / "last.safetensors")

    every = json.loads(cli("evaluate", folder, "--split", "train", "--json").out)
    assert (every["split"], every["total"]) == ("train", 400)
    plain = json.loads(cli("evaluate", folder, "--backend", "reference", "--json").out)
    assert plain["loss"] == pytest.approx(last["loss"], rel=1e-5)

    shutil.copytree(digits, "moved")
    assert json.loads(cli("evaluate", folder, "--data-dir", "moved", "--json").out) == last


def test_a_run_can_be_measured_from_any_folder(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: Path
) -> None:
    shutil.copytree(digits, "near")
    options = "--model mlp --width 16 --validation 100 --epochs 1 --output-dir other"
    assert cli("train", *options.split(), "--data-dir", "near").code == 0
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert cli("evaluate", "../other").code == 0


def test_what_is_no_run_is_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, message in {
        "missing": "missing is not a run folder; train one first: python -m hwr.train",
        "file": "file is not a run folder",
        "empty": "empty/config.json: there is no such file; a run folder holds config.json",
    }.items():
        run = cli("evaluate", name)
        assert run.code == 2
        assert run.err.startswith(f"hwr.evaluate: error: {message}")
        assert run.err.count("\n") == 1
    (folder / "best.safetensors").unlink()
    run = cli("evaluate", folder, "--weights", "best")
    assert run.code == 2
    assert run.err == "hwr.evaluate: error: run/best.safetensors: there is no such file\n"
