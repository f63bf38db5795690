"""Initialisers: bounds, moments, orthogonality, and one network for one seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import nn
from tinynn.nn import init

FILTER = (40, 3, 5, 20)  # (OC, KH, KW, C): fan_in 300, fan_out 600
MATRIX = (50, 200)  # (out, in)


def fresh(shape: tuple[int, ...] = FILTER, dtype: str = "float32") -> nn.Parameter:
    """A parameter of NaNs: whatever is not filled shows."""
    return nn.Parameter(tn.Tensor(np.full(shape, np.nan, dtype)).data)


def drawn(initialise: Callable[..., Any], shape: tuple[int, ...] = FILTER, **options: Any) -> Any:
    """The values an initialiser draws with seed 0."""
    parameter = fresh(shape)
    assert initialise(parameter, generator=np.random.default_rng(0), **options) is parameter
    assert parameter.dtype == "float32"
    return parameter.numpy().astype(float)


def assert_moments(values: np.ndarray, mean: float, std: float) -> None:
    """Mean and standard deviation within five of their own standard errors (kurtosis up to 3)."""
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(values.size)
    assert abs(values.std() / std - 1) < 5 / math.sqrt(2 * values.size)


# Name, options, standard deviation.
NORMAL: list[tuple[str, dict[str, Any], float]] = [
    ("normal_", {"std": 0.3}, 0.3),
    ("xavier_normal_", {}, math.sqrt(2 / 900)),
    ("xavier_normal_", {"gain": 2.0}, 2 * math.sqrt(2 / 900)),
    ("kaiming_normal_", {"nonlinearity": "relu"}, math.sqrt(2 / 300)),
    ("kaiming_normal_", {"nonlinearity": "relu", "mode": "fan_out"}, math.sqrt(2 / 600)),
    ("kaiming_normal_", {"a": 0.5}, math.sqrt(2 / 1.25 / 300)),
    ("variance_scaling_", {"distribution": "normal"}, math.sqrt(1 / 300)),
    ("variance_scaling_", {"scale": 2.0}, math.sqrt(2 / 300)),  # truncated
    ("variance_scaling_", {"mode": "fan_avg"}, math.sqrt(1 / 450)),
]
# Name, options, bound of a uniform distribution.
UNIFORM: list[tuple[str, dict[str, Any], float]] = [
    ("uniform_", {"a": -0.5, "b": 0.5}, 0.5),
    ("xavier_uniform_", {}, math.sqrt(6 / 900)),
    ("xavier_uniform_", {"gain": 5 / 3}, 5 / 3 * math.sqrt(6 / 900)),
    ("kaiming_uniform_", {"nonlinearity": "relu"}, math.sqrt(6 / 300)),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, math.sqrt(1 / 300)),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "linear"}, math.sqrt(3 / 600)),
    (
        "variance_scaling_",
        {"mode": "fan_out", "distribution": "uniform"},
        math.sqrt(3 / 600),
    ),
]


@pytest.mark.parametrize(("name", "options", "std"), NORMAL)
def test_normal_ones_have_their_standard_deviation(
    name: str, options: dict[str, Any], std: float
) -> None:
    assert_moments(drawn(getattr(init, name), **options), 0, std)


@pytest.mark.parametrize(("name", "options", "bound"), UNIFORM)
def test_uniform_ones_fill_their_interval(name: str, options: dict[str, Any], bound: float) -> None:
    values = drawn(getattr(init, name), **options)
    assert_moments(values, 0, bound / math.sqrt(3))
    assert 0.999 * bound < abs(values).max() <= bound * (1 + 1e-6)


def test_normal_and_uniform_have_a_mean() -> None:
    assert_moments(drawn(init.normal_, mean=3.0, std=0.5), 3, 0.5)
    assert_moments(drawn(init.uniform_, a=1.0, b=2.0), 1.5, 1 / math.sqrt(12))


def test_truncated_normal_stays_within_its_bounds() -> None:
    """Redrawn, not clipped: no heap of values at the bounds."""
    values = drawn(init.trunc_normal_, mean=0.5, std=1.0, a=-1.0, b=2.0)
    assert values.min() >= -1
    assert values.max() <= 2
    assert np.unique(values).size > 0.99 * values.size
    assert_moments(values, 0.5, 0.7428)  # the variance left between +-1.5 deviations: 0.5518


def test_truncated_normal_refuses_bounds_it_could_never_meet() -> None:
    """It draws until all are inside: it must not draw for ever."""
    with pytest.raises(ValueError, match="trunc_normal_"):
        init.trunc_normal_(fresh(), a=2.0, b=-2.0)
    with pytest.raises(ValueError, match="trunc_normal_"):
        init.trunc_normal_(fresh(), std=0.01, a=1.0, b=2.0)
    values = drawn(init.trunc_normal_, MATRIX, std=1.0, a=2.0, b=3.0)  # rare, but there
    assert values.min() >= 2


def test_constants() -> None:
    assert np.all(init.zeros_(fresh()).data == 0)
    assert np.all(init.ones_(fresh()).data == 1)
    assert np.all(init.constant_(fresh(), 2.5).data == 2.5)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (8, 3, 3, 2), (30, 2, 2, 3)])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...], gain: float) -> None:
    flat = drawn(init.orthogonal_, shape, gain=gain).reshape(shape[0], -1)
    small = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-5)


def test_fans_count_taps() -> None:
    assert init.fans(FILTER) == (300, 600)
    assert init.fans(MATRIX) == (200, 50)
    assert init.fans((8, 3, 3, 1)) == (9, 72)  # depthwise: one channel a filter


@pytest.mark.parametrize(
    ("nonlinearity", "gain"),
    [("linear", 1), ("sigmoid", 1), ("tanh", 5 / 3), ("relu", 2**0.5), ("selu", 0.75)],
)
def test_gains(nonlinearity: str, gain: float) -> None:
    assert init.calculate_gain(nonlinearity) == pytest.approx(gain)
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))


BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "fans of a vector": ("2 dimensions", lambda: init.xavier_normal_(fresh((5,)))),
    "orthogonal vector": ("2 dimensions", lambda: init.orthogonal_(fresh((5,)))),
    "unknown mode": ("fan_in", lambda: init.kaiming_normal_(fresh(), mode="fan_all")),
    "unknown gain": ("swish.*relu", lambda: init.kaiming_normal_(fresh(), nonlinearity="swish")),
    "scaling mode": ("fan_avg", lambda: init.variance_scaling_(fresh(), mode="fan")),
    "scaling distribution": (
        "cauchy",
        lambda: init.variance_scaling_(fresh(), distribution="cauchy"),
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused(what: str) -> None:
    words, call = BAD[what]
    with pytest.raises(ValueError, match=words):
        call()


# -- layers and seeds -------------------------------------------------------------------------

LAYERS: dict[str, Callable[[Any], nn.Module]] = {
    "Linear": lambda g: nn.Linear(30, 200, generator=g),
    "Conv2d": lambda g: nn.Conv2d(6, 80, (3, 5), generator=g),
    "grouped Conv2d": lambda g: nn.Conv2d(40, 80, 3, groups=20, generator=g),
}


@pytest.mark.parametrize("what", LAYERS)
def test_default_of_layers_is_pytorchs(what: str) -> None:
    """U(+-1 / sqrt(fan_in)) for weight and bias."""
    layer = LAYERS[what](np.random.default_rng(0))
    parameters = dict(layer.named_parameters())
    bound = 1 / math.sqrt(math.prod(parameters["weight"].shape[1:]))
    for p in parameters.values():
        values = p.numpy().astype(float)
        assert 0.9 * bound < abs(values).max() <= bound * (1 + 1e-6)
        assert_moments(values, 0, bound / math.sqrt(3))


@pytest.mark.torch
def test_default_bounds_against_pytorch_itself() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(40, 800, 3, groups=20)
    ours = nn.Conv2d(40, 800, 3, groups=20, generator=np.random.default_rng(0))
    for mine, yours in zip(ours.parameters(), theirs.parameters()):
        assert abs(mine.data).max() == pytest.approx(yours.abs().max().item(), rel=0.01)
        assert mine.data.std() == pytest.approx(yours.std().item(), rel=0.1)


@pytest.mark.parametrize("what", LAYERS)
def test_a_seed_gives_one_layer(what: str) -> None:
    same = [LAYERS[what](np.random.default_rng(3)).state_dict() for _ in range(2)]
    other = LAYERS[what](np.random.default_rng(4)).state_dict()
    for name in other:
        assert np.array_equal(same[0][name], same[1][name])
        assert not np.array_equal(same[0][name], other[name])


def test_manual_seed_gives_one_network() -> None:
    def network() -> Any:
        tn.manual_seed(5)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BasicBlock(4, 8, 2), nn.Linear(8, 2))

    first, second = network().state_dict(), network().state_dict()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_generator_leaves_the_default_one_alone() -> None:
    tn.manual_seed(0)
    expected = tn.default_generator().random()
    tn.manual_seed(0)
    nn.Sequential(
        nn.Linear(3, 3, generator=np.random.default_rng(1)),
        nn.BasicBlock(2, 4, generator=np.random.default_rng(1)),
    )
    assert tn.default_generator().random() == expected


def test_a_seed_gives_one_network_on_every_backend(backend: Any) -> None:
    def network() -> Any:
        rng = np.random.default_rng(7)
        return nn.Sequential(nn.Conv2d(1, 4, 3, generator=rng), nn.Linear(4, 2, generator=rng))

    here = network().state_dict()
    with tn.use_backend("reference"):
        there = network().state_dict()
    for name in here:
        assert np.array_equal(here[name], there[name])


def test_initialisers_keep_float64() -> None:
    """Values are drawn in float64 and rounded to the parameter's own dtype."""
    wide, narrow = fresh(MATRIX, "float64"), fresh(MATRIX, "float32")
    for p in (wide, narrow):
        init.normal_(p, generator=np.random.default_rng(0))
    assert wide.dtype == "float64"
    assert np.array_equal(wide.data.astype("float32"), narrow.data)
    assert not np.array_equal(wide.data, narrow.data)
