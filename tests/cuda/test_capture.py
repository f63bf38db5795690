"""A captured step does what it does eagerly, bit for bit, on the strict double of CuPy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import cupy_double as xp
import emulator
import numpy as np
import pytest
import stream_double

import tinynn as tn
from tinynn import functional as F
from tinynn import nn, optim
from tinynn.capture import KEPT, WARM_UP, CapturedStep
from tinynn.kernels.cuda_conv import FLOAT32, TILES, definitions
from tinynn.kernels.cuda_launch import source

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
}
Batch = tuple[np.ndarray, np.ndarray]


def batches(count: int, rows: int = 2, size: int = 6) -> list[Batch]:
    g = np.random.default_rng(0)
    shape = rows, size, size, 3
    return [
        (g.standard_normal(shape).astype(np.float32), g.integers(0, 5, rows)) for _ in range(count)
    ]


@pytest.fixture(scope="module", autouse=True)
def sources_compile_side_by_side() -> None:
    if emulator.compiler():
        for vector in (4, 1):
            options = definitions(TILES[FLOAT32][0], vector)
            emulator.begin_compilation(source("conv"), options)
        for name in ("norm", "activation", "pool", "random", "softmax", "optim"):
            emulator.begin_compilation(source(name), ())


class Training:
    """A small convolutional network, trained by every kind of kernel, its step captured or not."""

    def __init__(self, backend: str, optimizer: str = "SGD", captured: bool = False):
        self.backend = backend
        with tn.use_backend(backend):
            g = np.random.default_rng(1)
            self.model = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1, generator=g), nn.BatchNorm2d(4), nn.SiLU(),
                nn.MaxPool2d(2), nn.Dropout(0.3, generator=g), nn.AdaptiveAvgPool2d(1),
                nn.Flatten(), nn.Linear(4, 5, generator=g),
            )  # fmt: skip
            self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
            self.ema = optim.EMA(self.model, 0.9)
            example = batches(1)[0]
            step = tn.capture(self.update, example, model=self.model) if captured else self.update
        self.step = partial(self.within, step)

    def update(self, images: Any, labels: Any) -> tuple[tn.Tensor, tn.Tensor]:
        logits = self.model(tn.Tensor(images))
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.ema.update()
        return loss, logits.argmax(1)

    def within(self, step: Any, images: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """A step, its loss and what it reads; then other work on the device, and another rate."""
        with tn.use_backend(self.backend) as backend:
            loss, read = step(images, labels)
            backend.xp.ones((4, 6, 6, 3), np.float32)
            self.optimizer.param_groups[0].lr *= 0.9
            return loss.item(), read.numpy()

    def state(self) -> dict[str, np.ndarray]:
        """All that a checkpoint holds."""
        with tn.use_backend(self.backend):
            parts = self.model.state_dict(), self.optimizer.state_dict(), self.ema.state_dict()
            return {f"{i}.{k}": v for i, part in enumerate(parts) for k, v in part.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replays_are_eager_steps_bit_for_bit(optimizer: str, device: str) -> None:
    check_replays(*(Training(device, optimizer, flag) for flag in (False, True)))


def test_running_statistics_that_are_an_average_of_all_batches_are_recorded(device: str) -> None:
    eager, captured = (Training(device, captured=flag) for flag in (False, True))
    for training in (eager, captured):
        training.model[1].momentum = None
    check_replays(eager, captured)


def check_replays(eager: Training, captured: Training) -> None:
    for batch in batches(WARM_UP + 3):
        (loss, read), (expected, expected_read) = captured.step(*batch), eager.step(*batch)
        assert loss == expected
        np.testing.assert_array_equal(read, expected_read)
    step: CapturedStep = captured.step.args[0]
    assert step.recording is not None
    assert step.recording.replays == 3
    expected_state = eager.state()
    for name, value in captured.state().items():
        np.testing.assert_array_equal(value, expected_state[name], err_msg=name)


def test_a_shorter_batch_runs_eagerly_and_other_shapes_and_modes_are_recorded_anew(
    device: str,
) -> None:
    eager, captured = (Training(device, captured=flag) for flag in (False, True))
    step: CapturedStep = captured.step.args[0]

    def train(count: int, rows: int = 2, size: int = 6) -> None:
        for batch in batches(count, rows, size):
            for got, expected in zip(captured.step(*batch), eager.step(*batch)):
                np.testing.assert_array_equal(got, expected)

    train(WARM_UP + 1)
    first = step.recording
    assert first is not None
    train(1, rows=1)
    train(1)
    assert step.recording is first
    assert first.replays == 2
    train(WARM_UP + 1, size=4)
    second = step.recording
    assert second not in (None, first)
    for training in (eager, captured):
        training.model[4].eval()  # no dropout
    train(WARM_UP + 1, size=4)
    assert step.recording not in (None, first, second)


class Cells(nn.Module):
    """A sequence (T, N, C) through two kinds of cells, one above the other, a step at a time."""

    def __init__(self, inputs: int, hidden: int, generator: Any):
        self.lower = nn.LSTMCell(inputs, hidden, generator=generator)
        self.upper = nn.GRUCell(hidden, hidden, generator=generator)

    def forward(self, x: tn.Tensor) -> tuple[tn.Tensor, None]:
        lower, upper, outputs = None, None, []
        for step in x:
            lower = self.lower(step, lower)
            upper = self.upper(lower[0], upper)
            outputs.append(upper)
        return F.stack(outputs), None


RECURRENT: dict[str, Callable[..., Any]] = {
    "RNN": nn.RNN,
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "deep": partial(nn.LSTM, num_layers=2, dropout=0.5, bidirectional=True),
    "cells": Cells,
}


def recurrent_losses(kind: str, drawn: list[Batch], device: str, captured: bool) -> list[float]:
    """Those of a small recurrent network, trained by the CTC loss on these batches."""
    with tn.use_backend(device) as backend:
        g = np.random.default_rng(1)
        rnn = RECURRENT[kind](3, 4, generator=g)
        fc = nn.Linear(8 if kind == "deep" else 4, 4, generator=g)
        optimizer = optim.SGD([*rnn.parameters(), *fc.parameters()], 0.1)
        lengths = [backend.xp.full(2, n) for n in (5, 2)]

        def update(x: Any, labels: Any) -> tuple[tn.Tensor]:
            log_probs = F.log_softmax(fc(rnn(tn.Tensor(x))[0]), 2)
            loss = F.ctc_loss(log_probs, labels, *lengths)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return (loss,)

        step: Any = tn.capture(update, drawn[0]) if captured else update
        losses = [step(*batch)[0].item() for batch in drawn]
        assert not captured or step.recording.replays == len(drawn) - WARM_UP
        return losses


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_network_s_ctc_loss_is_replayed(kind: str, device: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [
        (rng.standard_normal((5, 2, 3)).astype(np.float32), rng.integers(1, 4, (2, 2)))
        for _ in range(WARM_UP + 2)
    ]
    losses = recurrent_losses(kind, drawn, device, captured=False)
    assert losses == recurrent_losses(kind, drawn, device, captured=True)
    assert len(set(losses)) == len(drawn)


def test_a_recording_gives_its_memory_back() -> None:
    with tn.use_backend("double"):
        step: Any = tn.capture(lambda x: (tn.Tensor(x) * 2,), (np.ones(3, np.float32),))
        for size in (3, 4):
            for i in range(WARM_UP + 1):
                step(np.ones(size, np.float32))
                assert (step.pool.total_bytes() > 0) == (i == WARM_UP)
        pool = step.pool
        del step
        assert pool.total_bytes() == 0


def test_a_step_that_does_not_fit_into_memory_twice_runs_eagerly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eager, captured = (Training("double", captured=flag) for flag in (False, True))
    for batch in batches(WARM_UP):
        assert captured.step(*batch)[0] == eager.step(*batch)[0]
    monkeypatch.setattr(stream_double.Memory, "full", True)
    (batch,) = batches(1)
    with pytest.warns(RuntimeWarning, match=r"cannot be recorded.*bytes do not fit beside"):
        loss, _ = captured.step(*batch)
    assert loss == eager.step(*batch)[0]


def test_a_recording_has_no_limit_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit a pool gives back what is free at that moment, and a graph writes there."""
    monkeypatch.setattr(stream_double.MemoryPool, "limit", 100)
    with tn.use_backend("double"):
        x = np.arange(30, dtype=np.float32)
        step: Any = tn.capture(lambda x: (((tn.Tensor(x) * 2) + 1) * 3,), (x,))
        results = [step(x)[0].numpy() for _ in range(WARM_UP + 2)]
        assert step.recording.replays == 2
    np.testing.assert_array_equal(results[-1], results[0])


