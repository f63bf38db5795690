"""A look inside: what it measures is what happens, for every model, and it leaves no trace."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwr.data
import tinynn as tn
from hwr import models
from hwr.config import Config
from hwr.data import Dataset, Normalize
from hwr.errors import UserError
from hwr.inspect import plain_vs_residual
from hwr.inspect.activations import sheet
from hwr.inspect.batch_norm import statistics
from hwr.inspect.inside import look
from hwr.inspect.page import page
from hwr.inspect.shortcuts import opened
from hwr.recipes import Recipe
from hwr.summary import layers
from tinynn import functional as F
from tinynn import nn
from tinynn.nn import Module

NARROW: dict[str, dict[str, Any]] = {
    **{name: {"width": 2} for name in ("resnet18", "plain18", "resnet34", "plain34")},
    **{name: {"width": 2} for name in ("resnet50", "plain50")},
    "mlp": {"width": 8},
    "efficientnet-b0": {"width": 8},
    "simple-rnn": {"width": 8},
}
BATCH = 16

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def test_images() -> Dataset:
    """Real digits."""
    return hwr.data.load("mnist", split="test").subset(range(40))


def config(model: str, **options: Any) -> Config:
    """The configuration of a run of this model."""
    recipe = Recipe(name="tiny", paper="none", model=model, epochs=1, batch_size=BATCH, **options)
    return Config(recipe=recipe, facts={"classes": 10, "class_names": list("0123456789")})


def create(name: str, **options: Any) -> Module:
    """A narrow model whose batch norms have seen a batch."""
    options = {"classes": 10} | NARROW.get(name, {}) | options
    if "size" in models.options_of(name):
        options["size"] = 28
    model = models.create(name, seed=0, **options)
    with tn.no_grad():
        x = np.random.default_rng(0).normal(size=(8, 28, 28, 1)).astype(np.float32)
        model.train()(tn.Tensor(x))
    return model


@pytest.mark.parametrize("name", [n for n in models.models.names() if n != "zhan-dense"])
def test_every_model_can_be_looked_into(name: str, test_images: Dataset) -> None:
    model = create(name)
    before = model.state_dict()
    inside = look(config(name), model, test_images, 3, BATCH, None)
    after = model.state_dict()
    assert [key for key in before if before[key].tobytes() != after[key].tobytes()] == []
    assert all(p.grad is None for p in model.parameters())
    assert json.loads(json.dumps(inside.figures(), allow_nan=False))["image"]["index"] == 3

    image, *others = inside.activations
    expected = layers(model, (28, 28, 1))
    assert image.values.shape == (28, 28, 1)
    assert [(a.name, a.values.shape) for a in others] == [
        (e.name, e.output_shape) for e in expected
    ]
    assert inside.dead == sum(row.weights - row.live_weights for row in expected)
    assert inside.weights == sum(row.weights for row in expected)
    assert all(each.dead_gradient in (None, 0.0) for each in inside.batch.taps)
    assert all(each.dead <= each.zero_gradients for each in inside.batch.taps)


def test_what_a_model_lacks_is_said(test_images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # the tables alone

    def text(name: str) -> str:
        inside = look(config(name), create(name), test_images, 0, BATCH, None)
        return page(inside, "A look", "at a model").to_markdown()

    mlp, plain, residual = text("mlp"), text("plain18"), text("resnet18")
    assert "no residual blocks" in mlp
    assert "no batch norm" in mlp
    assert "no convolutions" in mlp
    assert "8 of the 8 blocks have no shortcut" in plain
    assert "have no shortcut" not in residual
    assert "| `layer2.0` | projection |" in residual
    assert "| `layer2.1` | identity |" in residual


def loss_of(model: Module, data: Dataset) -> tn.Tensor:
    """The loss of a batch."""
    images = Normalize(0.1307, 0.3081)(data.images)
    return F.cross_entropy(model(tn.Tensor(images)), data.labels)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "plain18", "efficientnet-b0"])
def test_opened_blocks_compute_the_same_and_split_the_gradient(
    name: str, training: bool, test_images: Dataset, backend: Any
) -> None:
    if training and name == "efficientnet-b0":
        pytest.skip("drops branches at random in training")
    model = create(name).train(training)
    state = model.state_dict()
    closed = loss_of(model, test_images)
    closed.backward()
    expected = {n: backend.to_numpy(p.grad).copy() for n, p in model.named_parameters()}
    model.zero_grad()
    model.load_state_dict(state)
    with opened(model) as passages:
        loss = loss_of(model, test_images)
        loss.backward()
    assert loss.item() == pytest.approx(closed.item(), rel=1e-5)
    for n, p in model.named_parameters():
        scale = np.abs(expected[n]).max() + 1e-6
        got = backend.to_numpy(p.grad)
        np.testing.assert_allclose(got / scale, expected[n] / scale, atol=2e-3, err_msg=n)
    assert passages
    for passage in passages.values():
        parts = passage.to_branch.grad
        if passage.to_shortcut is not None:
            parts = parts + passage.to_shortcut.grad
        np.testing.assert_allclose(
            backend.to_numpy(parts), backend.to_numpy(passage.x.grad), rtol=1e-4, atol=1e-6
        )
    assert not any("forward" in vars(module) for module in model.modules())  # closed again


def test_the_identity_hands_the_gradient_on_unchanged(test_images: Dataset) -> None:
    """Eq. 1: through the shortcut comes dL/dy, where the ReLU after the sum is open."""
    model = create("resnet18").eval()
    with opened(model) as passages:
        loss_of(model, test_images).backward()
    passage = passages["layer3.1"]
    assert passage.to_shortcut is not None
    dy = passage.y.grad * (passage.y.data > 0)
    assert np.abs(dy).max() > 0
    np.testing.assert_array_equal(passage.to_shortcut.grad, dy)
    np.testing.assert_allclose(
        passage.y.data, np.maximum(passage.x.data + passage.branch.data, 0), rtol=1e-6
    )


def test_a_block_whose_branch_is_shut_passes_all_through_its_shortcut(
    test_images: Dataset,
) -> None:
    model = create("resnet18")
    nn.init.zeros_(model.layer1[1].bn2.weight)  # type: ignore[attr-defined]
    inside = look(config("resnet18"), model, test_images, 0, BATCH, None)
    for block in (inside.shortcuts[1], inside.batch.shortcuts[1]):
        assert block.name == "layer1.1"
        assert (block.through_branch, block.share) == (0.0, 1.0)
        assert block.gradient == pytest.approx(block.through_shortcut)


def test_dead_weights_change_nothing(test_images: Dataset) -> None:
    """With the 7x7 stem 62 % of the weights; any value there leaves the logits as they are."""
    model = create("resnet18", width=8)
    inside = look(config("resnet18"), model, test_images, 0, BATCH, None)
    assert round(100 * inside.dead / inside.weights) == 62
    last = inside.batch.taps[-1]
    assert last.live == ((False,) * 3, (False, True, False), (False,) * 3)
    before = loss_of(model.eval(), test_images).item()
    weights = dict(model.named_parameters())
    for layer in inside.batch.taps:
        weights[f"{layer.name}.weight"].data[:, ~np.array(layer.live)] = 1e3
    assert loss_of(model, test_images).item() == before
    small = look(config("resnet18"), create("resnet18", stem="3x3"), test_images, 0, BATCH, None)
    assert small.dead == 0


def test_statistics_compare_a_batch_with_the_running_ones() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (50, 4, 4, 3)).astype(np.float32)
    norm = nn.BatchNorm2d(3, momentum=1.0)
    norm(tn.Tensor(x))  # now the running statistics are the batch's
    same = statistics("bn", norm, tn.Tensor(x))
    np.testing.assert_allclose(same.shift, 0, atol=1e-5)
    np.testing.assert_allclose(same.ratio, 1, rtol=1e-4)
    sd = x[..., 1].std(ddof=1)
    x[..., 1] += 3 * sd
    x[..., 2] *= 2
    other = statistics("bn", norm, tn.Tensor(x))
    assert other.shift[1] == pytest.approx(3, rel=1e-4)
    assert other.ratio[2] == pytest.approx(4, rel=1e-4)
    assert other.count == 800


def test_an_update_is_the_optimisers(test_images: Dataset) -> None:
    tiny = config("mlp", optimizer="sgd", lr=0.25)
    for update in look(tiny, create("mlp"), test_images, 0, BATCH, None).batch.updates:
        assert update.update == pytest.approx(0.25 * update.gradient, rel=1e-3)


def test_an_index_out_of_range_is_refused(test_images: Dataset) -> None:
    with pytest.raises(UserError, match="--image 40: mnist test has the images 0 to 39"):
        look(config("mlp"), create("mlp"), test_images, 40, BATCH, None)


def test_a_sheet_holds_every_map_once() -> None:
    maps = np.arange(1, 6, dtype=np.float32)[:, None, None] * np.ones((5, 4, 3), np.float32)
    drawn = sheet(maps, 11)  # 3 across
    assert drawn.shape == (9, 11)
    values, counts = np.unique(drawn[~np.isnan(drawn)], return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5]
    assert set(counts.tolist()) == {12}
    assert sheet(np.ones((512, 1, 1), np.float32), 360).shape[1] <= 360


@pytest.fixture
def run_folder(cli: Callable[..., Any], digits: Path) -> Path:
    """A run of a narrow ResNet-18."""
    options = {"--width": 2, "--batch-size": 20, "--limit-batches": 2, "--validation": 50}
    arguments = [text for pair in options.items() for text in pair]
    result = cli("train", "--epochs", 1, "--data-dir", digits, "--output-dir", "run", *arguments)
    assert result.code == 0, result.err
    return Path("run")


def test_the_command_writes_a_page(cli: Callable[..., Any], run_folder: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install '.[plot]'")
    result = cli("inspect.__main__", run_folder, "--image", 5)
    assert result.code == 0, result.err
    assert "weights (61 %) never receive a gradient" in result.out  # at this width
    folder = run_folder / "inspect"
    markdown = (folder / "inside.md").read_text("utf-8")
    for name in ("activations-1", "shortcuts", "taps", "batch-norms", "updates"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in markdown
    assert "data:image/png;base64," in (folder / "inside.html").read_text("utf-8")
    values = json.loads((folder / "inside.json").read_text("utf-8"))
    assert values["image"]["index"] == 5
    assert values["batch"]["size"] == 20
    printed = cli("inspect.__main__", run_folder, "--image", 5, "--json", "--weights", "best")
    assert json.loads(printed.out)["checkpoint"] == "best"


def test_without_matplotlib_the_numbers_are_written(
    cli: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("inspect.__main__", run_folder, "--output-dir", "page")
    assert result.code == 0
    assert "pip install '.[plot]'" in result.err
    assert sorted(p.name for p in Path("page").iterdir()) == [
        "inside.html",
        "inside.json",
        "inside.md",
    ]


def test_wrong_arguments_are_refused(cli: Callable[..., Any], run_folder: Path) -> None:
    far = cli("inspect.__main__", run_folder, "--image", 10_000)
    assert far.code == 2
    assert "--image 10000: mnist test has the images 0 to 199" in far.err
    missing = cli("inspect.__main__", "runs/none")
    assert missing.code == 2
    assert "runs/none is not a run folder" in missing.err
    assert cli("inspect.__main__").code == 2
    flag = plain_vs_residual.FLAG
    depth = cli("inspect.__main__", flag, "--depth", 19)
    assert depth.code == 2
    assert "invalid choice: 19" in depth.err
    size = cli("inspect.__main__", flag, "--train-size", 70_000)
    assert size.code == 2
    assert "--train-size 70000 is more than the 60000 images" in size.err


TINY = (plain_vs_residual.FLAG, "--width", 2, "--batch-size", 8, "--threads", 1)


def compared(cli: Callable[..., Any], digits: Path, *more: object) -> dict[str, Any]:
    """What a short comparison wrote."""
    arguments = (*TINY, "--data-dir", digits, "--output-dir", "page", *more)
    result = cli("inspect.__main__", *arguments)
    assert result.code == 0, result.err
    values = json.loads(Path("page/plain-vs-residual.json").read_text("utf-8"))
    assert isinstance(values, dict)
    return values


def test_plain_and_residual_networks_train_alike(cli: Callable[..., Any], digits: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install '.[plot]'")
    values = compared(cli, digits, "--depth", 34, 18, "--steps", 3, "--train-size", 20)
    networks = {each["name"]: each for each in values["networks"]}
    assert list(networks) == ["plain18", "resnet18", "plain34", "resnet34"]
    for each in networks.values():
        assert len(each["losses"]) == 3  # more than the 2 batches of an epoch
        assert each["layers"][0] == 1
        assert each["layers"][-1] == each["depth"] - 1
        assert len(each["start"]) == len(each["end"]) == len(each["layers"])
    assert Path("page/plain-vs-residual.png").read_bytes().startswith(b"\x89PNG")
    again = compared(cli, digits, "--depth", 18, "--steps", 3, "--train-size", 20)
    for one, other in zip(values["networks"], again["networks"]):
        del one["seconds"], other["seconds"]
        assert one == other


def test_shortcuts_keep_the_gradient_of_a_deep_network_even() -> None:
    """Before training, at 34 layers: batch norm makes the gradient of the plain one grow."""
    data = hwr.data.load("mnist", split="train").subset(range(32))
    images = Normalize(0.1307, 0.3081)(data.images)
    growth = {}
    for name in ("plain34", "resnet34"):
        model = models.create(name, width=8, seed=0).train()
        before = model.state_dict()
        _, norms = plain_vs_residual.gradient_by_depth(model, images, data.labels)
        after = model.state_dict()
        assert [key for key in before if before[key].tobytes() != after[key].tobytes()] == []
        growth[name] = plain_vs_residual.growth(norms)
    assert growth["plain34"] > 3 * growth["resnet34"]


def test_a_loss_that_is_not_finite_ends_a_network(
    cli: Callable[..., Any], digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    values = compared(cli, digits, "--depth", 18, "--steps", 4, "--lr", 1e38)
    for each in values["networks"]:
        assert 1 <= len(each["losses"]) < 4
        assert each["end"] == []


def test_an_interrupted_comparison_leaves_nothing(
    cli: Callable[..., Any], digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(*args: Any) -> Any:
        if trained:
            raise KeyboardInterrupt
        trained.append(whole(*args))
        return trained[0]

    whole = plain_vs_residual.train
    monkeypatch.setattr(plain_vs_residual, "train", train)
    arguments = (*TINY, "--data-dir", digits, "--depth", 18, "--steps", 1, "--output-dir", "page")
    result = cli("inspect.__main__", *arguments)
    assert result.code == 130
    assert not Path("page").exists()
