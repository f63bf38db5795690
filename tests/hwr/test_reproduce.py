"""What `python -m hwr.reproduce` runs, writes, refuses and leaves out."""

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr import reproduce as reproduce_module
from hwr import train, trials
from hwr.recipes import Recipe, Row, Table, tables
from hwr.report import figures, style
from hwr.reproduce import duration, is_older
from hwr.svm import fit
from hwr.tabulate import interval

Cli = Callable[..., Any]
InterruptAt = Callable[..., AbstractContextManager[None]]

SHORT = Recipe(
    name="short", paper="", model="mlp", model_options={"width": 16}, epochs=1, batch_size=50,
    lr=0.01, validation=100,
)  # fmt: skip
LONG = replace(SHORT, name="long", epochs=3)
SHORT_NAME, LONG_NAME = "short-epochs-1-images-100-seed-0", "long-epochs-3-seed-0"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table of two runs a seed; the longer fills two rows."""
    table = Table(
        name="small",
        title="A small table",
        paper="Nobody: On nothing",
        note="For tests.",
        rows=(
            Row(label="long, 1", recipe=LONG, epoch=1, claimed=50.0),
            Row(label="long, 3", recipe=LONG, epoch=3, claimed=60.0, claimed_loss=0.5),
            Row(label="short", recipe=SHORT, train_size=100),
        ),
    )
    monkeypatch.setitem(tables._entries, table.name, table)
    return table


@pytest.fixture
def reproduce_with_pictures(cli: Cli, digits: Path, small: Table) -> Cli:
    """`reproduce_with_pictures("small", ...)` on 400 digits, one thread."""
    return lambda *args: cli("reproduce", "--threads", 1, "--data-dir", digits, *args)


@pytest.fixture
def reproduce(reproduce_with_pictures: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The same without pictures, and without reports on single runs: they take time."""
    monkeypatch.setattr(style, "installed", lambda: False)
    monkeypatch.setattr(reproduce_module, "report", lambda args: None)
    return reproduce_with_pictures


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run is said to take 10 seconds, a long one a minute."""
    monkeypatch.setattr(
        trials, "training_seconds", lambda config: {1: 10.0, 3: 60.0}[config.recipe.epochs]
    )


def results(root: Path) -> dict[str, Any]:
    """What the small table's results.json holds."""
    found: dict[str, Any] = json.loads((root / "small" / "results.json").read_text())
    return found


def trained(root: Path) -> list[str]:
    """The runs that are there."""
    return sorted(path.name for path in (root / "trials").iterdir())


ROOT = Path("runs/reproduce")


