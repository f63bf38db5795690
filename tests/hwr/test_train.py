"""What `python -m hwr.train` shows, writes, and makes of its options."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr import models, progress, train
from hwr.config import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from hwr.data.augment import Augment
from hwr.evaluate import load_run, split_loader
from hwr.options import configure, parser
from hwr.recipes import DEFAULT, Recipe, recipes
from hwr.tasks import Evaluation, tasks
from tinynn.kernels.threads import usable_cpus

Cli = Callable[..., Any]
TINY = ["--model", "mlp", "--width", 16, "--validation", 100, "--batch-size", 50, "--threads", 1]


@pytest.fixture
def tiny_paper() -> Iterator[Recipe]:
    """The paper's recipe under another name, with a network a sixteenth as wide."""
    recipe = replace(
        recipes.get(DEFAULT),
        name="tiny-paper",
        model_options={"stem": "7x7", "width": 4},
        validation=80,
        batch_size=64,
    )
    recipes.register(recipe.name)(recipe)
    yield recipe
    del recipes._entries[recipe.name]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def config(folder: Path) -> dict[str, Any]:
    """A run's config.json."""
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


def weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint."""
    return tn.state.read_arrays(path)[0]


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two checkpoints hold the same bits."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_without_options_the_papers_network_is_trained() -> None:
    config = configure(vars(parser().parse_args([])))
    recipe = config.recipe
    assert recipe.model == "resnet18"
    assert recipe.model_options == {"stem": "7x7", "width": 64}
    assert (recipe.dataset, recipe.validation, recipe.epochs) == ("mnist", 5000, 2)
    assert (recipe.claim(), config.train_size, config.limit_batches) == (99.05, None, None)
    assert (config.seed, config.backend, config.threads) == (0, "numpy", usable_cpus())
    assert config.data_dir is None  # the data inside the package


def test_two_epochs_from_start_to_end(
    cli: Cli, digits: Path, tmp_path: Path, tiny_paper: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    run = cli("train", "--recipe", tiny_paper.name, "--data-dir", digits, "--threads", 1)
    assert run.code == 0
    folder = tmp_path / "runs" / "tiny-paper"
    names = ["best.safetensors", "config.json", "last.safetensors", "metrics.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names

    epoch = (
        r"training loss \d\.\d{4}, accuracy [\d.]+ %; validation loss [\d.]+, accuracy [\d.]+ %; "
        r"[\d,]+ images/s, \d:\d\d"
    )
    pattern = r"""
