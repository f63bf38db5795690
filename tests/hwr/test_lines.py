"""Images of lines: on a canvas to be read, in patches for their writers, and trained on."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwr import data, train
from hwr.config import Config
from hwr.data import Dataset, Loader, Strings
from hwr.data.lines import Canvas, Patches
from hwr.errors import DataError, UserError
from hwr.evaluate import load_split
from hwr.recipes import Recipe, Row, Table, recipes, tables
from hwr.string_reader import StringReader, read_string
from hwr.tasks import Classification
from hwr.trials import Trial, check_trials, trials_of
from tinynn import state

Cli = Callable[..., Any]
TINY = {"stem": 8, "layers": 1, "growth": 4, "transition": 8}
CODES = "12", "21", "11", "22", "121", "212"

pytestmark = pytest.mark.usefixtures("one_thread")


def lines(*shapes: tuple[int, int], text: str = "1", writers: str = "") -> Strings:
    """Random lines; `writers` gives each one a letter."""
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 256, shape, np.uint8) for shape in shapes)
    groups = {"writer": np.array(list(writers))} if writers else {}
    return Strings("made", "train", images, (text,) * len(images), ("1", "2"), groups)


# -- canvas --------------------------------------------------------------------------------------


@given(st.integers(1, 90), st.integers(1, 400), st.sampled_from([0.5, 0.85, 1.0]))
def test_every_line_fits_the_canvas(h: int, w: int, fill: float) -> None:
    line = np.full((h, w), 40, np.uint8)
    line[h // 2, w // 2] = 240
    fitted = Canvas(height=32, width=96, fill=fill).fit(line)
    assert (fitted.shape, fitted.dtype) == ((32, 96), np.uint8)
    inked = np.argwhere(fitted)
    if len(inked):  # area resampling may leave too little of one pixel
        assert (inked.max(0) - inked.min(0) < fill * np.array([32, 96]) + 1).all()


def test_a_line_keeps_its_shape_and_loses_its_paper() -> None:
    line = np.full((20, 100), 60, np.uint8)
    line[5:15, 40:50] = 180  # a square
    fitted = Canvas(height=40, width=240).fit(line)
    rows, columns = np.nonzero(fitted > 127)
    assert (rows.min(), np.ptp(rows) + 1, columns.min(), np.ptp(columns) + 1) == (10, 20, 100, 20)
    assert fitted.max() == 255
    assert fitted[:, :15].max() == fitted[0].max() == 0
    assert not Canvas().fit(np.full((20, 100), 60, np.uint8)).any()
    faint = np.full((32, 256), 60, np.uint8)
    faint[16, 100] = 70
    assert Canvas().fit(faint).max() == 10  # no contrast is made where there is none


def test_texts_become_padded_labels_of_the_classes() -> None:
    found = replace(lines((20, 60), (30, 40), (9, 9)), texts=("12", "2", ""))
    made = Canvas(height=8, width=16)(found, ("0", "1", "2"))
    assert made.images.shape == (3, 8, 16, 1)
    assert made.labels.tolist() == [[1, 2], [2, -1], [-1, -1]]
    assert made.classes == ("0", "1", "2")
    with pytest.raises(UserError, match="text 0 is '12', and '2' is none of the 1 symbols"):
        Canvas()(found, ("1",))


@pytest.mark.parametrize("options", [{"height": 0}, {"width": 0}, {"fill": 0.0}, {"fill": 1.5}])
def test_a_canvas_without_room_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"canvas: .*expected 1 or more pixels each way"):
        Canvas(**options)


def test_labels_of_strings_are_checked() -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    Dataset("a", "train", images, np.array([[0, 1], [1, -1]]), ("x", "y"))
    with pytest.raises(DataError, match=r"label 1 is \[ ?1 2\], expected 0 to 1"):
        Dataset("a", "train", images, np.array([[0, 1], [1, 2]]), ("x", "y"))
    strings = Dataset("a", "train", images, np.array([[0, 1], [1, -1]]), ("x", "y"))
    assert [len(part) for part in data.holdout(strings, 1, 0)] == [1, 1]
    with pytest.raises(UserError, match="a holds strings, which are of no class"):
        data.holdout(strings, 1, 0, stratified=True)


# -- patches -------------------------------------------------------------------------------------


@given(arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 300))), st.integers(1, 4))
def test_a_line_gives_as_many_patches_as_it_is_wide(line: Any, most: int) -> None:
    cut = Patches(size=20, most=most).cut(line, 3)
    width = max(20, round(line.shape[1] * 20 / line.shape[0]))
    assert cut.shape == (min(most, width // 20), 20, 20)


def test_patches_know_their_line_and_writer() -> None:
    found = lines((20, 70), (20, 30), (40, 80), writers="bab")
    patches = Patches(size=20, most=3)
    classes = patches.classes(found)
    made = patches(found, classes)
    assert classes == ("a", "b")
    assert made.labels.tolist() == [1, 1, 1, 0, 1, 1]
    assert made.groups["line"].tolist() == ["0", "0", "0", "1", "2", "2"]
    (line,) = patches(found.subset([0]), classes).images[:1]
    assert np.array_equal(line, made.images[0])  # whatever else is in the split
    windows = np.lib.stride_tricks.sliding_window_view(found.images[0], (20, 20))[0]
    assert any(np.array_equal(line[..., 0], window) for window in windows)


def test_writers_nobody_trained_on_and_lines_of_nobody_are_refused() -> None:
    with pytest.raises(UserError, match="the writer 'c' is none of the 2 trained on"):
        Patches(size=20)(lines((20, 20), writers="c"), ("a", "b"))
    with pytest.raises(DataError, match="no line says its writer; what is known: nothing"):
        Patches().classes(lines((20, 20)))
    with pytest.raises(UserError, match="patches: 0 of 113 pixels a line; expected 1 or more"):
        Patches(most=0)


def test_a_line_is_told_by_the_vote_of_its_patches() -> None:
    found = Patches(size=20, most=3)(lines((20, 60), (20, 60), writers="ab"), ("a", "b"))
    result = Classification().result(1.0, np.array([0, 0, 1, 1, 0, 0]), found.labels, found)
    assert (result.correct, result.total) == (3, 6)
    assert (result.lines_right, result.lines_total) == (1, 2)
    assert result.figures()["line_accuracy"] == 0.5
    assert result.lines(("a", "b"))[0].startswith("lines, by vote of their patches: 50.00 %")


# -- training and reading ------------------------------------------------------------------------


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """A folder of captchas: a bar for 1, a block for 2, in pictures of several sizes."""
    folder = tmp_path / "captcha"
    folder.mkdir()
    for i, code in enumerate(f"{a}{b}" for a in CODES for b in CODES):
        image = np.full((20 + i % 3, 24 * len(code)), 230, np.uint8)
        for place, symbol in enumerate(code):
            left = 24 * place + 6
            image[4:16, left : left + (2 if symbol == "1" else 8)] = 20
        cv2.imwrite(str(folder / f"{code}.png"), image)
    for twice in ("1111", "2222"):
        (folder / f"{twice}.png").unlink()
    return folder


@pytest.fixture
def bars(codes: Path) -> Iterator[Recipe]:
    """The recipe for codes with a tiny network."""
    recipe = replace(
        recipes.get("captcha"),
        name="bars",
        canvas=Canvas(height=16, width=128),
        model_options={**TINY, "height": 16},
        validation=4,
        batch_size=4,
        lr=1e-2,
        augment=None,
    )
    recipes.register(recipe.name)(recipe)
    yield recipe
    del recipes._entries[recipe.name]


def test_strings_of_files_are_learnt_read_and_drawn(
    cli: Cli, codes: Path, bars: Recipe, tmp_path: Path
) -> None:
    options = ["--recipe", "bars", "--data-dir", codes, "--threads", 1]
    run = cli("train", *options, "--epochs", 18, "--output-dir", "run")
    assert run.code == 0, run.err
    assert "canvas 16x128 pixels, filled to 1" in run.out
    values = json.loads(cli("evaluate", "run", "--split", "train", "--json").out)
    assert values["accuracy"] > 0.8, values

    reader = StringReader(Path("run"))
    texts = []
    for path in sorted(codes.iterdir()):
        image = cv2.imread(str(path))
        reading = reader.read(image)
        assert 0 < reading.probability <= 1
        assert reading == reader.read(255 - image)  # light on dark
        greedy = reader.read(image, beam=None)
        assert greedy.probability <= reading.probability + 1e-6  # one path of many
        texts.append((reading.text, path.stem))
    assert sum(read == code for read, code in texts) > 0.7 * len(texts)
    assert read_string(image, Path("run")) == (reading.text, reading.probability)
    shown = cli("predict", "--string", path, "--model", "run", "--json")
    assert json.loads(shown.out)["text"] == reading.text, shown.err
    unnamed = cli("predict", "--string", path)
    assert unnamed.code == 2
    assert "--string needs --model, a run that reads strings" in unnamed.err
    with pytest.raises(UserError, match=r"an image of a string is uint8 .* not float64 \(3, 3\)"):
        reader.read(np.zeros((3, 3)))

    short = cli("train", *options, "--epochs", 1, "--output-dir", "short")
    assert short.code == 0, short.err
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    drawn = cli("evaluate", "short", "--misread", "misread.png")
    assert drawn.code == 0, drawn.err
    assert Path("misread.png").read_bytes().startswith(b"\x89PNG")
    for command in "report.__main__", "inspect.__main__":
        refused = cli(command, "run")
        assert refused.code == 2
        assert "reads strings, and" in refused.err
        assert "evaluate RUN --misread PNG" in refused.err


def test_no_test_line_is_seen_before_the_end_of_training(
    cli: Cli, codes: Path, bars: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, epoch = train.fit, Loader.epoch
    seen: list[str] = []

    def watched_epoch(loader: Loader, *args: Any) -> Any:
        seen.append(loader.dataset.split)
        return epoch(loader, *args)

    def watched_fit(*args: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(Loader, "epoch", watched_epoch)
            return fit(*args)

    monkeypatch.setattr(train, "fit", watched_fit)
    options = ["--recipe", "bars", "--data-dir", codes, "--threads", 1, "--epochs", 1]
    assert cli("train", *options, "--output-dir", "run").code == 0
    assert seen == ["train", "train"]  # an epoch of training, and its validation


def test_fine_tuning_begins_with_trained_weights(cli: Cli, codes: Path, bars: Recipe) -> None:
    options = ["--recipe", "bars", "--data-dir", codes, "--threads", 1, "--epochs", 1]
    missing = cli("train", *options, "--initial-weights", "none", "--output-dir", "a")
    assert missing.code == 2
    assert "none holds no trained weights to begin with" in missing.err
    assert not Path("a").exists()
    assert cli("train", *options, "--output-dir", "first").code == 0
    run = cli("train", *options, "--initial-weights", "first", "--lr", 0, "--output-dir", "b")
    assert run.code == 0, run.err
    assert "initial weights: " in run.out
    a, b = (state.read_arrays(Path(name, "last.safetensors"))[0] for name in ("first", "b"))
    assert np.array_equal(a["fc.weight"], b["fc.weight"])  # at rate 0 they stay
    other = [*options, "--model-option", "growth=8", "--initial-weights", "first"]
    assert cli("train", *other, "--output-dir", "c").code == 2


def test_a_recipe_with_pretraining_names_its_run(
    cli: Cli, codes: Path, bars: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = replace(bars, name="tuned", pretraining="bars", epochs=1)
    monkeypatch.setitem(recipes._entries, "tuned", tuned)
    run = cli("train", "--recipe", "tuned", "--data-dir", codes, "--threads", 1)
    assert run.code == 2
    assert "train them first: python -m hwr.train --recipe bars" in run.err
    facts = {"name": "t", "title": "", "paper": "", "note": "", "seeds": (0, 1)}
    row = Row(label="tuned", recipe=tuned)
    with pytest.raises(ValueError, match="table t: tuned begins with the weights of bars"):
        Table(rows=(row,), **facts)
    table = Table(rows=(row, Row(label="bars", recipe=bars)), **facts)
    trials = list(trials_of(table, Path("runs"), Config(recipe=bars), (0, 1)))
    begun = {trial.name: trial.config.initial_weights for trial in trials}
    assert begun["tuned-epochs-1-seed-1"] == "runs/bars-epochs-40-seed-1"
    assert begun["bars-epochs-40-seed-1"] is None
    assert [trial.waits for trial in trials[:2]] == [True, False]


def test_a_run_that_began_with_other_weights_is_not_mixed_in(tmp_path: Path, bars: Recipe) -> None:
    tuned = Row(label="tuned", recipe=replace(bars, name="tuned", pretraining="bars", epochs=1))
    facts = {"name": "t", "title": "", "paper": "", "note": "", "seeds": (0,)}

    def trials(epochs: int) -> list[Trial]:
        first = Row(label="bars", recipe=replace(bars, epochs=epochs))
        return list(
            trials_of(Table(rows=(tuned, first), **facts), tmp_path, Config(recipe=bars), (0,))
        )

    before = next(trial for trial in trials(40) if trial.name == "tuned-epochs-1-seed-0")
    before.folder.mkdir()
    facts_of_data = {"classes": 10, "class_names": list("0123456789")}
    began = replace(before.config, facts=facts_of_data)
    (before.folder / "config.json").write_text(began.to_json())
    check_trials(trials(40), any_commit=True)
    with pytest.raises(UserError, match="bars-epochs-40-seed-0 there, bars-epochs-50-seed-0 here"):
        check_trials(trials(50), any_commit=True)


def test_data_of_another_kind_are_refused(codes: Path) -> None:
    reads = Config(recipe=replace(recipes.get("captcha"), dataset="mnist"))
    with pytest.raises(UserError, match="mnist holds characters, not strings"):
        load_split(reads, "train")
    tells = Config(recipe=replace(recipes.get("fast"), dataset="captcha"), data_dir=str(codes))
    with pytest.raises(UserError, match="captcha holds strings, not characters"):
        load_split(tells, "train")


def test_reproduce_draws_what_strings_misread(
    cli: Cli, codes: Path, bars: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    row = Row(label="bars", recipe=replace(bars, epochs=1))
    table = Table(name="bars", title="Bars", paper="", note="", rows=(row,), seeds=(0,))
    monkeypatch.setitem(tables._entries, "bars", table)
    run = cli("reproduce", "bars", "--data-dir", codes, "--threads", 1, "--output-dir", "out")
    assert run.code == 0, run.err
    assert Path("out/reports/bars-epochs-1-seed-0/misread.png").exists()
    assert "misread.png" in Path("out/bars/index.md").read_text()