def test_a_table_sets_claimed_beside_measured(reproduce_with_pictures: Cli, cli: Cli) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    done = reproduce_with_pictures("small", "--report")
    assert done.code == 0, done.err
    first, last, short = results(ROOT)["rows"]
    assert [row["label"] for row in (first, last, short)] == ["long, 1", "long, 3", "short"]
    assert (first["claimed"], last["claimed"], short["claimed"]) == (50.0, 60.0, None)
    assert first["runs"] == last["runs"] == ["long-epochs-3-seed-0", "long-epochs-3-seed-1"]
    for row, weights in ((first, "epoch-1"), (last, "last"), (short, "last")):
        accuracies = []
        for name in row["runs"]:  # the figures are those of the runs, as anybody may measure them
            shown = cli("evaluate", ROOT / "trials" / name, "--weights", weights, "--json")
            accuracies.append(100 * json.loads(shown.out)["accuracy"])
        assert row["accuracies"] == pytest.approx(accuracies)
        assert row["accuracy"] == pytest.approx(sum(accuracies) / 2)
        assert row["sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
        assert row["interval"][0] < row["accuracy"] < row["interval"][1]
    assert last["loss"] < first["loss"]

    page = (ROOT / "small" / "index.md").read_text()
    assert re.search(r"\| long, 3 \| 60\.00 % \| [\d.]+ ± [\d.]+ % \| 2 \|", page), page
    assert "checkpoints of one run of 3 epochs" in page
    assert "long-epochs-3-seed-1" in page  # where the figures come from
    report = ROOT / "reports" / LONG_NAME / "report.json"  # a run of each recipe is looked into
    assert 100 * json.loads(report.read_text())["accuracy"] == pytest.approx(last["accuracies"][0])
    assert f"### {last['label']}: {LONG_NAME}" in (ROOT / "report.md").read_text()
    for page_file in (ROOT / "report.md", ROOT / "small" / "index.md"):
        for picture in re.findall(r"\]\((.*?png)\)", page_file.read_text()):
            assert (page_file.parent / picture).stat().st_size > 0
    for path in (ROOT / "small" / "index.html", ROOT / "report.html"):
        html = path.read_text()
        assert "A small table" in html
        assert not re.search(r'(src|href)="(?!data:|#)', html)  # needs no other file
    assert "Not run: " in (ROOT / "report.md").read_text()


def test_what_is_done_is_not_done_again(reproduce: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reproduce("small", "--seeds", 1).code == 0
    before = results(ROOT)

    def fail(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train, "train_step", fail)
    assert reproduce("small", "--seeds", 1).code == 0
    assert results(ROOT) == before


def test_pages_are_written_without_a_run(reproduce: Cli) -> None:
    assert reproduce("small", "--seeds", 1).code == 0
    before = trained(ROOT)
    shutil.rmtree(ROOT / "small")
    assert reproduce("small", "--pages").code == 0
    assert trained(ROOT) == before
    assert (ROOT / "small" / "index.md").exists()
    assert [len(row["accuracies"]) for row in results(ROOT)["rows"]] == [1, 1, 1]  # of two seeds


def test_without_matplotlib_the_tables_are_written(reproduce: Cli) -> None:
    done = reproduce("small", "--seeds", 1)
    assert done.code == 0
    assert "no pictures: matplotlib is not installed; pip install" in done.err
    assert "| long, 3 |" in (ROOT / "small" / "index.md").read_text()
    assert not list((ROOT / "small").glob("*.png"))


def test_an_interrupted_table_goes_on(reproduce: Cli, interrupt_at: InterruptAt) -> None:
    assert reproduce("small", "--seeds", 1, "--output-dir", "whole").code == 0
    with interrupt_at(11):  # of 2 + 18; 4 steps are timed for each of the two runs
        stopped = reproduce("small", "--seeds", 1)
    assert stopped.code == 130
    assert "go on by the same command" in stopped.out
    assert [row["accuracy"] is None for row in results(ROOT)["rows"]] == [True, True, False]
    assert "not run" in (ROOT / "small" / "index.md").read_text()
    assert reproduce("small", "--seeds", 1).code == 0
    accuracies = [row["accuracies"] for row in results(ROOT)["rows"]]
    assert accuracies == [row["accuracies"] for row in results(Path("whole"))["rows"]]


def test_a_run_that_was_stopped_before_its_test_is_tested(
    reproduce: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "finish", stop)
        assert reproduce("small", "--seeds", 1).code == 130
    assert reproduce("small", "--seeds", 1).code == 0
    assert all(row["accuracy"] for row in results(ROOT)["rows"])


def test_a_budget_is_spent_on_quick_runs_of_the_first_seed_first(
    reproduce: Cli, costs: None
) -> None:
    done = reproduce("small", "--budget", "55s")
    assert done.code == 0, done.err
    assert trained(ROOT) == [SHORT_NAME, SHORT_NAME.replace("seed-0", "seed-1")]
    assert re.search(
        r"left out, for the budget: long-epochs-3-seed-0 \(about 1:00\), long", done.out
    )
    assert "not run" in (ROOT / "small" / "index.md").read_text()


def test_a_budget_too_small_for_anything_names_the_smallest(reproduce: Cli, costs: None) -> None:
    done = reproduce("small", "--budget", "9s")
    assert done.code == 2
    assert f"the quickest run, {SHORT_NAME}, takes about 0:10" in done.err
    assert not (ROOT / "trials").exists()


def test_runs_of_another_configuration_are_not_mixed_in(
    reproduce: Cli, small: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce("small", "--seeds", 1).code == 0
    other = replace(small, rows=(replace(small.rows[2], recipe=replace(SHORT, lr=0.5)),))
    monkeypatch.setitem(tables._entries, "small", other)
    refused = reproduce("small", "--seeds", 1)
    assert refused.code == 2
    assert f"{SHORT_NAME} holds another run: recipe.lr is 0.01 there, 0.5 here" in refused.err


def test_what_is_written_about_a_run_is_renewed_with_it(tmp_path: Path) -> None:
    run, report = tmp_path / "run", tmp_path / "report.json"
    run.mkdir()
    metrics = run / "metrics.jsonl"
    metrics.write_text("{}")
    assert is_older(report, run)  # there is none
    report.write_text("{}")
    os.utime(report, ns=(0, metrics.stat().st_mtime_ns + 1))
    assert not is_older(report, run)
    os.utime(report, ns=(0, metrics.stat().st_mtime_ns - 1))
    assert is_older(report, run)


def test_runs_of_two_commits_are_mixed_only_if_told_so(
    reproduce: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce("small", "--seeds", 1).code == 0
    monkeypatch.setattr(trials, "commit", lambda: "0123456789ab")
    assert reproduce("small", "--seeds", 1).code == 0  # nothing is left to run
    refused = reproduce("small", "--seeds", 2)
    assert refused.code == 2
    assert "what is still to run: 0123456789ab" in refused.err
    assert reproduce("small", "--seeds", 2, "--any-commit").code == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "name a table"),
        (("smal",), "did you mean 'small'?"),
        (("--report",), "holds no results"),
        (("small", "--backend", "nump"), "did you mean 'numpy'?"),
    ],
)
def test_mistakes_are_explained(reproduce: Cli, args: tuple[str, ...], says: str) -> None:
    done = reproduce(*args)
    assert done.code == 2
    assert says in done.err


def test_damaged_results_are_named(reproduce: Cli) -> None:
    assert reproduce("small", "--seeds", 1).code == 0
    (ROOT / "small" / "results.json").write_text("{")
    done = reproduce("--report")
    assert done.code == 2
    assert "results.json: cannot be read" in done.err


def test_a_time_is_read_as_people_write_it() -> None:
    assert [duration(t) for t in ("45s", "90m", "2h", "1h30m")] == [45, 5400, 7200, 5400]


def test_the_interval_is_that_of_one_pass_over_the_images() -> None:
    low, high = interval([99.0, 99.2], 10_000)
    assert (low, high) == (pytest.approx(98.90, abs=0.005), pytest.approx(99.27, abs=0.005))


def test_every_table_of_the_papers_can_be_planned(reproduce: Cli) -> None:
    listed = reproduce("--list")
    assert listed.code == 0
    for name in tables.names():
        assert name in listed.out
        rows = tables.get(name).rows
        assert len({row.label for row in rows}) == len(rows)
        folders = {trials.folder_name(row, 0): (row.recipe, row.train_size) for row in rows}
        assert len(folders) == len({(repr(r.recipe), r.train_size) for r in rows})


@pytest.fixture
def hybrids(monkeypatch: pytest.MonkeyPatch, small: Table) -> Table:
    """The small table with SVMs in place of the softmax, and one run whose data are not here."""
    pytest.importorskip("sklearn", reason="SVMs are scikit-learn's")
    rows = (
        Row(label="network", recipe=SHORT, claimed=50.0),
        Row(label="linear", recipe=SHORT, classifier="linear-svm"),
        Row(label="rbf", recipe=SHORT, classifier="rbf-svm", claimed=60.0),
        Row(label="elsewhere", recipe=SHORT, test_on="kannada-mnist"),
        Row(label="absent", recipe=replace(LONG, dataset="telugu"), claimed=70.0),
    )
    table = replace(small, rows=rows, seeds=(0,))
    monkeypatch.setitem(tables._entries, "small", table)
    return table


@pytest.fixture
def kannada(digits: Path, idx_bytes: Callable[[Any], bytes], tmp_path: Path) -> Path:
    """A folder of MNIST's 400 digits and, as Kannada-MNIST, of 50 images of noise."""
    folder = tmp_path / "both"
    shutil.copytree(digits, folder)
    rng = np.random.default_rng(0)
    for name, shape, high in (("X", (50, 28, 28), 256), ("y", (50,), 10)):
        array = rng.integers(0, high, shape).astype(np.uint8)
        file = folder / f"{name}_kannada_MNIST_test-idx{len(shape)}-ubyte"
        file.write_bytes(idx_bytes(array))
    return folder


def test_svms_and_other_test_images_have_rows_of_their_own(
    reproduce: Cli, cli: Cli, hybrids: Table, kannada: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **facts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit", stop)
        assert reproduce("small", "--data-dir", kannada).code == 130
    monkeypatch.setattr(train, "train_step", stop)  # it is trained, and goes on with the machines
    monkeypatch.setattr(trials, "training_seconds", lambda config: 1.0)
    done = reproduce("small", "--data-dir", kannada)
    assert done.code == 0, done.err
    assert "what needs telugu is not run, for it is not in" in done.out
    assert "fetch it by python -m hwr.data fetch telugu" in done.out
    rows = {row["label"]: row for row in results(ROOT)["rows"]}
    (run,) = trained(ROOT)
    assert {tuple(row["runs"]) for label, row in rows.items() if label != "absent"} == {(run,)}
    assert rows["absent"]["accuracy"] is None
    side_by_side = json.loads((ROOT / "reports" / run / "svm.json").read_text())
    for label, name in (("network", "softmax"), ("linear", "linear-svm"), ("rbf", "rbf-svm")):
        found = side_by_side[name]
        assert rows[label]["accuracy"] == pytest.approx(100 * found["accuracy"])
        assert rows[label]["validation_accuracy"] == pytest.approx(
            100 * found["validation_accuracy"]
        )
    assert (rows["elsewhere"]["images"], rows["network"]["images"]) == (50, 200)
    assert rows["elsewhere"]["accuracy"] < 40  # noise
    assert rows["elsewhere"]["validation_accuracy"] is None
    page = (ROOT / "small" / "index.md").read_text()
    assert re.search(r"\| absent \| 70\.00 % \| not run \|", page), page


def test_a_row_is_left_out_if_its_test_images_are_not_here(
    reproduce: Cli, hybrids: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = reproduce("small")
    assert done.code == 0, done.err
    assert "what needs kannada-mnist is not run" in done.out
    measured = {row["label"]: row["accuracy"] is not None for row in results(ROOT)["rows"]}
    assert measured == {
        "network": True, "linear": True, "rbf": True, "elsewhere": False, "absent": False,
    }  # fmt: skip


def test_svms_need_scikit_learn_before_anything_is_trained(
    reproduce: Cli, hybrids: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused = reproduce("small")
    assert refused.code == 2
    assert "pip install '.[svm]'" in refused.err
    assert not (ROOT / "trials").exists()


def test_all_leaves_out_what_scikit_learn_is_missing_for(
    reproduce: Cli, small: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (Row(label="linear", recipe=SHORT, classifier="linear-svm"),)
    short = replace(small, rows=(Row(label="network", recipe=SHORT),), seeds=(0,))
    hybrid = replace(small, name="hybrid", rows=rows, seeds=(0,))
    monkeypatch.setattr(tables, "_entries", {"small": short, "hybrid": hybrid})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = reproduce("--all")
    assert done.code == 0, done.err
    assert done.out.endswith("not installed: hybrid; pip install '.[svm]'\n")
    assert (ROOT / "small" / "index.md").exists()
    assert not (ROOT / "hybrid").exists()


def test_a_row_of_an_earlier_epoch_has_no_svm() -> None:
    with pytest.raises(ValueError, match="are for the last epoch"):
        Row(label="early", recipe=LONG, epoch=1, classifier="rbf-svm")


def test_curves_of_runs_that_hold_nothing_out_are_drawn() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    epochs = [{"epoch": n, "train_loss": 1 / n} for n in (1, 2)]
    drawn = style.draw_png(figures.several_curves, {"a": [epochs], "b": [epochs]})
    assert drawn.startswith(b"\x89PNG")
