"""Strings of digits: composed, read, measured, and trained on from start to end."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwr.data
import tinynn as tn
from hwr import models
from hwr.data import Dataset, Loader, Normalize
from hwr.data.synthesis import Synthesis
from hwr.errors import DataError, UserError
from hwr.evaluate import load_run, split_loader
from hwr.recipes import Recipe, recipes
from hwr.strings import PADDING, edit_distance, pad, text, unpad
from hwr.summary import layers
from hwr.tasks import StringEvaluation, tasks
from tinynn import functional as F
from tinynn import optim, state

Cli = Callable[..., Any]
SMALL = {"stem": 32, "layers": 4, "transition": 64}
TINY = {"stem": 8, "layers": 1, "growth": 4, "transition": 8}
words = st.text("abc", max_size=6)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    """MNIST's test digits."""
    return hwr.data.load("mnist", split="test")


# -- measures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("123", "", 3), ("", "7", 1), ("kitten", "sitting", 3), ("1223", "123", 1)],
)
def test_edit_distances_that_are_known(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == distance
    assert edit_distance(list(a), tuple(b)) == distance


@given(words, words, words)
def test_the_edit_distance_is_a_distance(a: str, b: str, c: str) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))
    assert edit_distance(a + c, b + c) == edit_distance(a, b)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=5))
def test_padding_comes_off_again(strings: list[list[int]]) -> None:
    assert unpad(pad(strings)) == [tuple(string) for string in strings]


def test_strings_are_measured() -> None:
    truths, readings = [(1, 2, 3), (), (4,), (5, 5)], [(1, 2, 3), (), (4, 4), ()]
    result = StringEvaluation(0.5, readings, truths)
    assert (result.total, result.correct, result.accuracy) == (4, 2, 0.5)
    assert result.edit_distance == 3 / 4
    assert result.normalised_error == 3 / 6
    first, second = result.lines("abcdefghij")
    assert first == "edit distance 0.7500 a string, normalised error 50.00 % of the signs"
    assert second == "misread: e read as ee, ff read as nothing"
    misread = [{"truth": (4,), "reading": (4, 4)}, {"truth": (5, 5), "reading": ()}]
    assert result.figures()["misread"] == misread
    assert text((0, 2), ["a", "b", "c"]) == "ac"


# -- synthesis ------------------------------------------------------------------------------------


def test_a_string_is_a_function_of_seed_epoch_and_index(mnist: Dataset) -> None:
    compose = Synthesis()
    images, labels = compose(mnist, np.arange(40), seed=1, epoch=2)
    assert (images.dtype, images.shape) == (np.uint8, (40, 32, 256, 1))
    assert (labels.dtype, labels.shape) == (np.int64, (40, 10))
    some = np.array([17, 3, 39])
    again, labels_again = compose(mnist, some, seed=1, epoch=2)
    np.testing.assert_array_equal(again, images[some])
    np.testing.assert_array_equal(labels_again, labels[some])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not np.array_equal(compose(mnist, some, **other)[0], again)


def test_lengths_and_labels_are_those_asked_for(mnist: Dataset) -> None:
    compose = Synthesis(shortest=2, longest=4, height=24, width=150)
    images, labels = compose(mnist, np.arange(200), seed=0, epoch=0)
    assert images.shape == (200, 24, 150, 1)
    assert labels[:, 0].tolist() == mnist.labels[:200].tolist()  # each begins with its digit
    counts = np.bincount([len(string) for string in unpad(labels)])
    assert len(counts) == 5
    assert counts[:2].tolist() == [0, 0]
    assert min(counts[2:]) > 40


