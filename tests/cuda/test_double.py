"""The double of CuPy is strict, and the engine and its training loop get on with it."""

from collections.abc import Callable
from typing import Any

import cupy_double as xp
import emulator
import numpy as np
import pytest
from cupy_double import StreamError, forbid, recording

import tinynn as tn
from hwr.options import configure, parser
from hwr.run import Run, prepare
from hwr.train import train_step
from tinynn import functional as F
from tinynn import nn, optim


def device(*shape: int) -> Any:
    return xp.asarray(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


# -- the double itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        np.asarray,
        lambda a: np.float32(1) * np.ones(3, np.float32) + a,
        lambda a: a + np.ones(3, np.float32),
        lambda a: a[np.array([0])],
        lambda a: a.__setitem__(0, np.zeros(())),
        lambda a: xp.maximum(a, np.zeros(3)),
        lambda a: np.exp(a),
        lambda a: np.stack([a, a]),
    ],
)
def test_host_and_device_never_mix(mix: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        mix(device(3))


def test_reductions_and_elements_stay_on_the_device() -> None:
    a = device(2, 3)
    for value in (a.sum(), a.max(), a[0, 1], a.argmax(), xp.count_nonzero(a)):
        assert isinstance(value, xp.ndarray)
        assert value.shape == ()
    a[0, 1][...] = 7  # a view
    assert float(a[0, 1]) == 7


@pytest.mark.parametrize(
    "wait",
    [float, int, bool, xp.asnumpy, repr, lambda a: a.item(), lambda a: device(3)[device(3) > 0]],
)
def test_waiting_is_seen(wait: Callable[[Any], Any]) -> None:
    a = xp.ones((), np.float32)
    wait(a)
    with forbid("waiting"), pytest.raises(StreamError, match="waiting"):
        wait(a)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda a: a @ a,
        lambda a: xp.asarray(1.0),
        lambda a: xp.asarray(np.ones(2)),
        lambda a: a[[0]],
    ],
)
def test_a_recorded_stream_takes_kernels_alone(forbidden: Callable[[Any], Any]) -> None:
    a = device(2, 2)
    with recording():
        xp.empty(3)
        a += xp.exp(a) * 2
        with pytest.raises(StreamError):
            forbidden(a)


def test_memory_is_not_zero_by_chance() -> None:
    assert np.isnan(xp.empty(3, np.float32).get()).all()


def test_cupy_has_all_that_the_double_offers() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    ours = {n for n, v in vars(xp).items() if callable(v) and getattr(np, n, None) is not None}
    assert not [name for name in ours if not hasattr(cupy, name)]
    methods = {name for name in vars(xp.ndarray) if name not in ("host", "__slots__")}
    assert not [name for name in methods if not hasattr(cupy.ndarray, name)]


# -- the engine on it ----------------------------------------------------------------------------


def a_run(*options: str) -> Run:
    """A small run of `hwr.train`, as the command line would make it."""
    small = "--width", "4", "--train-size", "64", "--validation", "0", "--batch-size", "16"
    return prepare(configure(vars(parser().parse_args([*small, *options]))))


@pytest.mark.parametrize("options", [(), ("--ema-decay", "0.9"), ("--optimizer", "adam")])
def test_a_training_step_waits_for_nothing(options: tuple[str, ...]) -> None:
    with tn.use_backend("double"):
        run = a_run(*options)
        run.model.train()
        for images, labels in list(run.loader.epoch(0))[:2]:
            with forbid("waiting"):
                loss, read = train_step(run, images, labels)
            run.pending.append((labels, loss.detach(), read))
        run.check()
    assert np.isfinite(run.mean_loss)
    assert run.images == 32


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
}


def block_step(backend: str, make: Callable[[Any], optim.Optimizer], x: np.ndarray) -> np.ndarray:
    """Two steps of a convolutional network, the second recorded on a device -> its weights."""
    with tn.use_backend(backend) as used:
        g = np.random.default_rng(1)
        conv, bn = nn.Conv2d(3, 4, 3, padding=1, generator=g), nn.BatchNorm2d(4)
        linear = nn.Linear(4, 5, generator=g)
        optimizer = make([*conv.parameters(), *bn.parameters(), *linear.parameters()])
        images = tn.Tensor(used.asarray(x))

        def step() -> None:
            y = F.silu(F.max_pool2d(bn(conv(images), relu=True), 2))
            optimizer.zero_grad()
            scores = linear(F.flatten(F.adaptive_avg_pool2d(y, 1), 1))
            F.mean(scores * scores).backward()
            optimizer.step()

        step()
        with recording():  # means nothing to NumPy
            step()
        return conv.weight.numpy()


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_convolutional_step_can_be_recorded(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)
    got, expected = (block_step(b, OPTIMIZERS[name], x) for b in ("emulated", "reference"))
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
def test_the_paper_s_network_learns_the_same_from_the_cuda_kernels() -> None:
    weights = []
    for backend in ("reference", "emulated"):
        with tn.use_backend(backend):
            run = a_run("--batch-size", "4")
            run.model.train()
            images, labels = next(iter(run.loader.epoch(0)))
            with forbid("waiting", "libraries"):
                train_step(run, images, labels)
            weights.append(run.model.state_dict())
    for name, expected in weights[0].items():
        error = np.abs(weights[1][name] - expected).max()
        assert error <= 2e-5 * max(np.abs(expected).max(), 1e-3), name