def test_gradients_that_the_user_holds_stay_where_a_recording_writes(device: str) -> None:
    eager, captured = (Training(device, captured=flag) for flag in (False, True))
    (group,) = captured.optimizer.param_groups
    for batch in batches(WARM_UP):
        captured.step(*batch), eager.step(*batch)
    held, flat = captured.model[0].weight.grad, group.grads
    for batch in batches(3):
        assert captured.step(*batch)[0] == eager.step(*batch)[0]
    assert held is not None
    recording = captured.step.args[0].recording
    assert recording.replays == 3
    assert group.grads is not flat  # the user keeps these
    assert any(array is flat for array in recording.notes.arrays)
    assert any(array is group.grads for array in recording.notes.arrays)


def test_gradients_of_a_refused_recording_are_not_added_to() -> None:
    """A step may forget its gradients at its end."""

    def losses(captured: bool) -> list[float]:
        with tn.use_backend("double") as backend:
            layer = nn.Linear(3, 2, generator=np.random.default_rng(0))

            def update(x: Any) -> tuple[tn.Tensor]:
                loss = (layer(tn.Tensor(x)) ** 2).sum()
                loss.backward()
                layer.weight.data -= 0.1 * layer.weight.grad
                backend.xp.ones((2, 2)) @ backend.xp.ones((2, 2))  # cuBLAS's
                layer.zero_grad()
                return (loss,)

            x = np.eye(3, dtype=np.float32)
            linear = backend.override("linear", linear=product, linear_grad=product_grad)
            with tn.use_backend(linear):
                step: Any = tn.capture(update, (x,), model=layer) if captured else update
                return [step(x)[0].item() for _ in range(WARM_UP + 2)]

    def product(x: Any, w: Any, bias: Any, relu: bool) -> Any:
        """In place of cuBLAS's, which could not be recorded."""
        return (x[:, None, :] * w).sum(2) + bias

    def product_grad(
        dy: Any, x: Any, w: Any, y: Any, bias: bool,
        out_dw: Any = None, out_db: Any = None, in_place: bool = False,
    ) -> Any:  # fmt: skip
        return None, (dy[:, :, None] * x[:, None, :]).sum(0), dy.sum(0)

    with pytest.warns(RuntimeWarning, match="cannot be recorded"):
        refused = losses(captured=True)
    assert refused == losses(captured=False)