def test_all_digits_are_on_the_canvas_in_their_order(mnist: Dataset) -> None:
    """Digits that are blocks as wide as their class says."""
    blocks = np.zeros((10, 28, 28, 1), np.uint8)
    for label in range(10):
        blocks[label, 4:24, 14 - label // 2 - 1 : 14 + label // 2 + 2] = 255
    digits = Dataset("blocks", "train", blocks, np.arange(10), tuple("0123456789"))
    plain = {"slant_deg": (0, 0), "noise": (0, 0), "paper": (0, 0), "ink": (1, 1), "bold": 0.0}
    compose = Synthesis(gap=(6, 8), size=(1, 1), rise_deg=(0, 0), longest=8, **plain)
    images, labels = compose(digits, np.arange(10), seed=0, epoch=0)
    for image, string in zip(images, unpad(labels)):
        ink = np.concatenate([[0], image[..., 0].max(0) > 127, [0]])
        begins, ends = (np.flatnonzero(np.diff(ink) == step) for step in (1, -1))
        assert len(begins) == len(string)
        widths = np.array([label // 2 * 2 + 3 for label in string])
        assert np.abs((ends - begins) - widths).max() <= 4  # they turn and lean a little


def test_strings_too_long_for_the_width_are_moved_together(mnist: Dataset) -> None:
    plain: dict[str, Any] = {"paper": (0, 0), "noise": (0, 0), "bold": 0.0}
    compose = Synthesis(shortest=10, longest=10, width=100, **plain)
    images, _ = compose(mnist, np.arange(50), seed=0, epoch=0)
    assert images[:, :, [0, -1]].max() < 64  # no ink but the faint border of a stroke
    assert (images[:, :, 80:].max((1, 2, 3)) > 64).mean() > 0.9


def test_digits_of_a_part_are_in_its_strings_only(mnist: Dataset) -> None:
    """Strings held out are of digits that are in no training string."""
    train, held_out = hwr.data.holdout(mnist.subset(range(30)), 10, seed=0)
    marked = [replace(part, images=np.full_like(part.images, g)) for part, g in
              ((train, 100), (held_out, 250))]  # fmt: skip
    compose = Synthesis(paper=(0, 0), noise=(0, 0), ink=(1, 1))
    for part, low, high in ((marked[0], 90, 101), (marked[1], 240, 251)):
        images, _ = compose(part, np.arange(10), seed=0, epoch=0)
        assert low < images.max() < high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 8}, "8x256 pixels; expected a height of 16 or more"),
        ({"width": 20}, "32x20 pixels; expected .* a width of no less"),
        ({"shortest": 0}, "from 0 to 10 digits"),
        ({"shortest": 5, "longest": 4}, "from 5 to 4 digits"),
        ({"pitch": 26}, "pitch is 26, expected from 1 to 25.6, the width for each of 10 digits"),
        ({"gap": (3, 1)}, r"gap is \(3, 1\), expected \(least, most\)"),
        ({"slant_deg": (0, 90)}, r"slant_deg is \(0, 90\), expected .* within -60 to 60"),
        ({"size": (0, 1)}, r"size is \(0, 1\), expected .* within 0.25 to 1.5"),
        ({"ink": (0.5, 2)}, r"ink is \(0.5, 2\), expected .* within 0 to 1"),
    ],
)
def test_a_synthesis_that_makes_no_strings_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"synthesis: {message}"):
        Synthesis(**options)


def test_only_grey_digits_can_be_composed(mnist: Dataset) -> None:
    colours = replace(mnist, images=mnist.images.repeat(3, 3))
    with pytest.raises(DataError, match=r"mnist holds images of \(28, 28, 3\), expected"):
        Synthesis()(colours, np.arange(1), seed=0, epoch=0)


def test_a_loader_composes_anew_in_every_epoch(mnist: Dataset) -> None:
    options: dict[str, Any] = {"seed": 3, "normalize": Normalize(0.0, 1.0)}
    loader = Loader(mnist.subset(range(20)), 8, synthesis=Synthesis(), shuffle=True, **options)
    batches = [list(loader.epoch(k)) for k in (0, 1, 0)]
    assert [images.shape for images, _ in batches[0]] == [(n, 32, 256, 1) for n in (8, 8, 4)]
    for (a, labels), (b, _), (c, again) in zip(*batches):
        assert not np.array_equal(a, b)
        assert np.array_equal(a, c)
        assert np.array_equal(labels, again)
    resumed = next(loader.epoch(1, start_batch=2))
    assert np.array_equal(resumed[0], batches[1][2][0])


# -- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parameters", "multiply_adds"),
    [({}, 291_211, 181_116_928), (SMALL, 73_803, 44_617_728)],
)
def test_sizes_of_the_dense_network(
    options: dict[str, Any], parameters: int, multiply_adds: int
) -> None:
    model = models.create("zhan-dense", **options)
    rows = layers(model, (32, 256, 1))
    assert sum(p.size for p in model.parameters()) == parameters
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.multiply_adds for row in rows) == multiply_adds


