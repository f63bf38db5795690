"""Dropout and drop-connect: how often, by how much, with which generator; and the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn import nn


def generator(seed: int = 0) -> np.random.Generator:
    """A generator of its own."""
    return np.random.default_rng(seed)


def ones(*shape: int, dtype: str = "float32") -> tn.Tensor:
    """Ones that want a gradient."""
    return tn.Tensor(np.ones(shape, dtype), requires_grad=True)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(p: float, backend: Any) -> None:
    n = 40_000
    y = F.dropout(ones(n), p, generator=generator()).numpy()
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)


def test_what_fell_has_no_gradient_however_large_it_was() -> None:
    x = tn.Tensor(np.array([np.inf, np.nan] * 50, "float32"), requires_grad=True)
    y = F.dropout(x, 0.5, generator=generator())
    y.backward(np.ones(100, "float32"))
    assert x.grad is not None
    assert (x.grad[y.numpy() == 0] == 0).all()
    assert set(x.grad.tolist()) == {0, 2}


def test_dropout_draws_for_each_element_alone() -> None:
    """Neighbours in any direction agree no more often than chance."""
    kept = F.dropout(ones(100, 10, 10, 4), 0.5, generator=generator()).numpy() != 0
    for axis in range(4):
        a, b = np.delete(kept, 0, axis), np.delete(kept, -1, axis)
        assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_stochastic_depth_drops_whole_samples(p: float, backend: Any) -> None:
    n = 5000
    y = F.stochastic_depth(ones(n, 2, 3, 2), p, generator=generator()).numpy().reshape(n, -1)
    assert np.array_equal(y.min(axis=1), y.max(axis=1))
    kept = y[:, 0] != 0
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)


def test_stochastic_depth_of_a_batch_drops_all_or_none(backend: Any) -> None:
    rng = generator()
    ys = [F.stochastic_depth(ones(3, 2), 0.5, "batch", generator=rng).numpy() for _ in range(20)]
    assert {tuple(np.unique(y)) for y in ys} == {(0.0,), (2.0,)}


@pytest.mark.parametrize("name", ["dropout", "stochastic_depth"])
class TestBoth:
    """What the two have in common."""

    def test_probability_zero_is_the_input_itself(self, name: str) -> None:
        x = ones(5, 4)
        assert getattr(F, name)(x, 0.0) is x

    def test_probability_one_drops_all(self, name: str, backend: Any) -> None:
        x = ones(5, 4)
        y = getattr(F, name)(x, 1.0, generator=generator())
        y.backward(np.ones((5, 4), "float32"))
        assert x.grad is not None
        assert np.all(y.numpy() == 0)
        assert np.all(backend.to_numpy(x.grad) == 0)

    def test_evaluation_is_the_input_itself(self, name: str) -> None:
        x, rng = ones(5, 4), generator()
        before = rng.bit_generator.state
        assert getattr(F, name)(x, 0.7, training=False, generator=rng) is x
        assert rng.bit_generator.state == before

    def test_the_gradient_passes_the_same_mask(self, name: str, backend: Any) -> None:
        x = ones(200, 5)
        y = getattr(F, name)(x, 0.4, generator=generator())
        dy = generator(1).normal(size=(200, 5)).astype("float32")
        y.backward(dy)
        assert x.grad is not None
        np.testing.assert_allclose(backend.to_numpy(x.grad), dy * y.numpy(), rtol=1e-6)

    def test_a_generator_gives_one_mask(self, name: str) -> None:
        rng = generator(3)
        draw = getattr(F, name)
        first, second = (draw(ones(100, 3), generator=rng, p=0.5).numpy() for _ in range(2))
        again = draw(ones(100, 3), generator=generator(3), p=0.5).numpy()
        assert np.array_equal(first, again)
        assert not np.array_equal(first, second)

    def test_without_a_generator_manual_seed_decides(self, name: str) -> None:
        def draw(seed: int) -> np.ndarray:
            tn.manual_seed(seed)
            return getattr(F, name)(ones(100, 3), 0.5).numpy()

        assert np.array_equal(draw(1), draw(1))
        assert not np.array_equal(draw(1), draw(2))

    def test_one_seed_gives_one_mask_on_every_backend_and_in_every_dtype(
        self, name: str, backend: Any
    ) -> None:
        if backend.random_bits is not tn.get_backend("reference").random_bits:
            pytest.skip("its bits are as random, but others: see tests/cuda/test_random.py")
        masks = [getattr(F, name)(ones(50, 3), 0.5, generator=generator()).numpy()]
        wide = getattr(F, name)(ones(50, 3, dtype="float64"), 0.5, generator=generator())
        assert wide.dtype == "float64"
        with tn.use_backend("reference"):
            masks += [wide.numpy(), getattr(F, name)(ones(50, 3), 0.5, generator=generator()).data]
        assert np.array_equal(masks[0], masks[1])
        assert np.array_equal(masks[0], masks[2])

    @pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
    def test_what_is_no_probability_is_refused(self, name: str, p: float) -> None:
        with pytest.raises(ValueError, match=f"{name}.*{p}"):
            getattr(F, name)(ones(3, 2), p)
        layer = {"dropout": nn.Dropout, "stochastic_depth": nn.StochasticDepth}[name]
        with pytest.raises(ValueError, match=str(p)):
            layer(p)


@pytest.mark.parametrize("layer", [nn.Dropout, nn.StochasticDepth])
def test_layers_follow_train_and_eval(layer: Any) -> None:
    x = ones(100, 4)
    model = nn.Sequential(layer(0.5, generator=generator()))
    assert (model(x).numpy() == 0).any()
    assert model.eval()(x) is x
    assert (model.train()(x).numpy() == 0).any()


@pytest.mark.parametrize("layer", [nn.Dropout, nn.StochasticDepth])
def test_layers_draw_anew_each_time_from_their_generator(layer: Any) -> None:
    def passes() -> list[np.ndarray]:
        drop = layer(0.5, generator=generator(8))
        return [drop(ones(100, 2)).numpy() for _ in range(3)]

    first, second = passes(), passes()
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], first[1])


def test_manual_seed_restarts_the_default_generator() -> None:
    rng = tn.manual_seed(11)
    assert rng is tn.default_generator()
    first = rng.random(4)
    assert np.array_equal(tn.manual_seed(11).random(4), first)
    assert np.array_equal(np.random.default_rng(11).random(4), first)  # and is NumPy's own


def test_seeds_of_others_are_left_alone() -> None:
    """Neither NumPy's nor Python's global generator is read or moved."""
    import random

    np_state, py_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    tn.manual_seed(0)
    F.dropout(ones(10), 0.5)
    nn.Linear(3, 3)
    assert random.getstate() == py_state
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), np_state))  # noqa: NPY002
