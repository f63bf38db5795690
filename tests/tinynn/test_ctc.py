"""The CTC loss against every path there is, and against PyTorch."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_double import forbid

import tinynn as tn
from tinynn import functional as F
from tinynn import nn
from tinynn.backend import Backend
from tinynn.gradcheck_cases import Draw
from tinynn.kernels.threads import usable_cpus

Drawing = Callable[[st.DataObject], Draw]


def reading(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What a path reads as: repeats merged, then blanks dropped."""
    return tuple(sign for sign, _ in itertools.groupby(path) if sign != blank)


def by_all_paths(log_probs: np.ndarray, labels: Any, blank: int) -> tuple[float, np.ndarray]:
    """The loss of one sample (T, C) and its gradient, path by path."""
    steps, classes = log_probs.shape
    total, seen = 0.0, np.zeros(log_probs.shape)
    for path in itertools.product(range(classes), repeat=steps):
        if reading(path, blank) == tuple(labels):
            p = math.exp(sum(log_probs[t, sign] for t, sign in enumerate(path)))
            total += p
            seen[np.arange(steps), path] += p
    return (-math.log(total), -seen / total) if total else (math.inf, np.full(seen.shape, np.nan))


@given(data=st.data())
@settings(max_examples=40)
def test_all_paths_of_a_labelling_are_counted(
    backend: Backend, drawing: Drawing, data: st.DataObject
) -> None:
    draw = drawing(data)
    steps, classes, labels = draw.integer(1, 5), draw.integer(2, 3), draw.integer(0, 3)
    blank = draw.integer(0, classes - 1)
    targets = (blank + draw.rng.integers(1, classes, (2, labels))) % classes  # repeats abound
    inputs, lengths = [steps, draw.integer(1, steps)], [labels, draw.integer(0, labels)]
    x = np.log(draw.rng.dirichlet(np.ones(classes), (steps, 2)))
    for dtype, tolerance in (("float64", 1e-10), ("float32", 2e-5)):
        log_probs = tn.Tensor(x.astype(dtype), requires_grad=True)
        losses = F.ctc_loss(log_probs, targets, inputs, lengths, blank, "none")
        losses.backward(np.ones(2, dtype))
        gradient = backend.to_numpy(log_probs.grad)
        assert losses.dtype == gradient.dtype == dtype
        for n in range(2):
            loss, slope = by_all_paths(x[: inputs[n], n], targets[n, : lengths[n]], blank)
            assert losses.numpy()[n] == pytest.approx(loss, rel=tolerance, abs=tolerance)
            np.testing.assert_allclose(gradient[: inputs[n], n], slope, atol=tolerance)
            if math.isfinite(loss):
                assert not gradient[inputs[n] :, n].any()


TARGETS = np.array([[1, 1, 2], [2, 9, 9], [9, 9, 9], [3, 1, 3]])  # behind the lengths: anything
LENGTHS, INPUTS = np.array([3, 1, 0, 3]), np.array([6, 4, 3, 5])
JOINED = np.array([1, 1, 2, 2, 3, 1, 3])


@pytest.fixture
def logits() -> np.ndarray:
    """(T, N, C) = (6, 4, 4)."""
    return np.random.default_rng(3).normal(size=(6, 4, 4))