def test_the_last_step_before_a_recording_sees_what_it_will_see() -> None:
    seen = []

    def step(x: Any) -> tuple[tn.Tensor]:
        seen.append(isinstance(x, np.ndarray))
        return (tn.Tensor(x) * 2,)

    x = np.ones(3, np.float32)
    with tn.use_backend("double"):
        captured = tn.capture(step, (x,))
        for _ in range(WARM_UP + 2):
            captured(x)
    assert seen == [True] * (WARM_UP - 1) + [False] * 2


def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_so() -> None:
    captured = Training("double", captured=True)  # its products are cuBLAS's
    eager = Training("double")
    for batch in batches(WARM_UP):
        assert captured.step(*batch)[0] == eager.step(*batch)[0]
    for i, batch in enumerate(batches(2)):
        if i == 0:
            with pytest.warns(RuntimeWarning, match=r"cannot be recorded.*matmul: libraries"):
                loss, _ = captured.step(*batch)
        else:
            loss, _ = captured.step(*batch)
        assert loss == eager.step(*batch)[0]


def test_results_can_be_read_some_steps_later() -> None:
    with tn.use_backend("double"):
        total = xp.zeros((), np.float32)

        def add(x: Any) -> tuple[tn.Tensor]:
            total[...] += x.sum()
            return (tn.Tensor(total),)

        step = tn.capture(add, (np.ones(3, np.float32),))
        results = [step(np.ones(3, np.float32))[0] for _ in range(WARM_UP + KEPT)][WARM_UP:]
        assert [r.item() for r in results] == [3 * (WARM_UP + i + 1) for i in range(KEPT)]


def test_many_arrays_are_joined_in_a_recording() -> None:
    def step(x: Any) -> tuple[tn.Tensor]:
        return (F.stack([tn.Tensor(x) * i for i in range(20)], 1),)

    x = np.arange(3, dtype=np.float32)
    with tn.use_backend("double"):
        captured: Any = tn.capture(step, (x,))
        results = [captured(x)[0].numpy() for _ in range(WARM_UP + 1)]
        assert captured.recording is not None
    np.testing.assert_array_equal(results[-1], np.outer(x, np.arange(20)))


def test_on_the_cpu_the_step_is_what_it_was() -> None:
    def step() -> tuple[tn.Tensor]:
        return (tn.Tensor(1.0),)

    with tn.use_backend("reference"):
        assert tn.capture(step, ()) is step
