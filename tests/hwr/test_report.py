"""`python -m hwr.report`: numbers, page and pictures of a run."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwr.report import features

Cli = Callable[..., Any]
REPORT = "report.__main__"


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda n: None if n == "matplotlib" else find(n)
    )


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient ascent ends early: nobody looks at these pictures."""
    monkeypatch.setattr(features, "STEPS", 2)


@pytest.fixture
def train(cli: Cli, digits: Path) -> Callable[..., Path]:
    """Train a run of one epoch into a folder: `train("run", "--model", "mlp")`."""

    def trained(folder: str, *options: object) -> Path:
        small = ["--validation", 100, "--batch-size", 50, "--threads", 1, "--epochs", 1]
        run = cli("train", *small, *options, "--data-dir", digits, "--output-dir", folder)
        assert run.code == 0, run.err
        return Path(folder)

    return trained


def report_of(folder: Path) -> dict[str, Any]:
    """What report.json of a folder holds."""
    values: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return values


def test_a_run_as_a_page_with_pictures(
    cli: Cli, train: Callable[..., Path], few_steps: None
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder = train("run", "--width", 4, "--augment", "affine")
    run = cli(REPORT, folder)
    assert run.code == 0, run.err
    assert run.out.splitlines()[0].startswith("run: test accuracy ")
    assert run.out.splitlines()[1] == "report: run/report/report.html (and .md, .json)"

    text = (folder / "report" / "report.md").read_text()
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    names = "curves confusion classes reliability mistakes filters features augmented"
    assert shown == [f"{name}.png" for name in names.split()]
    for name in shown:
        assert (folder / "report" / name).read_bytes().startswith(b"\x89PNG")
    page = (folder / "report" / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == len(shown)
    assert "rotation_deg=10" in text  # what the augmented digits went through

    values = report_of(folder / "report")
    measured = json.loads(cli("evaluate", folder, "--json").out)
    for name in ("accuracy", "interval", "correct", "total", "confusion", "split"):
        assert values[name] == measured[name]
    assert values["loss"] == pytest.approx(measured["loss"])
    wrong = values["total"] - values["correct"]
    assert len(values["mistakes"]) == wrong
    assert values["epochs"][0]["epoch"] == 1
    assert values["config"]["recipe"]["model"] == "resnet18"
    assert values["doubted_labels"] is None  # these are not MNIST's own test images


def test_without_matplotlib_the_numbers_are_written(
    cli: Cli, train: Callable[..., Path], no_matplotlib: None
) -> None:
    folder = train("run", "--model", "mlp", "--width", 8)
    run = cli(REPORT, folder, "--output-dir", "page", "--weights", "best", "--split", "train")
    assert run.code == 0, run.err
    line = "no pictures: matplotlib is not installed; pip install '.[plot]'"
    assert line in run.err.splitlines()
    assert sorted(p.name for p in Path("page").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    values = report_of(Path("page"))
    assert (values["weights"], values["split"], values["total"]) == ("best", "train", 400)
    assert "pip install '.[plot]'" in Path("page/report.md").read_text()
    assert not (folder / "report").exists()


def test_mnists_doubted_labels_are_marked(cli: Cli, no_matplotlib: None) -> None:
    options = "--model mlp --width 8 --epochs 1 --train-size 2000 --threads 1 --output-dir run"
    assert cli("train", *options.split()).code == 0
    run = cli(REPORT, "run", "--json")
    assert run.code == 0, run.err
    values = json.loads(run.out)
    assert values == report_of(Path("run/report"))
    people = values["doubted_labels"]
    assert (len(people["indices"]), people["total"]) == (15, 9995)
    marked = {m["index"]: m["people"] for m in values["mistakes"] if m["doubted"]}
    assert marked.keys() <= set(people["indices"])
    agreeing = sum(m["people"] == m["read_as"] for m in values["mistakes"])
    doubted_but_read = 15 - len(marked)
    assert people["correct"] == values["correct"] - doubted_but_read + agreeing
    text = Path("run/report/report.md").read_text()
    assert "Mind that only 2,000 of the training images were used." in text


def test_a_recurrent_network_has_no_filters_to_show(
    cli: Cli, train: Callable[..., Path], few_steps: None
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder = train("run", "--model", "simple-rnn", "--width", 8)
    assert cli(REPORT, folder).code == 0
    text = (folder / "report" / "report.md").read_text()
    assert "The first layer is recurrent: its weights are not images" in text
    assert "(features.png)" in text
    assert "(filters.png)" not in text


def test_an_unfinished_run_is_called_so(
    cli: Cli, digits: Path, interrupt_at: Callable[..., Any], no_matplotlib: None
) -> None:
    options = "--model mlp --width 8 --validation 100 --batch-size 100 --epochs 2 --threads 1"
    with interrupt_at(2):
        run = cli("train", *options.split(), "--data-dir", digits, "--output-dir", "run")
    assert run.code == 130
    assert cli(REPORT, "run").code == 0
    text = Path("run/report/report.md").read_text()
    assert "Mind that training has not finished: 0 of 2 epochs are done." in text
    assert "No epoch is recorded in `metrics.jsonl`." in text


def test_lines_of_older_runs_and_half_lines(
    cli: Cli, train: Callable[..., Path], no_matplotlib: None
) -> None:
    folder = train("run", "--model", "mlp", "--width", 8)
    old = {"epoch": 1, "train_loss": 0.5, "lr": 0.1}
    (folder / "metrics.jsonl").write_text(json.dumps(old) + '\n{"epoch": 2, "train')
    assert cli(REPORT, folder).code == 0
    assert report_of(folder / "report")["epochs"] == [old]
    text = (folder / "report" / "report.md").read_text()
    assert "| epoch | training loss | learning rate at the end |" in text


def test_several_runs_at_once(cli: Cli, train: Callable[..., Path], no_matplotlib: None) -> None:
    first = train("a/run", "--model", "mlp", "--width", 8)
    second = Path("b/other")
    shutil.copytree(first, second)
    run = cli(REPORT, first, second, "--output-dir", "pages")
    assert run.code == 0, run.err
    assert all(Path("pages", name, "report.html").exists() for name in ("run", "other"))
    shutil.copytree(first, "b/run")
    run = cli(REPORT, first, "b/run", "--output-dir", "pages")
    assert run.code == 2
    assert "two of the runs are called 'run' and would share a folder" in run.err
    assert run.err.count("\n") == 1


def test_what_cannot_be_reported_on(
    cli: Cli, train: Callable[..., Path], no_matplotlib: None
) -> None:
    folder = train("run", "--model", "mlp", "--width", 8)
    (folder / "best.safetensors").unlink()
    Path("file").touch()
    for options, message in {
        ("missing",): "missing is not a run folder; train one first: python -m hwr.train",
        (folder, "missing"): "missing is not a run folder",
        (folder, "--weights", "best"): "run/best.safetensors: there is no such file",
        (folder, "--backend", "nump"): "unknown backend 'nump'; did you mean 'numpy'?",
        (folder, "--output-dir", "file"): "cannot write file",
    }.items():
        run = cli(REPORT, *options)
        assert run.code == 2
        assert run.err.startswith(f"hwr.{REPORT}: error: {message}")
        assert run.err.count("\n") == 1
    assert not (folder / "report").exists()
