"""The double of CuPy is strict, and the engine and its training loop get on with it."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cupy_double as xp
import emulator
import numpy as np
import pytest
from stream_double import MemoryPool, Stream, StreamError, forbid, permit

import hwr.data
import tinynn as tn
from hwr import checkpoint
from hwr.data import Loader, Normalize
from hwr.data.augment import PRESETS
from hwr.data.device_loader import DeviceLoader
from hwr.data.warp import warp
from hwr.interrupts import Interrupted
from hwr.machine import machine
from hwr.options import configure, parser
from hwr.run import Run, prepare
from hwr.train import READ_LOSS_EVERY, end_epoch, fit, train_step
from tinynn.backend import get_backend
from tinynn.capture import KEPT


def an_array(*shape: int) -> Any:
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
        mix(an_array(3))


def test_reductions_and_elements_stay_on_the_device() -> None:
    a = an_array(2, 3)
    for value in (a.sum(), a.max(), a[0, 1], a.argmax(), xp.count_nonzero(a)):
        assert isinstance(value, xp.ndarray)
        assert value.shape == ()
    a[0, 1][...] = 7  # a view
    assert float(a[0, 1]) == 7


@pytest.mark.parametrize(
    "wait",
    [
        float,
        int,
        bool,
        xp.asnumpy,
        repr,
        lambda a: a.item(),
        lambda a: an_array(3)[an_array(3) > 0],
        lambda a: an_array(3).__setitem__(an_array(3) > 0, 1),
    ],
)
def test_waiting_is_seen(wait: Callable[[Any], Any]) -> None:
    a = xp.ones((), np.float32)
    wait(a)
    with forbid("waiting"), pytest.raises(StreamError, match="waiting"):
        wait(a)


@pytest.mark.parametrize(
    "forbidden",
    [
        float,
        lambda a: a @ a,
        lambda a: xp.asarray(1.0),
        lambda a: xp.asarray(np.ones(2)),
        lambda a: a[[0]],
        lambda a: xp.stack([a] * 9),
    ],
)
def test_a_recorded_stream_takes_kernels_alone(forbidden: Callable[[Any], Any]) -> None:
    a = xp.ones((1, 1), np.float32)
    with recorded(MemoryPool()), pytest.raises(StreamError):
        forbidden(a)


@contextmanager
def recorded(pool: MemoryPool) -> Iterator[Stream]:
    """A stream that is recorded within the block."""
    stream = Stream(non_blocking=True)
    with stream, xp.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        yield stream
        stream.end_capture()


def test_a_recording_computes_nothing_and_a_launch_all() -> None:
    a, total, parts = xp.ones(4, np.float32), xp.zeros((), np.float32), xp.zeros(4, np.float32)
    pool = MemoryPool()
    with recorded(pool) as stream:
        kept = xp.exp(a) * 2
        lost = xp.exp(kept)
        lost += 1
        parts[1:] = lost.reshape(2, 2).sum(0)[0]
        total += a.sum()
        inside = lost.host
        del lost
    assert np.isnan(kept.host).all()
    assert total.host == parts.host.sum() == 0
    for n in (1, 2):
        a[...] = n
        stream.graph.launch()
        np.testing.assert_allclose(kept.host, 2 * np.exp(n), rtol=1e-6)
        np.testing.assert_allclose(parts.host[1:], 2 * (1 + np.exp(2 * np.exp(n))), rtol=1e-4)
    assert total.host == 4 + 8
    assert np.isnan(inside).all()  # memory that another step may have taken


def test_a_graph_needs_a_pool_and_a_stream_of_its_own() -> None:
    stream = Stream()
    with stream, pytest.raises(StreamError):
        stream.begin_capture()
    pool = MemoryPool()
    with recorded(pool) as stream:
        pass
    del pool
    gc.collect()
    with pytest.raises(StreamError, match="memory went back"):
        stream.graph.launch()


@pytest.mark.parametrize("how", ["write", "read", "launch"])
def test_a_stream_waits_for_another_before_it_uses_its_memory(how: str) -> None:
    a, pool = an_array(3), MemoryPool()
    with recorded(pool) as stream:
        a += 1
    used: dict[str, Callable[[], Any]] = {
        "write": lambda: a.fill(0),
        "read": lambda: a[1:] + 1,
        "launch": stream.graph.launch,
    }
    with stream, pytest.raises(StreamError, match="wait for an event"):
        used[how]()
    third = Stream(non_blocking=True)
    third.wait_event(xp.cuda.get_current_stream().record())
    stream.wait_event(third.record())  # and for what that has waited for
    with stream:
        used[how]()
        early = stream.record()
        used[how]()
    xp.cuda.get_current_stream().wait_event(early)
    with pytest.raises(StreamError, match="wait for an event"):
        a.get()
    xp.cuda.get_current_stream().wait_event(stream.record())
    a.get()


def test_a_view_is_no_work_of_a_stream() -> None:
    a = an_array(2, 3)
    with Stream(non_blocking=True):
        assert a[0].reshape(3, 1).T.shape == (1, 3)


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
@pytest.mark.parametrize(
    ("grid", "n", "told"), [((1,), np.int64(3), "takes"), ((0,), np.int32(3), "no GPU takes")]
)
def test_a_launch_is_checked_when_it_is_recorded(grid: Any, n: Any, told: str) -> None:
    code = 'extern "C" __global__ void clear(float* x, int n) { x[0] = n; }'
    clear = xp.RawModule(code='#include "emulator.h"\n' + code).get_function("clear")
    with recorded(MemoryPool()), pytest.raises(emulator.KernelError, match=told):
        clear(grid, (1,), (xp.zeros(3, np.float32), n))


def test_keywords_that_cupy_lacks_are_refused() -> None:
    with pytest.raises(TypeError, match="initial"):
        an_array(3).max(initial=0)


def test_memory_is_not_zero_by_chance() -> None:
    assert np.isnan(xp.empty(3, np.float32).get()).all()


def test_the_device_is_named() -> None:
    with tn.use_backend("double") as backend:
        assert backend.device == machine()["gpu"] == "double"
    assert "gpu" not in machine()


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


def test_the_loop_waits_for_losses_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            reads.append(function.__name__)
            with permit():
                return function(*args)

        return call

    monkeypatch.setattr(Run, "read_losses", waiting(Run.read_losses))
    monkeypatch.setattr("hwr.train.end_epoch", waiting(end_epoch))
    with tn.use_backend("double"):
        sizes = "--batch-size", "4", "--train-size", "46", "--epochs", "1"  # the last batch is 2
        run = a_run(*sizes, "--model", "mlp", "--augment", "affine", "--no-capture")
        with forbid("waiting"):
            assert fit(run, tmp_path, Interrupted(), save_every=1e9)
    assert reads[:3] == ["read_losses", "read_losses", "end_epoch"]  # behind steps 1, 10 and 12
    assert run.epoch == 1


def test_a_device_s_batches_are_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwr.data.augment.sample", warp)  # the formula, which need not be compiled
    options = {"seed": 3, "normalize": Normalize(0.1, 0.3, 30), "shuffle": True}
    dataset = hwr.data.load("mnist", split="test").subset(range(20))
    for augment in (None, PRESETS["affine"], PRESETS["elastic"]):
        host = Loader(dataset, 8, augment=augment, **options)
        on_device = DeviceLoader(
            dataset, 8, augment=augment, backend=get_backend("double"), **options
        )
        for (images, labels), (expected, truths) in zip(on_device.epoch(1, 1), host.epoch(1, 1)):
            np.testing.assert_array_equal(labels, truths)
            level = 0 if augment is None else 1.01 / 255 / 0.3
            np.testing.assert_allclose(images.get(), expected, atol=level, rtol=0)
            assert images.dtype == np.float32


def test_training_captured_is_training(tmp_path: Path, device: str) -> None:
    states = []
    for how in ((), ("--no-capture",)):
        with tn.use_backend(device):
            sizes = "--batch-size", "4", "--train-size", "22", "--epochs", "1"
            run = a_run(*sizes, "--model", "mlp", "--augment", "affine", "--ema-decay", "0.9", *how)
            folder = tmp_path / str(len(how))
            folder.mkdir()
            assert fit(run, folder, Interrupted(), save_every=1e9)
            (figures,) = checkpoint.metrics(folder)
            means = figures["train_loss"], figures["train_accuracy"]  # read steps later
            states.append((means, run.model.state_dict()))
    assert states[0][0] == states[1][0]
    assert np.isfinite(states[0][0]).all()
    for name, expected in states[1][1].items():
        np.testing.assert_array_equal(states[0][1][name], expected, err_msg=name)


def test_losses_are_read_while_they_are_kept() -> None:
    assert READ_LOSS_EVERY < KEPT


def test_the_paper_s_network_learns_the_same_from_the_cuda_kernels(device: str) -> None:
    weights = []
    for backend in ("reference", device):
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
