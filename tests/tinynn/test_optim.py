"""Optimisers and clipping: what a training loop relies on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import nn, optim

SHAPES = ((3, 4), (5,), ())

OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ],
    "Adam": [{}, {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}],
    "AdamW": [{}, {"betas": (0.8, 0.99), "weight_decay": 0.5}],
    "RMSprop": [
        {},
        {"centered": True, "alpha": 0.8},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.5, "centered": True, "eps": 1e-3},
    ],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}],
    "Adadelta": [{}, {"rho": 0.7, "eps": 1e-3, "weight_decay": 0.1}],
}
EACH_OPTIMIZER = [(name, options) for name, each in OPTIMIZERS.items() for options in each]
ONE_OF_EACH = [(name, each[-1]) for name, each in OPTIMIZERS.items()]


def parameters(dtype: str = "float32", seed: int = 0) -> list[nn.Parameter]:
    """Three parameters, one of them a single number."""
    rng = np.random.default_rng(seed)
    return [nn.Parameter(tn.Tensor(rng.normal(size=s).astype(dtype)).data) for s in SHAPES]


def gradients(step: int, dtype: str = "float32") -> list[Any]:
    """Some gradients, different in every step."""
    rng = np.random.default_rng(100 + step)
    return [tn.Tensor(rng.normal(size=s).astype(dtype)).data for s in SHAPES]


def run(optimizer: Any, params: list[nn.Parameter], steps: range) -> None:
    """Some steps with the gradients of those numbers."""
    for step in steps:
        for p, g in zip(params, gradients(step, str(params[0].dtype))):
            p.grad = g
        optimizer.step()


def values(params: list[nn.Parameter]) -> np.ndarray:
    """All parameters as one array."""
    return np.concatenate([p.numpy().ravel() for p in params])


# -- PyTorch's updates ------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    """PyTorch, or the test is skipped."""
    return pytest.importorskip("torch", reason="compares with PyTorch")


def assert_pytorchs(params: list[nn.Parameter], theirs: list[Any]) -> None:
    """The parameters are PyTorch's, within rounding."""
    expected = np.concatenate([t.detach().numpy().ravel() for t in theirs])
    tolerance = 1e-12 if params[0].dtype == "float64" else 2e-6
    error = np.linalg.norm(values(params) - expected) / np.linalg.norm(expected)
    assert error < tolerance, f"relative error {error:.2e}"


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), EACH_OPTIMIZER)
def test_twenty_steps_are_pytorchs(
    name: str, options: dict[str, Any], dtype: str, torch: Any, backend: Any
) -> None:
    ours = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]
    mine = getattr(optim, name)(ours, lr=0.05, **options)
    yours = getattr(torch.optim, name)(theirs, lr=0.05, **options)
    for step in range(20):
        for p, t, g in zip(ours, theirs, gradients(step, dtype)):
            p.grad, t.grad = g, torch.tensor(backend.to_numpy(g))
        mine.step()
        yours.step()
        assert_pytorchs(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), EACH_OPTIMIZER)
def test_a_parameter_without_gradient_waits_as_in_pytorch(
    name: str, options: dict[str, Any], dtype: str, torch: Any, backend: Any
) -> None:
    """Its step does not count, no decay or momentum moves it, and its neighbours go on."""
    ours = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]
    mine = getattr(optim, name)(ours, lr=0.05, **options)
    yours = getattr(torch.optim, name)(theirs, lr=0.05, **options)
    for step in range(12):
        present = [step % 3 != 1, step >= 4, step % 4 != 2]
        for p, t, g, has in zip(ours, theirs, gradients(step, dtype), present):
            p.grad = g if has else None
            t.grad = torch.tensor(backend.to_numpy(g)) if has else None
        mine.step()
        yours.step()
        assert_pytorchs(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH)
def test_groups_with_their_own_options(
    name: str, options: dict[str, Any], torch: Any, backend: Any
) -> None:
    ours = parameters("float64")
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]

    def make(library: Any, params: list[Any]) -> Any:
        groups = [
            {"params": params[:1], "lr": 0.2, "weight_decay": 0.3},
            {"params": params[1:]},
        ]
        return getattr(library, name)(groups, lr=0.01, **options)

    mine, yours = make(optim, ours), make(torch.optim, theirs)
    for step in range(10):
        for p, t, g in zip(ours, theirs, gradients(step, "float64")):
            p.grad, t.grad = g, torch.tensor(backend.to_numpy(g))
        if step == 5:  # by hand, in the middle
            mine.param_groups[1]["lr"] = yours.param_groups[1]["lr"] = 0.5
        mine.step()
        yours.step()
        assert_pytorchs(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e3])
