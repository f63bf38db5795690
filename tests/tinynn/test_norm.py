"""Modules that normalise: by the batch in training, by running statistics in evaluation."""

from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn import nn
from tinynn.backend import Backend


def batch(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, (2, 4, 4, 3)).astype("float32")


def test_training_normalises_by_the_batch_and_moves_the_running_statistics() -> None:
    layer, x = nn.BatchNorm2d(3, momentum=0.25), batch(0)
    y = layer(tn.Tensor(x)).numpy()
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-4)
    rows = x.reshape(-1, 3)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    np.testing.assert_allclose(layer.running_mean.data, 0.25 * rows.mean(0), rtol=1e-5)
    expected = 0.75 + 0.25 * rows.var(0, ddof=1)
    np.testing.assert_allclose(layer.running_var.data, expected, rtol=1e-5)
    assert layer.num_batches_tracked is not None
    assert layer.num_batches_tracked.item() == 1


def test_evaluation_uses_the_running_statistics_and_leaves_them() -> None:
    layer = nn.BatchNorm2d(3)
    layer(tn.Tensor(batch(0)))
    before = layer.state_dict()
    single = layer.eval()(tn.Tensor(batch(1)[:1, :1, :1]))  # one value for each channel is enough
    assert single.shape == (1, 1, 1, 3)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_without_momentum_the_running_mean_is_that_of_all_batches(backend: Backend) -> None:
    layer = nn.BatchNorm2d(3, momentum=None)
    means = []
    for seed in range(3):
        layer(tn.Tensor(batch(seed)))
        means.append(batch(seed).reshape(-1, 3).mean(0))
    assert layer.running_mean is not None
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean(means, axis=0), rtol=1e-5)


def test_an_average_of_all_batches_needs_their_number() -> None:
    running = (tn.Tensor(np.zeros(3, "float32")) for _ in range(2))
    with pytest.raises(ValueError, match="needs num_batches_tracked"):
        F.batch_norm(tn.Tensor(batch(0)), *running, training=True, momentum=None)


def test_without_running_statistics_evaluation_uses_the_batch() -> None:
    layer = nn.BatchNorm2d(3, track_running_stats=False)
    assert [name for name, _ in layer.named_tensors()] == ["weight", "bias"]
    x = tn.Tensor(batch(0))
    np.testing.assert_array_equal(layer(x).numpy(), layer.eval()(x).numpy())


def test_without_affine_there_is_nothing_to_train() -> None:
    layer = nn.BatchNorm1d(3, affine=False)
    assert list(layer.parameters()) == []
    assert layer(tn.Tensor(np.eye(3, dtype="float32"))).shape == (3, 3)


@pytest.mark.parametrize("relu", [False, True])
def test_the_fused_form_is_the_composition(relu: bool, backend: Backend) -> None:
    layer, x, shortcut = nn.BatchNorm2d(3), tn.Tensor(batch(0)), tn.Tensor(batch(1))
    fused = layer(x, residual=shortcut, relu=relu)
    plain = layer(x) + shortcut
    plain = plain.relu() if relu else plain
    np.testing.assert_allclose(fused.numpy(), plain.numpy(), atol=1e-5)


@pytest.mark.parametrize("block", [nn.BasicBlock, nn.Bottleneck])
def test_a_block_is_evaluated_as_it_is_without_fusion(block: Any, backend: Backend) -> None:
    """Convolutions and normalisations are one kernel where nothing is recorded."""
    rng = np.random.default_rng(0)
    module = block(16, 32, 2, generator=rng)
    for name, tensor in module.named_tensors():
        if "bn" in name or "downsample.1" in name:
            tensor.data[...] = backend.asarray(rng.uniform(0.5, 2, tensor.shape))
    x = tn.Tensor(rng.standard_normal((2, 5, 5, 16)).astype("float32"))
    module.eval()
    recorded = module(x)
    with tn.no_grad():
        fused = module(x)
    np.testing.assert_allclose(fused.numpy(), recorded.numpy(), rtol=1e-4, atol=1e-4)
    module.train()
    with tn.no_grad():  # batch statistics are not to be had in one pass
        trained = module(x)
    assert np.abs(trained.numpy() - fused.numpy()).max() > 0.1


def test_layers_that_are_watched_are_called() -> None:
    conv, norm = nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)
    norm.eval()
    seen = []
    forward = conv.forward
    vars(conv)["forward"] = lambda x: seen.append(x.shape) or forward(x)
    with tn.no_grad():
        nn.conv_norm(conv, norm, tn.Tensor(np.ones((1, 2, 2, 2), "float32")))
    assert seen == [(1, 2, 2, 2)]


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.BatchNorm2d(3), (1, 1, 1, 3)), (nn.BatchNorm1d(3), (1, 3))]
)
def test_one_value_for_each_channel_cannot_be_trained_on(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"1 value\(s\) for each channel.*eval\(\)"):
        layer(tn.Tensor(np.ones(shape, "float32")))