def test_a_transition_may_take_the_mean_first() -> None:
    transition = models.zhan.Transition(6, 4, generator=np.random.default_rng(0)).eval()
    x = tn.Tensor(np.random.default_rng(1).normal(size=(2, 5, 9, 6)).astype(np.float32))
    last = F.avg_pool2d(transition.conv(transition.norm(x, relu=True)), 2)
    np.testing.assert_allclose(transition(x).numpy(), last.numpy(), rtol=1e-4, atol=1e-5)


def test_blocks_of_different_depth() -> None:
    model = models.create("zhan-dense", seed=0, **{**TINY, "layers": (1, 2, 3)})
    assert [len(block.convs) for block in (model.block1, model.block2, model.block3)] == [1, 2, 3]
    with pytest.raises(UserError, match=r"layers is \(1, 2\), expected one number or three"):
        models.create("zhan-dense", layers=(1, 2))


@pytest.mark.parametrize("height", [8, 17, 32, 48])
@pytest.mark.parametrize(("width", "steps"), [(8, 1), (20, 2), (256, 32)])
def test_any_size_classes_and_channels(height: int, width: int, steps: int) -> None:
    options = {"height": height, "classes": 36, "channels": 3}
    model = models.create("zhan-dense", seed=0, **TINY, **options)
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    for training in (True, False):
        logits = model.train(training)(tn.Tensor(x))
        assert logits.shape == (steps, 2, 37)
        assert np.isfinite(logits.numpy()).all()


def test_a_step_sees_its_part_of_the_image() -> None:
    model = models.create("zhan-dense", seed=0, **TINY).eval()
    x = np.zeros((2, 32, 256, 1), np.float32)
    x[1, :, 200:] = 1
    left, right = np.abs(np.diff(model(tn.Tensor(x)).numpy(), axis=1)).max((1, 2))[[2, 28]]
    assert left < 1e-6 < right


def test_the_state_survives_a_file(tmp_path: Path) -> None:
    a, b = (models.create("zhan-dense", seed=seed, **TINY) for seed in (0, 1))
    x = tn.Tensor(np.random.default_rng(0).normal(size=(2, 32, 64, 1)).astype(np.float32))
    a.train()(x)
    state.save(a, tmp_path / "a.safetensors")
    state.load(b, tmp_path / "a.safetensors")
    assert np.array_equal(a.eval()(x).numpy(), b.eval()(x).numpy())


def test_four_strings_are_learnt_by_heart(mnist: Dataset) -> None:
    task = tasks.get("strings")
    images, labels = Synthesis(longest=3, width=96)(mnist, np.arange(4), seed=0, epoch=0)
    x = tn.Tensor(Normalize(0.1, 0.2)(images))
    model = models.create("zhan-dense", seed=0, stem=16, layers=2, transition=16).train()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        output = model(x)
        loss = task.loss(output, labels)
        if loss.item() < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert task.right(task.read(output).numpy(), labels).all()


def test_sizes_that_a_model_cannot_have_are_refused() -> None:
    with pytest.raises(UserError, match="model 'zhan-dense': height is halved three times"):
        models.create("zhan-dense", height=7)
    model = models.create("zhan-dense", **TINY)
    with pytest.raises(ValueError, match=r"images are \(1, 28, 28, 1\), expected \(N, 32, W, ch"):
        model(tn.Tensor(np.zeros((1, 28, 28, 1), np.float32)))


# -- the task -------------------------------------------------------------------------------------


def test_the_loss_is_that_of_a_string() -> None:
    output = tn.Tensor(np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32))
    labels = pad([[0, 0, 2], [], [1]])
    task = tasks.get("strings")
    losses = F.ctc_loss(
        F.log_softmax(output, 2), labels + 1, [6] * 3, [3, 0, 1], reduction="none"
    ).numpy()
    assert task.loss(output, labels).item() == pytest.approx(losses.mean(), rel=1e-6)
    assert task.loss(output, labels, reduction="sum").item() == pytest.approx(losses.sum())