def test_clipping_is_pytorchs(max_norm: float, torch: Any, backend: Any) -> None:
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]
    for p, t, g in zip(ours[:2], theirs[:2], gradients(0)):  # the third has none
        p.grad, t.grad = g, torch.tensor(backend.to_numpy(g))
    norm = optim.clip_grad_norm_(ours, max_norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    for p, t in zip(ours[:2], theirs[:2]):
        np.testing.assert_allclose(backend.to_numpy(p.grad), t.grad.numpy(), rtol=2e-6)
    assert ours[2].grad is None


# -- training ---------------------------------------------------------------------------------


def test_frozen_parameters_stay() -> None:
    """No decay, no momentum: requires_grad=False means untouched, bit for bit."""
    frozen, free = nn.Linear(4, 3), nn.Linear(3, 2)
    frozen.requires_grad_(False)
    model = nn.Sequential(frozen, nn.BatchNorm1d(3), free)
    before = {name: p.numpy() for name, p in model.named_parameters()}
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(tn.Tensor(np.random.default_rng(0).normal(size=(8, 4)))).sum().backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert np.array_equal(p.data, before[name]) == name.startswith("0."), name


def test_training_a_line_finds_it() -> None:
    """y = 2 x - 1, by every optimiser: the loss falls a thousandfold."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1)).astype("float32")
    y = 2 * x - 1
    rates = {"SGD": 0.1, "Adam": 0.1, "AdamW": 0.1, "RMSprop": 0.02, "Adagrad": 0.5, "Adadelta": 20}
    for name, lr in rates.items():
        line = nn.Linear(1, 1, generator=np.random.default_rng(1))
        more = {"weight_decay": 0.0} if name == "AdamW" else {}
        optimizer = getattr(optim, name)(line.parameters(), lr=lr, **more)
        losses = []
        for _ in range(100):
            loss = tn.functional.mse_loss(line(tn.Tensor(x)), tn.Tensor(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 1e-3 * losses[0], name


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"eps": 0.0}])
def test_adam_where_gradients_have_always_been_zero(options):
    """Fast kernels may leave such weights out: what comes is what the reference computes."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(1000).astype(np.float32)
    grads = rng.standard_normal((4, 1000)).astype(np.float32)
    grads[:, 100:800] = 0
    grads[3, 500] = 1  # no longer
    found = {}
    for name in ("reference", "numpy"):
        with tn.use_backend(name), np.errstate(invalid="ignore"):
            w = tn.Tensor(start.copy(), requires_grad=True)
            optimizer = optim.Adam([w], lr=0.1, **options)
            for g in grads:
                w.grad = g.copy()
                optimizer.step()
            found[name] = w.numpy()
    np.testing.assert_allclose(found["numpy"], found["reference"], rtol=1e-5, atol=1e-6)
    if not options:
        np.testing.assert_array_equal(found["numpy"][100:500], start[100:500])


# -- state ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH)
def test_a_resumed_run_continues_bit_for_bit(
    name: str, options: dict[str, Any], backend: Any
) -> None:
    def make(params: list[nn.Parameter]) -> tuple[Any, Any]:
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}]
        optimizer = getattr(optim, name)(groups, lr=0.1, **options)
        return optimizer, optim.ExponentialLR(optimizer, 0.9)

    def go(params: list[nn.Parameter], made: tuple[Any, Any], steps: range) -> None:
        for step in steps:
            for p, g in zip(params, gradients(step)):
                p.grad = g if step % 4 or p is not params[1] else None
            made[0].step()
            made[1].step()

    whole = parameters()
    go(whole, make(whole), range(12))

    first = parameters()
    made = make(first)
    go(first, made, range(5))
    saved = [p.numpy() for p in first], made[0].state_dict(), made[1].state_dict()
    go(first, made, range(5, 6))  # the saved state is a copy: this must not change it

    second = parameters(seed=9)
    made = make(second)
    for p, array in zip(second, saved[0]):
        p.data = tn.Tensor(array).data
    made[0].load_state_dict(saved[1])
    made[1].load_state_dict(saved[2])
    go(second, made, range(5, 12))
    assert np.array_equal(values(second), values(whole))


def test_optimizer_state_goes_through_a_file(tmp_path: Any) -> None:
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    run(optimizer, params, range(3))
    tn.state.write_arrays(tmp_path / "adam.safetensors", optimizer.state_dict())
    arrays, _ = tn.state.read_arrays(tmp_path / "adam.safetensors")
    state = optimizer.state_dict()
    assert arrays.keys() == state.keys()
    for key, array in state.items():
        assert arrays[key].dtype == array.dtype, key
        assert np.array_equal(arrays[key], array), key


