"""An optimiser's flat storage: weights and gradients are views of it, and nobody else's arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_optim import gradients, parameters, run, values

import tinynn as tn
import tinynn.functional as F
from tinynn import nn, optim


def test_parameters_and_gradients_are_views_of_one_buffer() -> None:
    params = parameters()
    before = values(params)
    (group,) = optim.SGD(params, lr=0.1).param_groups
    assert np.array_equal(values(params), before)
    assert np.array_equal(group.weights, before)
    (params[0].sum() + params[1].sum() + params[2] * 3).backward()
    for p in params:
        assert np.shares_memory(p.data, group.weights)
        assert np.shares_memory(p.grad, group.grads)
    assert np.array_equal(group.grads, [1] * 17 + [3])


def test_a_replaced_array_is_taken_in() -> None:
    """`p.data = array` between two steps is honoured, and the buffer is shared again after."""
    params = parameters()
    optimizer = optim.SGD(params, lr=0.5)
    run(optimizer, params, range(2))
    params[0].data = np.full((3, 4), 7, "float32")
    (gradient, *_) = gradients(2)
    run(optimizer, params, range(2, 3))
    np.testing.assert_allclose(params[0].data, 7 - 0.5 * gradient, rtol=1e-6)
    assert np.shares_memory(params[0].data, optimizer.param_groups[0].weights)


def test_two_optimizers_may_follow_each_other_on_one_model() -> None:
    """A warm-up with one and training with another; neither sees a stale copy."""
    params = parameters()
    first, second = optim.SGD(params, lr=0.1), optim.SGD(params, lr=0.1)
    run(first, params, range(3))
    run(second, params, range(3, 5))
    run(first, params, range(5, 7))
    alone = parameters()
    run(optim.SGD(alone, lr=0.1), alone, range(7))
    assert np.array_equal(values(params), values(alone))


@pytest.mark.parametrize("change", ["dtype", "shape"])
def test_a_parameter_that_no_longer_fits_is_refused(change: str) -> None:
    """model.astype() after the optimiser was made would otherwise be undone in silence."""
    layer = nn.Linear(3, 1)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    if change == "dtype":
        layer.astype("float64")
    else:
        layer.weight.data = np.zeros((1, 1), "float32")
    layer.weight.grad = np.zeros_like(layer.weight.data)
    with pytest.raises(ValueError, match=r"float64.*new optimizer|\(1, 1\).*new optimizer"):
        optimizer.step()


def test_a_single_tensor_may_be_given_without_a_list() -> None:
    """Not taken for the list of its rows, which would train nothing."""
    (p, *_), (q, *_) = parameters(), parameters()
    run(optim.SGD(p, lr=0.1), [p], range(1))
    run(optim.SGD([{"params": q}], lr=0.1), [q], range(1))
    assert not np.array_equal(p.data, parameters()[0].data)
    assert np.array_equal(p.data, q.data)


def test_gradients_accumulate_until_zero_grad() -> None:
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)
    before = params[0].numpy()
    for factor in (1.0, 2.0):
        (params[0] * factor).sum().backward()
    assert np.all(params[0].grad == 3)
    optimizer.step()
    np.testing.assert_allclose(params[0].data, before - 0.3, rtol=1e-6)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    (params[0] * 5.0).sum().backward()
    assert np.all(params[0].grad == 5)


def test_a_parameter_that_is_two_inputs_gets_both_gradients() -> None:
    """Each of them alone would be written to its storage at once."""
    x = tn.Tensor(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    gradient = np.arange(32, dtype=np.float32).reshape(8, 4)
    weight, bias, shared = (nn.Parameter(np.ones(4, np.float32)) for _ in range(3))
    optim.SGD([weight, bias, shared], lr=0.1)
    for pair in ((weight, bias), (shared, shared)):
        F.batch_norm(x, None, None, *pair, training=True).backward(gradient)
    np.testing.assert_allclose(shared.grad, weight.grad + bias.grad, rtol=1e-6)


@pytest.mark.parametrize("look", [lambda g: g, lambda g: g[0], lambda g: g.reshape(-1)])
def test_a_gradient_kept_by_the_user_stays(look: Callable[[np.ndarray], np.ndarray]) -> None:
    """Others come to lie elsewhere, and all parameters are updated as ever."""
    kept = []
    for looks in (True, False):
        params = [nn.Parameter(np.ones(shape)) for shape in ((3, 2), (4,))]
        optimizer = optim.SGD(params, lr=0.1)
        for factor in (1.0, 2.0, 3.0, 4.0):
            sum((p * factor).sum() for p in params).backward()
            if looks:
                kept.append(look(params[0].grad))
            optimizer.step()
            optimizer.zero_grad()
        for p in params:
            np.testing.assert_allclose(p.data, 0, atol=1e-15)
    assert [np.unique(gradient).tolist() for gradient in kept] == [[1], [2], [3], [4]]


def test_gradients_that_nobody_keeps_lie_where_they_lay() -> None:
    """A step allocates nothing new, and products are written to their place at once."""
    layer = nn.Linear(3, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    places = set()
    for _ in range(3):
        optimizer.zero_grad()
        layer(tn.Tensor(np.ones((4, 3), np.float32))).sum().backward()
        assert layer.weight.grad is layer.weight.grad_storage
        places.add(layer.weight.grad.ctypes.data)
        optimizer.step()
    assert len(places) == 1