def test_a_string_longer_than_the_output_is_named() -> None:
    labels = pad([[1, 2, 3], [4, 4, 4], [5]])
    task = tasks.get("strings")
    task.loss(tn.Tensor(np.zeros((5, 3, 11), np.float32)), labels)
    message = r"sample 1 of the batch, classes \[4, 4, 4\], needs 5 steps, and .* output has 4"
    with pytest.raises(UserError, match=message):
        task.loss(tn.Tensor(np.zeros((4, 3, 11), np.float32)), labels)


@pytest.fixture
def tiny_strings() -> Iterator[Recipe]:
    """The recipe with a tiny network, and strings of one or two digits."""
    recipe = replace(
        recipes.get("zhan-strings"),
        name="tiny-strings",
        model_options=TINY,
        synthesis=Synthesis(longest=2, width=64),
        validation=40,
        batch_size=20,
    )
    recipes.register(recipe.name)(recipe)
    yield recipe
    del recipes._entries[recipe.name]


def test_strings_from_start_to_end(
    cli: Cli, digits: Path, tiny_strings: Recipe, interrupt_at: Callable[..., Any]
) -> None:
    options = ["--recipe", tiny_strings.name, "--data-dir", digits, "--threads", 1, "--epochs", 2]
    options += ["--ema-decay", 0.5]
    run = cli("train", *options, "--output-dir", "run")
    assert run.code == 0, run.err
    assert "\nsynthesis strings of 1 to 2 on 32x64 pixels; average of the weights 0.5\n" in run.out
    with interrupt_at(20):
        assert cli("train", *options, "--output-dir", "other").code == 130
    assert cli("train", "--resume", "other").code == 0
    a, b = (Path(name, "last.safetensors").read_bytes() for name in ("run", "other"))
    arrays = [state.read_arrays(Path(name, "last.safetensors"))[0] for name in ("run", "other")]
    assert len(a) == len(b)
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])

    shown = cli("evaluate", "run")
    assert shown.code == 0, shown.err
    assert "test string accuracy" in shown.out
    assert "normalised error" in shown.out
    assert "misread: " in shown.out
    values = json.loads(cli("evaluate", "run", "--json").out)
    last = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()][-1]
    assert values["total"] == 200
    assert values["accuracy"] == last["test_accuracy"]
    assert values["loss"] == last["test_loss"]
    assert len(values["misread"]) == values["total"] - values["correct"]
    assert 0 < values["edit_distance"] <= 3
    assert cli("evaluate", "run", "--tta", "shifts").code == 0

    config, _ = load_run(Path("run"))
    assert config.recipe.synthesis == tiny_strings.synthesis
    images, labels = next(split_loader(config, "test").epoch(0))
    other_seed = replace(config, seed=5)
    same, _ = next(split_loader(other_seed, "test").epoch(0))
    assert np.array_equal(images, same)  # every run is tested on the same strings
    assert (labels[:, 0] != PADDING).all()


def test_composed_strings_are_drawn(cli: Cli, digits: Path) -> None:
    run = cli("data.__main__", "strings", "--data-dir", digits, "--rows", 3, "--output", "s.png")
    assert run.code == 0, run.err
    lines = run.out.splitlines()
    assert lines[0].startswith("s.png: strings of 1 to 10 on 32x256 pixels, of the digits of mnist")
    first = [line.split() for line in lines[1:]]
    labels = hwr.data.load("mnist", split="train", data_dir=digits).labels
    assert [int(word[0]) for row in first for word in row] == labels[:6].tolist()
    header = Path("s.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4], "big") == 2 * (2 * 256 + 2) + 2
    run = cli("data.__main__", "strings", "--recipe", "fast")
    assert run.code == 2
    assert "fast composes no strings; name another --recipe" in run.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet18", "--width", 4], "strings need logits .* but the model gives"),
        (["--label-smoothing", 0.1], "--label-smoothing 0.1 is for classification; CTC has none"),
        (
            ["--recipe", "fast", "--model", "zhan-dense"],
            "cannot read images of 28x28; .* 32, W, ch",
        ),
    ],
)
def test_a_model_of_another_task_is_refused(
    cli: Cli, digits: Path, tiny_strings: Recipe, options: list[Any], message: str
) -> None:
    run = cli(
        "train", "--recipe", tiny_strings.name, "--data-dir", digits, *options, "--validation", 40
    )
    assert run.code == 2
    assert "Traceback" not in run.err
    assert re.search(message, run.err), run.err
    assert not Path("runs").exists()