@pytest.mark.torch
@pytest.mark.parametrize("targets", [TARGETS, JOINED], ids=["padded", "joined"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_pytorchs(
    backend: Backend,
    logits: np.ndarray,
    targets: np.ndarray,
    reduction: str,
    zero_infinity: bool,
    dtype: str,
) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = logits.astype(dtype)
    inputs = np.where([zero_infinity, False, False, False], 3, INPUTS)  # 112 needs 4 steps
    options: dict[str, Any] = {"reduction": reduction, "zero_infinity": zero_infinity}
    mine = tn.Tensor(x, requires_grad=True)
    loss = F.ctc_loss(F.log_softmax(mine, 2), targets, inputs, LENGTHS, **options)
    yours = torch.tensor(x, requires_grad=True)
    lengths = torch.tensor(inputs), torch.tensor(LENGTHS)
    log_probs = torch.log_softmax(yours, 2)
    valid = torch.tensor(np.where(TARGETS == 9, 0, TARGETS) if targets.ndim == 2 else targets)
    expected = torch.nn.functional.ctc_loss(log_probs, valid, *lengths, **options)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=tolerance)
    cotangent = np.asarray(np.arange(1, 1 + loss.size).reshape(loss.shape), dtype)
    loss.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    difference = backend.to_numpy(mine.grad) - yours.grad.numpy()
    assert np.abs(difference).max() <= tolerance * max(1.0, float(cotangent.max()))


def test_the_mean_is_over_labels_and_then_over_samples(
    backend: Backend, logits: np.ndarray
) -> None:
    log_probs = F.log_softmax(logits, 2)
    losses = F.ctc_loss(log_probs, TARGETS, INPUTS, LENGTHS, reduction="none").numpy()
    total = F.ctc_loss(log_probs, TARGETS, INPUTS, LENGTHS, reduction="sum")
    assert float(total) == pytest.approx(losses.sum())
    mean = F.ctc_loss(log_probs, TARGETS, INPUTS, LENGTHS)
    assert float(mean) == pytest.approx((losses / [3, 1, 1, 3]).mean())
    assert float(nn.CTCLoss()(log_probs, TARGETS, INPUTS, LENGTHS)) == float(mean)
    layer = nn.CTCLoss(blank=3, reduction="sum")
    without_3 = np.where(TARGETS == 3, 0, TARGETS)
    expected = F.ctc_loss(log_probs, without_3, INPUTS, LENGTHS, 3, "sum")
    assert float(layer(log_probs, without_3, INPUTS, LENGTHS)) == float(expected)


def test_a_single_sample_needs_no_batch(backend: Backend, logits: np.ndarray) -> None:
    log_probs = F.log_softmax(logits[:, 0], 1)
    alone = F.ctc_loss(log_probs, [1, 1, 2], 6, 3, reduction="none")
    batch = F.ctc_loss(F.log_softmax(logits, 2), TARGETS, INPUTS, LENGTHS, reduction="none")
    assert alone.shape == ()
    assert float(alone) == pytest.approx(float(batch[0]), rel=1e-6)


def test_labels_and_lengths_that_lie_on_a_device_are_not_waited_for(
    backend: Backend, logits: np.ndarray
) -> None:
    log_probs = F.log_softmax(logits, 2)
    host = TARGETS, INPUTS, LENGTHS
    expected = F.ctc_loss(log_probs, *host, reduction="none").numpy()
    on_device = [backend.asarray(array) for array in host]
    mixed = [on_device[0], *host[1:]]
    for labelling in (on_device, mixed):
        with forbid("waiting"):
            losses = F.ctc_loss(log_probs, *labelling, reduction="none")
        np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_label_that_is_too_long_is_infinite_or_ignored(
    backend: Backend, logits: np.ndarray, dtype: str
) -> None:
    inputs = np.array([3, 4, 0, 0])  # 112 needs 4; no step at all reads as nothing, not as 313
    for zero_infinity in (False, True):
        x = tn.Tensor(logits.astype(dtype), requires_grad=True)
        losses = F.ctc_loss(F.log_softmax(x, 2), TARGETS, inputs, LENGTHS, 0, "none", zero_infinity)
        losses.backward(np.ones(4, dtype))
        value, gradient = losses.numpy(), backend.to_numpy(x.grad)
        assert value[2] == 0
        assert np.isfinite(gradient[:, 1]).all()
        if zero_infinity:
            assert value[[0, 3]].tolist() == [0, 0]
            assert not gradient[:, [0, 2, 3]].any()
        else:
            assert value[[0, 3]].tolist() == [math.inf, math.inf]
            assert np.isnan(gradient[:, [0, 3]]).all()  # it is not to be trained on unnoticed


def test_long_sequences_do_not_underflow(backend: Backend) -> None:
    """e^-1200 is no float64: only in log space can it be told from 0."""
    steps = 400
    log_probs = tn.Tensor(np.full((steps, 1, 20), -3.0, "float32"), requires_grad=True)
    loss = F.ctc_loss(log_probs, np.ones((1, 1), int), [steps], [1], reduction="sum")
    loss.backward()
    paths = steps * (steps + 1) / 2  # begin and end of the one label
    assert float(loss) == pytest.approx(3 * steps - math.log(paths), rel=1e-5)
    per_step = backend.to_numpy(log_probs.grad).sum((1, 2))
    np.testing.assert_allclose(per_step, -1, atol=0.01)  # each path is somewhere at each step


def test_a_nan_is_never_hidden(backend: Backend, logits: np.ndarray) -> None:
    logits[2, 0, 1] = np.nan
    log_probs = tn.Tensor(logits.astype("float32"), requires_grad=True)
    losses = F.ctc_loss(log_probs, TARGETS, INPUTS, LENGTHS, reduction="none")
    losses.backward(np.ones(4, "float32"))
    assert np.isnan(losses.numpy()).tolist() == [True, False, False, False]
    assert np.isnan(backend.to_numpy(log_probs.grad)[:, 0]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_probs": np.zeros(3)}, r"log_probs must be \(T, N, C\) or \(T, C\), not \(3,\)"),
        ({"log_probs": np.zeros((0, 4, 4))}, r"log_probs must be .* not \(0, 4, 4\)"),
        ({"blank": 4}, r"blank is 4, expected 0 to 3 for log_probs \(6, 4, 4\)"),
        ({"reduction": "average"}, "reduction must be 'mean', 'sum' or 'none', not 'average'"),
        ({"targets": TARGETS / 2}, "targets are float64 .*expected integers"),
        ({"targets": TARGETS[:3]}, r"targets are \(3, 3\), expected \(4, S\) or \(7,\)"),
        ({"targets": JOINED[:6]}, r"targets are \(6,\), expected \(4, S\) or \(7,\)"),
        (
            {"blank": 2},
            "label 2 of sample 0 is 2, expected a class, 0 to 3, other than the blank 2",
        ),
        ({"targets": TARGETS + 1}, "label 0 of sample 3 is 4, expected a class, 0 to 3"),
        ({"target_lengths": [3, 1, 0, 4]}, r"target_lengths\[3\] is 4, expected 0 to 3"),
        ({"input_lengths": [6, 4, 7, 5]}, r"input_lengths\[2\] is 7, expected 0 to 6, the steps"),
        ({"input_lengths": [6, 4]}, r"input_lengths are int64 \(2,\), expected 4 integers"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    arguments = {
        "log_probs": np.zeros((6, 4, 4)),
        "targets": TARGETS,
        "input_lengths": INPUTS,
        "target_lengths": LENGTHS,
    }
    with pytest.raises(ValueError, match=f"ctc_loss: {message}"):
        F.ctc_loss(**(arguments | changes))


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 33, 11)).astype("float32")
    targets, lengths = rng.integers(1, 11, (33, 8)), rng.integers(0, 9, 33)
    before, outcomes = tn.get_num_threads(), []
    for threads in range(1, min(2, usable_cpus()) + 1):
        tn.set_num_threads(threads)
        log_probs = tn.Tensor(x, requires_grad=True)
        loss = F.ctc_loss(F.log_softmax(log_probs, 2), targets, [20] * 33, lengths)
        loss.backward()
        outcomes.append((loss.numpy().tobytes(), log_probs.grad.tobytes()))
    tn.set_num_threads(before)
    assert len(set(outcomes)) == 1