tiny-paper: resnet18 \(stem 7x7, width 4\), 44,710 parameters
mnist: 320 images to train, 80 held out
epochs 2, batches an epoch 5, batch size 64, adam at 0\.003 \(one-cycle\), SETTINGS
folder: runs/tiny-paper
epoch 1/2: EPOCH
epoch 2/2: EPOCH
test accuracy [\d.]+ % \(95 % interval [\d.]+ to [\d.]+ %; \d+ of 200\); CLAIM
total time: \d:\d\d
checkpoint: runs/tiny-paper/last\.safetensors
next: python -m hwr\.evaluate runs/tiny-paper
"""
    settings = "seed 0, backend numpy, threads 1"
    pattern = pattern.replace("EPOCH", epoch).replace("SETTINGS", settings)
    pattern = pattern.replace("CLAIM", r"the paper reports 99\.05 % after 2 epochs")
    assert re.fullmatch(pattern, "\n" + run.out), run.out
    line = r"epoch 2/2: 64 of 320 images, loss \d\.\d{4}, [\d,]+ images/s, \d:\d\d left\n"
    assert re.search(line, run.err), run.err  # plain progress lines: this is no terminal
    assert "nan" not in run.err
    assert "\r" not in run.err

    first, second, test = metrics(folder)
    assert (first["epoch"], first["step"]) == (1, 5)
    assert (second["epoch"], second["step"]) == (2, 10)
    for epoch in (first, second):
        assert 0 < epoch["train_loss"] < 10
        assert 0 < epoch["validation_loss"] < 10
        assert 0 <= epoch["validation_accuracy"] <= 1
        assert epoch["images_per_s"] > 0
        assert epoch["seconds"] > 0
    assert test["test_correct"] / 200 == test["test_accuracy"]

    facts = config(folder)["facts"]
    assert facts["parameters"] == 44_710
    assert facts["classes"] == 10
    decides = {"python", "processor", "cores", "commit", "tinynn", "numpy", "numba", "safetensors"}
    assert decides <= set(facts["machine"])
    assert facts["machine"]["tinynn"] == tn.__version__

    shown = cli("evaluate", folder)
    assert shown.code == 0
    accuracy = re.search(r"test accuracy [^;]*; \d+ of 200\)", run.out)
    assert accuracy is not None
    assert accuracy[0] in shown.out.splitlines()  # the very same
    assert "the paper reports 99.05 % after 2 epochs" in shown.out


def test_the_best_weights_are_the_best_on_the_held_out_images(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, kept = [], []
    accuracies = iter([60, 80, 80, 70])
    losses = iter([1.0, 1.0, 0.5, 0.1])

    def scripted(model: Any, loader: Any, label: str, *, task: Any) -> Evaluation:
        asked.append((label, loader.dataset.split, len(loader.dataset)))
        confusion = np.zeros((10, 10), np.int64)
        if label == "validating":
            kept.append(tn.state.to_torch(model))
            right = next(accuracies)
            confusion[0] = right, 100 - right, *[0] * 8
            return Evaluation(next(losses), confusion)
        confusion[0, 0] = 200  # the test images would praise the last epoch
        return Evaluation(0.0, confusion)

    monkeypatch.setattr(train, "evaluate", scripted)
    run = cli("train", *TINY, "--epochs", 4, "--data-dir", digits, "--output-dir", "run")
    assert run.code == 0
    assert asked == [("validating", "train", 100)] * 4 + [("testing", "test", 200)]
    best, facts = tn.state.read_arrays("run/best.safetensors")
    assert same(best, kept[2])  # more right than epoch 1, less loss than epoch 2
    assert facts == {"epoch": 3, "accuracy": 0.8, "loss": 0.5}
    last = weights(Path("run/last.safetensors"))
    assert same({name: last[name] for name in best}, kept[3])


def test_without_held_out_images_the_last_weights_are_the_best(cli: Cli, digits: Path) -> None:
    run = cli("train", *TINY, "--validation", 0, "--data-dir", digits, "--output-dir", "run")
    assert run.code == 0
    assert "400 images to train\n" in run.out
    assert "validation" not in run.out
    best, last = weights(Path("run/best.safetensors")), weights(Path("run/last.safetensors"))
    assert same(best, {name: last[name] for name in best})


def scores(monkeypatch: pytest.MonkeyPatch, *correct: int) -> None:
    """Let the validations find so many of 100 images read right, one after the other."""
    left = iter(correct)

    def scripted(model: Any, loader: Any, label: str, *, task: Any) -> Evaluation:
        right = next(left) if label == "validating" else 50
        return Evaluation(1.0, np.diag([right, *[0] * 9]) + np.diag([100 - right, *[0] * 8], 1))

    monkeypatch.setattr(train, "evaluate", scripted)


@pytest.mark.parametrize("more", [[], ["--ema-decay", 0.9]])
def test_early_stopping_keeps_the_weights_that_validated_best(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch, more: list[Any]
) -> None:
    options = [*TINY, "--epochs", 9, "--patience", 2, "--data-dir", digits, *more]
    scores(monkeypatch, 50, 70, 60, 70)  # an equal result is no better one
    run = cli("train", *options, "--output-dir", "run")
    assert run.code == 0
    assert [line.get("epoch") for line in metrics(Path("run"))] == [1, 2, 3, 4, None]
    assert "early stopping after 2\n" in run.out
    assert "\nthe weights of epoch 2 are kept: they validated best\ntest accuracy" in run.out
    best, facts = tn.state.read_arrays("run/best.safetensors")
    last, standing = tn.state.read_arrays("run/last.safetensors")
    assert facts["epoch"] == 2
    assert standing["finished"]
    assert same({name: last[name] for name in best}, best)
    run = cli("train", "--resume", "run")
    assert run.code == 2
    assert "run is finished, epoch 4 was its last" in run.err

    scores(monkeypatch, 50, 70, 60, 80)
    run = cli("train", *options, "--epochs", 4, "--output-dir", "other")
    assert "the weights of epoch 4 are kept" in run.out  # it did not stop early
    assert not same(weights(Path("other/best.safetensors")), best)


def test_the_average_of_the_weights_is_measured_and_kept(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, np.ndarray]] = []
    step = train.train_step

    def noted(run: Any, *batch: Any) -> Any:
        loss = step(run, *batch)
        steps.append(tn.state.to_torch(run.model))
        return loss

    monkeypatch.setattr(train, "train_step", noted)
    options = [*TINY, "--epochs", 1, "--data-dir", digits, "--ema-decay"]
    for decay in (0, 0.75):
        steps.clear()
        assert cli("train", *options, decay, "--output-dir", decay).code == 0
    plain, averaged = (weights(Path(name, "last.safetensors")) for name in ("0", "0.75"))
    average = steps[0]
    for after in steps[1:]:
        average = {name: 0.75 * average[name] + 0.25 * after[name] for name in average}
    for name, expected in average.items():
        assert plain[name].tobytes() == steps[-1][name].tobytes()  # training itself is the same
        np.testing.assert_allclose(averaged[name], expected, rtol=0, atol=1e-6)
    best = weights(Path("0.75/best.safetensors"))
    assert same(best, {name: averaged[name] for name in best})

    (epoch, test), (plain_epoch, _) = metrics(Path("0.75")), metrics(Path("0"))
    assert epoch["train_loss"] == plain_epoch["train_loss"]
    assert epoch["validation_loss"] != plain_epoch["validation_loss"]
    assert json.loads(cli("evaluate", "0.75", "--json").out)["loss"] == test["test_loss"]


@pytest.mark.parametrize("model", [["mlp", "--width", 16], ["fast"], ["resnet18", "--width", 4]])
def test_images_are_prepared_as_the_options_say(cli: Cli, digits: Path, model: list[Any]) -> None:
    options = ["--image-size", 32, "--mean", 0, "--std", 1, "--augment", "affine,scale=0.2"]
    run = cli("train", "--model", *model, *TINY[4:], *options, "--data-dir", digits)
    assert run.code == 0, run.err
    warps = "rotation_deg=10,translation=0.1,shear_deg=7.5,scale=0.2"
    assert f"\nimage size 32; augmentation {warps}\nfolder: " in run.out
    (folder,) = Path("runs").iterdir()
    config, trained = load_run(folder)
    assert config.recipe.augment == Augment.parse(warps)
    images, _ = next(split_loader(config, "test").epoch(0))
    assert images.shape == (200, 32, 32, 1)
    assert (images.min(), images.max()) == (0, 1)
    assert trained(tn.Tensor(images[:2])).shape == (2, 10)
    assert cli("evaluate", folder).code == 0


def test_images_of_a_size_that_the_model_cannot_read_are_refused(
    cli: Cli, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_28_pixels(*, classes: int, channels: int, generator: Any) -> Any:
        return models.create("mlp", classes=classes, channels=channels, generator=generator)

    monkeypatch.setitem(models.models._entries, "fixed", of_28_pixels)
    run = cli("train", "--model", "fixed", "--image-size", 32, "--data-dir", digits, *TINY[4:])
    assert run.code == 2
    assert "the model cannot read images of 32x32; change --image-size (linear: " in run.err
    assert not Path("runs").exists()


def test_a_dry_run_shows_how_images_are_prepared(cli: Cli) -> None:
    options = ["--augment", "shift", "--ema-decay", 0.99, "--label-smoothing", 0.1]
    run = cli("train", *TINY, "--dry-run", *options)
    assert run.code == 0
    line = "augmentation translation=0.07; label smoothing 0.1; average of the weights 0.99"
    assert line in run.out.splitlines()


def test_a_seed_is_a_run(cli: Cli, digits: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ("--seed", seed, "--data-dir", digits, "--output-dir", name)
        assert cli("train", "--width", 4, *TINY[4:], "--epochs", 1, *options).code == 0
    a, b, c = (weights(Path(name, "last.safetensors")) for name in "abc")
    assert same(a, b)
    assert all(not np.array_equal(a[n], c[n]) for n in ("conv1.weight", "fc.weight", "bn1.bias"))
    splits = [config(Path(name))["facts"]["validation_split"] for name in "abc"]
    assert splits[0] == splits[1] != splits[2]


def test_both_backends_learn_the_same(cli: Cli, digits: Path) -> None:
    for backend in ("numpy", "reference"):
        options = ("--backend", backend, "--data-dir", digits, "--output-dir", backend)
        run = cli("train", "--width", 4, *TINY[4:], "--limit-batches", 3, *options)
        assert run.code == 0
        assert f"backend {backend}," in run.out
    fast, plain = metrics(Path("numpy")), metrics(Path("reference"))
    for epoch in (0, 1):
        for figure in ("train_loss", "validation_loss"):
            # Sums in another order differ by float32's 6e-8, and Adam's first steps, which divide
            # by small gradients, magnify that.
            assert fast[epoch][figure] == pytest.approx(plain[epoch][figure], rel=2e-3)


def test_options_decide_how_much_is_trained(cli: Cli, digits: Path) -> None:
    options = "--epochs 3 --batch-size 40 --train-size 150 --limit-batches 2 --lr 0.5"
    run = cli(
        "train", *TINY, *options.split(), "--data-dir", digits, "--output-dir", "some/where/run"
    )
    assert run.code == 0
    folder = Path("some/where/run")
    values = config(folder)
    assert values["recipe"]["epochs"] == 3
    assert values["recipe"]["batch_size"] == 40
    assert values["recipe"]["lr"] == 0.5
    assert values["recipe"]["claimed"] == {}  # no longer the paper's network
    assert "the paper reports" not in run.out
    assert values["limit_batches"] == 2
    assert values["data_dir"] == str(digits)
    assert values["facts"]["train_images"] == values["train_size"] == 150
    assert [line["step"] for line in metrics(folder)] == [2, 4, 6, 6]
    last, standing = tn.state.read_arrays(folder / "last.safetensors")
    assert standing["step"] == 6
    assert standing["finished"]
    assert last["optimizer.0.lr"][0] == pytest.approx(0.5 / 25 / 1e4)  # the end of one cycle


def test_the_learning_rate_matters(cli: Cli, digits: Path) -> None:
    for lr in ("0", "0.01"):
        options = ("--lr", lr, "--schedule", "constant", "--data-dir", digits, "--output-dir", lr)
        assert cli("train", *TINY, "--epochs", 3, *options).code == 0
    still, moving = metrics(Path("0")), metrics(Path("0.01"))
    assert still[0]["train_loss"] == pytest.approx(still[2]["train_loss"], rel=1e-6)
    assert moving[2]["train_loss"] < 0.8 * moving[0]["train_loss"]


def test_every_optimizer_and_schedule_trains(cli: Cli, digits: Path) -> None:
    pairs = {(name, "constant") for name in OPTIMIZERS} | {("sgd", name) for name in SCHEDULES}
    for optimizer, schedule in sorted(pairs):
        options = ("--optimizer", optimizer, "--schedule", schedule)
        folder = f"{optimizer}-{schedule}-run"
        rest = ("--epochs", 1, "--data-dir", digits, "--output-dir", folder)
        run = cli("train", *TINY, *options, *rest)
        assert run.code == 0, run.err
        assert f"{optimizer} at 0.003 ({schedule})" in run.out
    momentum = ("--optimizer", "sgd", "--momentum", 0.9)
    rest = ("--epochs", 1, "--data-dir", digits, "--output-dir", "momentum")
    assert cli("train", *TINY, *momentum, *rest).code == 0
    assert "optimizer.0.momentum_buffer" in weights(Path("momentum/last.safetensors"))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [1, 0.9330, 0.75, 0.5, 0.25, 0.0670, 0]),
        ("step", [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001]),
        ("exponential", [1, 0.9655, 0.9322, 0.9, 0.8689, 0.8390, 0.81]),
        ("one-cycle", [0.04, 0.9698, 0.75, 0.4132, 0.1170, 4e-6, 4e-6]),  # the top is at 0.5
    ],
)
def test_schedules_over_two_epochs_of_three_steps(schedule: str, rates: list[float]) -> None:
    recipe = replace(recipes.get("fast"), optimizer="sgd", lr=1.0, schedule=schedule, epochs=2)
    model = models.create("mlp", width=1)
    optimizer = make_optimizer(recipe, model)
    steps = make_schedule(recipe, optimizer, 6)
    seen = [optimizer.param_groups[0].lr]
    for _ in range(6):
        steps.step()
        seen.append(optimizer.param_groups[0].lr)
    assert seen == pytest.approx(rates, abs=1e-4)


def test_folders_are_never_taken_twice(cli: Cli, digits: Path) -> None:
    for name in ("mlp-16", "mlp-16-2", "mlp-16-3"):
        run = cli("train", *TINY, "--epochs", 1, "--limit-batches", 1, "--data-dir", digits)
        assert f"folder: runs/{name}\n" in run.out
    before = Path("runs/mlp-16/last.safetensors").read_bytes()
    run = cli("train", *TINY, "--data-dir", digits, "--output-dir", "runs/mlp-16")
    assert run.code == 2
    assert run.err.startswith("hwr.train: error: runs/mlp-16 already holds a run; choose another")
    assert Path("runs/mlp-16/last.safetensors").read_bytes() == before


def test_any_option_of_the_network_can_be_typed(cli: Cli, digits: Path, tmp_path: Path) -> None:
    options = ["--model-option", "layers=4", "--model-option", "padding=valid"]
    short = ["--epochs", 1, "--limit-batches", 1, "--validation", 100, "--data-dir", digits]
    run = cli("train", "--recipe", "ahlawat-3-layers", *options, *short)
    assert run.code == 0, run.err
    folder = tmp_path / "runs" / "ahlawat-cnn-4-valid"
    assert config(folder)["recipe"]["model_options"] == {"layers": 4, "padding": "valid"}
    wrong = cli("train", "--recipe", "ahlawat-3-layers", "--model-option", "layer=4", *short)
    assert wrong.code == 2
    assert "has no option 'layer'; it has: layers, maps" in wrong.err
    assert cli("train", "--model-option", "layers").code == 2


def test_a_network_can_learn_by_squared_error(cli: Cli, digits: Path, tmp_path: Path) -> None:
    output = tn.Tensor(np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]))
    labels = np.array([2, 1])
    share = np.exp(output.numpy()) / np.exp(output.numpy()).sum(1, keepdims=True)
    error = ((share - np.eye(3)[labels]) ** 2).mean(1)
    task = tasks.get("classification-mse")
    assert task.loss(output, labels).item() == pytest.approx(error.mean())
    assert task.loss(output, labels, reduction="sum").item() == pytest.approx(error.sum())

    options = ["--epochs", 8, "--lr", 0.01, "--data-dir", digits, "--output-dir", "run"]
    run = cli("train", *TINY, "--task", "classification-mse", *options)
    assert run.code == 0, run.err
    losses = [line["train_loss"] for line in metrics(tmp_path / "run") if "train_loss" in line]
    assert losses[-1] < 0.5 * losses[0] < 0.1  # at most 1/5: ten squares of two sure mistakes


def test_weights_are_kept_after_the_epochs_named(cli: Cli, digits: Path, tmp_path: Path) -> None:
    options = ["--epochs", 3, "--keep-epochs", "2,1", "--ema-decay", 0.5, "--data-dir", digits]
    assert cli("train", *TINY, *options, "--output-dir", "run").code == 0
    tests = [line for line in metrics(tmp_path / "run") if "test_accuracy" in line]
    assert [line["after_epoch"] for line in tests] == [1, 2, 3]
    for line in tests:
        name = line["weights"].removesuffix(".safetensors")
        shown = json.loads(cli("evaluate", "run", "--weights", name, "--json").out)
        assert shown["accuracy"] == line["test_accuracy"]
        assert shown["loss"] == pytest.approx(line["test_loss"])
    late = cli("train", *TINY, "--epochs", 3, "--keep-epochs", "4", "--data-dir", digits)
    assert late.code == 2
    assert "--keep-epochs 4 is after the last epoch, 3" in late.err
