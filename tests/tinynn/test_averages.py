"""Averaged weights: they follow their formula, are swapped in and out, and resume."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinynn import nn, optim


def small_model() -> nn.Module:
    """A layer and a normalisation, with a counter among the state."""
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Linear(3, 2, generator=rng), nn.BatchNorm1d(2))


def shift(model: nn.Module, by: float) -> None:
    """Move every number of the state."""
    for _, t in model.named_tensors():
        t.data += t.dtype.type(by)


def test_the_average_follows_its_formula() -> None:
    model = small_model()
    start = model.state_dict()
    ema = optim.EMA(model, decay=0.9)
    shift(model, 10)
    ema.update()  # the first update copies
    shift(model, 10)
    ema.update()
    with ema.applied():
        for name, array in model.state_dict().items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(array, start[name] + 11, rtol=1e-6)
            else:
                assert array == 20  # counters are copied, not averaged


def test_the_average_is_swapped_in_and_out() -> None:
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    ema = optim.EMA(model, decay=0.5)
    ema.update()
    shift(model, 2)
    own = model.state_dict()
    with ema.applied() as inside:
        assert inside is model
        averaged = model.state_dict()
        assert not any(np.array_equal(averaged[name], own[name]) for name in own)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, own[name])
    assert all(
        np.shares_memory(p.data, optimizer.param_groups[0].weights) for p in model.parameters()
    )
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    for name, array in model.state_dict().items():
        assert np.array_equal(array, own[name])
    with ema.applied():  # the averages were not lost
        assert all(np.array_equal(model.state_dict()[n], averaged[n]) for n in own)


def test_a_shared_layer_gets_its_own_weights_back() -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    ema = optim.EMA(model, decay=0.5)
    ema.update()
    shift(model, 1)
    own = layer.weight.numpy()
    with ema.applied():
        assert not np.array_equal(layer.weight.data, own)
    assert np.array_equal(layer.weight.data, own)


def test_the_average_continues_from_its_state() -> None:
    def train(model: nn.Module, ema: optim.EMA, steps: range) -> None:
        for step in steps:
            shift(model, math.sin(step))
            ema.update()

    model = small_model()
    ema = optim.EMA(model, decay=0.9)
    train(model, ema, range(3))
    state, weights = ema.state_dict(), model.state_dict()
    train(model, ema, range(3, 6))

    other = small_model()
    resumed = optim.EMA(other, decay=0.9)
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    train(other, resumed, range(3, 6))
    expected = ema.state_dict()
    for name, array in resumed.state_dict().items():
        assert np.array_equal(array, expected[name]), name


def test_the_state_of_another_average_is_refused() -> None:
    ema = optim.EMA(small_model())
    with pytest.raises(ValueError, match=r"missing 0.weight"):
        ema.load_state_dict({"updates": np.array(3)})
    state = {**ema.state_dict(), "0.weight": np.zeros((1, 3))}
    with pytest.raises(ValueError, match=r"0.weight.*\(1, 3\)"):
        ema.load_state_dict(state)
    assert ema.updates == 0


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="decay"):
        optim.EMA(small_model(), decay=1.0)
