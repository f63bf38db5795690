"""Contracts of every registered model and dataset, and the sizes the papers' networks have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwr.data
import tinynn as tn
from hwr import models
from hwr.errors import UserError
from hwr.summary import layers
from tinynn import functional as F
from tinynn import optim, state
from tinynn.nn import Module

# Narrow, so that a step on the reference backend takes milliseconds. Others have their defaults.
SMALL: dict[str, list[dict[str, Any]]] = {
    "resnet18": [{"stem": "7x7", "width": 4}, {"stem": "3x3", "width": 2}],
    "plain18": [{"width": 4}],
    "resnet34": [{"width": 2}],
    "plain34": [{"width": 4}],
    "resnet50": [{"width": 2}],
    "plain50": [{"width": 8}],  # narrower, it hardly learns
    "mlp": [{"width": 16}],
    "zhang-cnn": [{}, {"padding": "same"}],
    "efficientnet-b0": [{"width": 8}],
    "niu-suen-cnn": [{"size": 28}],
    "chaurasia-cnn": [{"size": 28, "features": 64, "dropout": 0.2}],
    "jin-writers": [{"dropout": False}],  # with it 60 steps are too few
    "rao-kannada": [{"size": 28, "features": 64, "dropout": 0.2}],
    "ahlawat-cnn": [
        {"layers": 4},
        {"kernel_size": 3, "maps": 8, "stride": [2, 1, 2], "padding": "valid", "dilation": 2},
    ],
}
STRINGS = {"zhan-dense"}  # models that read strings have their tests in test_strings.py
CASES = [
    (name, options | ({"size": 28} if "size" in models.options_of(name) else {}))
    for name in models.models.names()
    if name not in STRINGS
    for options in SMALL.get(name, [{}])
]
every_model = pytest.mark.parametrize(("name", "options"), CASES)

pytestmark = pytest.mark.usefixtures("one_thread")


def parameters(model: Module) -> int:
    """The number of trained numbers."""
    return sum(p.size for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("resnet18", {"stem": "7x7"}, 11_175_370),
        ("resnet18", {"stem": "3x3"}, 11_172_810),
        ("resnet18", {"stem": "3x3", "width": 32}, 2_797_034),
        ("resnet18", {"stem": "3x3", "width": 24}, 1_574_770),
        ("resnet18", {"stem": "3x3", "width": 16}, 701_178),
        ("resnet18", {"stem": "3x3", "width": 8}, 176_258),
        # torchvision's own, for 1000 classes of colour images
        ("resnet18", {"classes": 1000, "channels": 3}, 11_689_512),
        ("plain18", {}, 11_001_546),
        ("resnet34", {}, 21_797_672 - 6_272 - 507_870),  # torchvision's, less colours and classes
        ("plain34", {}, 21_109_706),
        ("resnet50", {}, 25_557_032 - 6_272 - 2_028_510),
        ("plain50", {}, 20_745_674),
        ("mlp", {}, 669_706),
        ("arora-cnn", {}, 1_199_882),
        ("jin-writers", {"classes": 50}, 827_186),
        ("jin-writers", {"classes": 50, "layers": 4}, 312_146),
        ("zhang-cnn", {}, 296_746),
        ("zhang-cnn", {"padding": "same"}, 403_242),
        ("simple-rnn", {}, 21_386),
        ("ahlawat-cnn", {"layers": 3}, 42_458),
        ("ahlawat-cnn", {"layers": 4}, 51_882),
        ("ahlawat-cnn", {"kernel_size": 3, "maps": [8, 16, 24]}, 80 + 1_168 + 3_480 + 11_770),
        ("deotte-cnn", {}, 326_410),
        ("efficientnet-b0", {}, 4_667_974),
        ("efficientnet-b0", {"channels": 3}, 4_668_550),
        ("fast", {}, 166_258),
        ("photo-cnn", {"classes": 11}, 245_363),
        ("niu-suen-cnn", {}, 158_060),
        ("chaurasia-cnn", {}, 356_234),
        ("rao-kannada", {"classes": 657}, 4_624_529),
    ],
)
def test_parameters(name: str, options: dict[str, Any], count: int) -> None:
    assert parameters(models.create(name, **options)) == count


@pytest.mark.parametrize(("stem", "millions"), [("7x7", 33.011), ("3x3", 455.801)])
def test_multiply_adds_of_resnet18(stem: str, millions: float) -> None:
    rows = layers(models.create("resnet18", stem=stem), (28, 28, 1))
    assert sum(row.multiply_adds for row in rows) / 1e6 == pytest.approx(millions, abs=5e-4)
    assert all(row.valid_multiply_adds <= row.multiply_adds for row in rows)
    live = sum(row.live_weights for row in rows) / sum(row.weights for row in rows)
    assert round(100 * (1 - live)) == (62 if stem == "7x7" else 0)


def test_multiply_adds_of_a_recurrent_layer_count_every_step() -> None:
    rnn, fc = layers(models.create("simple-rnn"), (28, 28, 1))
    assert rnn.multiply_adds == 28 * (28 * 128 + 128 * 128)
    assert rnn.output_shape == (28, 128)
    assert fc.multiply_adds == 1280


def test_simple_rnn_starts_as_in_keras() -> None:
    rnn = models.create("simple-rnn", seed=0).state_dict()
    recurrent = rnn["rnn.weight_hh_l0"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(128), atol=1e-5)
    assert np.abs(rnn["rnn.weight_ih_l0"]).max() <= np.sqrt(6 / (28 + 128))
    assert not rnn["rnn.bias_ih_l0"].any()


def test_running_statistics_of_resnet18() -> None:
    buffers = dict(models.create("resnet18").named_buffers())
    count = sum(b.size for name, b in buffers.items() if "running_" in name)
    assert count == 9_600


def torchvision_names() -> Iterator[str]:
    """The state names of torchvision's resnet18, in its order.

    The stem is `conv1`, `bn1`; stage s = 1..4 is `layer{s}`, with blocks 0 and 1 of `conv1`, `bn1`,
    `conv2`, `bn2`; the first block of stages 2 to 4 adds `downsample.0`, a convolution, and
    `downsample.1`, its normalisation; then `fc`. A convolution has a weight; a normalisation weight
    and bias, running mean and variance and a counter of batches; `fc` weight and bias.
    """
    layers = ["conv1", "bn1"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            prefix = f"layer{stage}.{block}"
            layers += [f"{prefix}.{name}" for name in ("conv1", "bn1", "conv2", "bn2")]
            if stage > 1 and block == 0:
                layers += [f"{prefix}.downsample.0", f"{prefix}.downsample.1"]
    for layer in layers:
        yield f"{layer}.weight"
        if "bn" in layer or layer.endswith("downsample.1"):
            yield f"{layer}.bias"
            yield f"{layer}.running_mean"
            yield f"{layer}.running_var"
            yield f"{layer}.num_batches_tracked"
    yield from ("fc.weight", "fc.bias")


@pytest.mark.parametrize("stem", ["7x7", "3x3"])
def test_names_and_layout_are_torchvisions(stem: str) -> None:
    names = list(torchvision_names())
    assert len(names) == 122
    tensors = state.to_torch(models.create("resnet18", stem=stem, width=4, channels=3))
    assert list(tensors) == names
    kernel = (7, 7) if stem == "7x7" else (3, 3)
    assert tensors["conv1.weight"].shape == (4, 3, *kernel)
    assert tensors["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert tensors["fc.weight"].shape == (10, 32)


@every_model
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (47, 3)])
def test_any_classes_and_channels(
    name: str, options: dict[str, Any], classes: int, channels: int
) -> None:
    model = models.create(name, classes=classes, channels=channels, seed=0, **options)
    x = np.random.default_rng(0).normal(size=(3, 28, 28, channels)).astype(np.float32)
    for training in (True, False):
        logits = model.train(training)(tn.Tensor(x))
        assert logits.shape == (3, classes)
        assert logits.dtype == np.float32
        assert np.isfinite(logits.numpy()).all()


@every_model
def test_eight_images_are_learnt_by_heart(name: str, options: dict[str, Any]) -> None:
    data = hwr.data.load("mnist", split="test").subset(range(8))
    x = hwr.data.Normalize(0.1307, 0.3081)(data.images)
    with tn.use_backend("reference"):
        model = models.create(name, seed=0, **options).train()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(60):
            logits = model(tn.Tensor(x))
            loss = F.cross_entropy(logits, data.labels)
            if loss.item() < 0.1:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.1
        assert logits.argmax(1).numpy().tolist() == data.labels.tolist()


@every_model
def test_a_model_is_its_features_and_its_last_layer(name: str, options: dict[str, Any]) -> None:
    model = models.create(name, seed=0, classes=7, **options).eval()
    x = tn.Tensor(np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32))
    with tn.no_grad():
        logits = model(x).numpy()
        trunk, head = models.without_head(model)
        features = trunk(x)
        assert features.shape == (3, head.weight.shape[1])
        np.testing.assert_allclose(head(features).numpy(), logits, rtol=1e-5, atol=1e-6)
        assert np.array_equal(model(x).numpy(), logits)  # the model is as it was


@every_model
def test_state_survives_a_file(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = tn.Tensor(rng.normal(size=(4, 28, 28, 1)).astype(np.float32))
    model, other = (models.create(name, seed=seed, **options) for seed in (0, 1))
    with tn.no_grad():
        model.train()(x)  # running statistics of its own
        state.save(model, tmp_path / "weights.safetensors", {"name": name})
        assert state.load(other, tmp_path / "weights.safetensors") == {"name": name}
        own, loaded = model.state_dict(), other.state_dict()
        assert own.keys() == loaded.keys()
        assert [n for n in own if own[n].tobytes() != loaded[n].tobytes()] == []
        assert np.array_equal(model.eval()(x).numpy(), other.eval()(x).numpy())


@every_model
def test_a_seed_is_a_network(name: str, options: dict[str, Any]) -> None:
    a, b, c = (models.create(name, seed=seed, **options).state_dict() for seed in (3, 3, 4))
    d = models.create(name, generator=np.random.default_rng(3), **options).state_dict()
    assert [n for n in a if not np.array_equal(a[n], b[n]) or not np.array_equal(a[n], d[n])] == []
    drawn = [n for n in a if a[n].ndim > 1]
    assert [n for n in drawn if np.array_equal(a[n], c[n])] == []


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="unknown model 'resnet-18'; did you mean 'resnet18'"):
        models.create("resnet-18")
    with pytest.raises(UserError, match="model 'mlp' has no option 'depth'; it has: width, "):
        models.create("mlp", depth=3)
    with pytest.raises(UserError, match=r"model 'resnet18': .*positive integer, not 0"):
        models.create("resnet18", width=0)
    with pytest.raises(UserError, match=r"model 'zhang-cnn': .*'valid' or 'same', not 'full'"):
        models.create("zhang-cnn", padding="full")
    with pytest.raises(UserError, match="model 'ahlawat-cnn': layers must be 3 or 4, not 5"):
        models.create("ahlawat-cnn", layers=5)
    with pytest.raises(UserError, match=r"stride must be one number or 3, one a layer, not \[1, 2"):
        models.create("ahlawat-cnn", stride=[1, 2])
    with pytest.raises(UserError, match="size must be 13 or more, not 12"):
        models.create("niu-suen-cnn", size=12)
    with pytest.raises(UserError, match="size is halved three times: 8 or more, not 7"):
        models.create("chaurasia-cnn", size=7)
    with pytest.raises(UserError, match="layer 3 leaves no pixel of the 28x28"):
        models.create("ahlawat-cnn", padding="valid", stride=3)