def test_state_of_another_optimizer_is_refused_whole() -> None:
    params = parameters()
    adam, sgd = optim.Adam(params), optim.SGD(params, momentum=0.9)
    before = adam.state_dict()
    with pytest.raises(ValueError, match=r"missing 0\.exp_avg") as error:
        adam.load_state_dict(sgd.state_dict())
    assert "extra 0.momentum_buffer" in str(error.value)
    with pytest.raises(ValueError, match=r"0.exp_avg: \(12,\) in the state, \(18,\) here"):
        adam.load_state_dict(optim.Adam(parameters()[:1]).state_dict())
    for key, array in adam.state_dict().items():
        assert np.array_equal(array, before[key])


# -- clipping ---------------------------------------------------------------------------------


def test_clipping_limits_the_joint_norm_and_returns_the_old_one() -> None:
    params = parameters()
    for p in params:
        p.grad = np.full(p.shape, 2, "float32")
    norm = optim.clip_grad_norm_((p for p in params), 1.0)
    assert norm.item() == pytest.approx(2 * math.sqrt(18))
    scaled: list[Any] = [p.grad for p in params]
    assert sum(float((g**2).sum()) for g in scaled) == pytest.approx(1, rel=1e-5)
    before = [g.copy() for g in scaled]
    assert optim.clip_grad_norm_(params, 1.5).item() == pytest.approx(1, rel=1e-5)
    assert all(np.array_equal(g, old) for g, old in zip(scaled, before))


def test_clipping_one_tensor_and_none() -> None:
    (p, *_) = parameters()
    assert optim.clip_grad_norm_([p], 1.0).item() == 0
    p.grad = np.ones(p.shape, "float32")
    assert optim.clip_grad_norm_(p, 1.0).item() == pytest.approx(math.sqrt(12))
    assert np.linalg.norm(p.grad) == pytest.approx(1, rel=1e-5)


# -- errors -----------------------------------------------------------------------------------

BAD: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "no parameters": (ValueError, "no parameters", lambda: optim.SGD([], lr=0.1)),
    "an empty group": (ValueError, "no parameters", lambda: optim.SGD([{"params": []}], lr=0.1)),
    "arrays": (TypeError, "ndarray", lambda: optim.SGD([np.zeros(3, "float32")], lr=0.1)),
    "named parameters": (
        TypeError,
        "tuple",
        lambda: optim.SGD(nn.Linear(1, 1).named_parameters(), lr=0.1),
    ),
    "an intermediate tensor": (ValueError, "leaf", lambda: optim.SGD([parameters()[0] * 2])),
    "a parameter twice": (ValueError, "twice", lambda: optim.SGD(parameters()[:1] * 2, lr=0.1)),
    "two dtypes": (
        TypeError,
        "float32.*float64",
        lambda: optim.SGD([*parameters(), *parameters("float64")], lr=0.1),
    ),
    "a negative rate": (ValueError, "lr.*-1", lambda: optim.SGD(parameters(), lr=-1)),
    "a NaN rate": (ValueError, "lr.*nan", lambda: optim.Adam(parameters(), lr=math.nan)),
    "a group's rate": (
        ValueError,
        "lr.*-2",
        lambda: optim.SGD([{"params": parameters(), "lr": -2}], lr=0.1),
    ),
    "a negative decay": (
        ValueError,
        "weight_decay.*-1",
        lambda: optim.SGD(parameters(), weight_decay=-1),
    ),
    "a negative momentum": (ValueError, "momentum", lambda: optim.SGD(parameters(), momentum=-0.1)),
    "a beta of one": (ValueError, "beta2", lambda: optim.Adam(parameters(), betas=(0.9, 1.0))),
    "a rho of two": (ValueError, "rho", lambda: optim.Adadelta(parameters(), rho=2.0)),
    "nesterov alone": (ValueError, "nesterov", lambda: optim.SGD(parameters(), nesterov=True)),
    "nesterov in a group": (
        ValueError,
        "nesterov",
        lambda: optim.SGD([{"params": parameters(), "nesterov": True}], lr=0.1),
    ),
    "an unknown option": (
        TypeError,
        "momentun",
        lambda: optim.SGD([{"params": parameters(), "momentun": 0.9}], lr=0.1),
    ),
    "an unknown key": (
        KeyError,
        "momentun",
        lambda: optim.SGD(parameters()).param_groups[0].__setitem__("momentun", 0.9),
    ),
    "a norm of 0": (ValueError, "max_norm", lambda: optim.clip_grad_norm_(parameters(), 0)),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_with_their_names(what: str) -> None:
    error, words, call = BAD[what]
    with pytest.raises(error, match=words):
        call()
