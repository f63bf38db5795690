"""No images at all: every kernel that has an answer gives the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import nn
from tinynn.backend import Backend, get_backend
from tinynn.kernels import reference

Arguments = list[Any]


def no(*shape: int) -> np.ndarray:
    """No samples of that shape."""
    return np.zeros((0, *shape))


def steps(size: int) -> np.ndarray:
    """Two steps of no sequences."""
    return np.zeros((2, 0, size))


def empty_convolution(name: str, c: int, filters: int, groups: int) -> Arguments:
    w = np.ones((filters, 3, 3, c // groups))
    geometry = (2, 1), ((1, 1), (1, 1)), (1, 1), groups
    x, dy, one = no(7, 6, c), no(4, 6, filters), np.ones(filters)
    return {
        "conv2d": [x, w, *geometry],
        "conv2d_batch_norm": [x, w, *geometry, one, one, one, one, None, True, 1e-5],
        "conv2d_input_grad": [dy, w, x.shape, *geometry, None],
        "conv2d_weight_grad": [dy, x, w.shape, *geometry, None],
    }[name]


LABELS = np.zeros(0, int)
ONE = np.ones(3)
MAX = (2, 2), (2, 1), (0, 1), (1, 1), False
AVERAGE = (2, 2), (2, 1), (0, 1), False, True, None
CTC = [np.zeros((4, 0, 5)), np.zeros((0, 2), int), LABELS, LABELS, 0]
EMPTY: dict[str, list[Arguments]] = {
    "matmul": [[no(5), np.ones((5, 3)), None], [no(5).T, no(3), None]],
    "linear": [[no(i), np.ones((o, i)), b, True] for i, o, b in [(5, 3, ONE), (500, 300, None)]],
    "linear_grad": [[no(3), no(5), np.ones((3, 5)), no(3), True, None, None, False]],
    "add": [[no(5), no(5)]],
    "add_bias": [[no(3), ONE]],
    "column_sum": [[no(3), None]],
    "mul": [[no(4, 4, 3), no(1, 1, 3)], [no(4, 4, 3), ONE]],
    "mul_grad": [[no(4, 4, 3), no(4, 4, 3), s] for s in [(0, 4, 4, 3), (0, 1, 1, 3), (3,)]],
    "max_pool2d": [[no(6, 5, 3), *MAX]],
    "max_pool2d_grad": [[no(3, 6, 3), no(3, 6, 3).astype("uint8"), (0, 6, 5, 3), *MAX]],
    "avg_pool2d": [[no(6, 5, 3), *AVERAGE]],
    "avg_pool2d_grad": [[no(3, 6, 3), (0, 6, 5, 3), *AVERAGE]],
    "global_avg_pool2d": [[no(6, 5, 3)]],
    "global_avg_pool2d_grad": [[no(1, 1, 3), (0, 6, 5, 3)]],
    "batch_norm_inference": [[no(4, 4, 3), *[ONE] * 4, None, True, 1e-5]],
    "batch_norm_inference_grad": [[*[no(3)] * 3, *[ONE] * 4, True, 1e-5, True, None, None]],
    "layer_norm": [[no(3), ONE, ONE, 1e-5]],
    "layer_norm_grad": [[no(3), no(3), ONE, no(1), no(1)]],
    "gelu": [[no(5), "none"], [no(5), "tanh"]],
    "gelu_grad": [[no(5), no(5), "none"], [no(5), no(5), "tanh"]],
    "label_cross_entropy": [[no(5), LABELS, -100, 0.1]],
    "label_cross_entropy_grad": [[no(), no(5), LABELS, no(), no(), -100, 0.1]],
    "dropout": [[no(5), no(5).astype("uint16"), 0.5]],
    "ctc_loss": [CTC],
    "ctc_loss_grad": [[no(), *CTC, no(), np.zeros((4, 0, 5))]],
    "gather_images": [[np.zeros((5, 4, 4, 1), np.uint8), LABELS, None, None, np.arange(256) / 255]],
    "interpolate": [[no(4, 5, 3), np.ones((3, 4)), np.ones((2, 5))]],
    "rnn": [[steps(3), no(3), np.ones((3, 3)), "tanh"]],
    "rnn_grad": [[steps(3), steps(3), np.ones((3, 3)), "tanh"]],
    "lstm": [[steps(12), no(3), no(3), np.ones((12, 3))]],
    "lstm_grad": [[np.stack([steps(3)] * 2)] * 2 + [steps(12), no(3), np.ones((12, 3))]],
    "gru": [[steps(9), no(3), np.ones((9, 3)), np.ones(9)]],
    "gru_grad": [[steps(3), steps(3), steps(12), no(3), np.ones((9, 3))]],
    "cross_entropy": [[no(5), no(5)]],
    "cross_entropy_grad": [[no(), no(5), no(5)]],
}
EMPTY |= {
    name: [empty_convolution(name, *each) for each in [(5, 6, 1), (6, 4, 2), (6, 6, 6)]]
    for name in ("conv2d", "conv2d_batch_norm", "conv2d_input_grad", "conv2d_weight_grad")
}
EMPTY |= {name: [[no(5)]] for name in ("relu", "sigmoid", "tanh", "silu", "erf")}
EMPTY |= {f"{name}_grad": [[no(5), no(5)]] for name in ("relu", "sigmoid", "tanh", "silu")}
EMPTY |= {name: [[no(5), 1]] for name in ("softmax", "log_softmax")}
EMPTY |= {f"{name}_grad": [[no(5), no(5), 1]] for name in ("softmax", "log_softmax")}

NO_BATCH = {name for name in reference.KERNELS if name.startswith("update_")} | {"random_bits"}
NO_ANSWER = {"batch_norm", "batch_norm_grad", "mean_over_labels"}  # the mean of nothing


def test_every_kernel_has_cases() -> None:
    assert EMPTY.keys() == reference.KERNELS.keys() - NO_BATCH - NO_ANSWER


def results(backend: Backend, name: str, arguments: Arguments, dtype: str) -> list[Any]:
    """Of a kernel, as NumPy arrays."""

    def given(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return backend.asarray(value.astype(dtype) if value.dtype.kind == "f" else value)

    found = backend.kernels[name](*map(given, arguments))
    return [backend.to_numpy(a) for a in (found if isinstance(found, tuple) else (found,))]


def check(backend: Backend, name: str) -> None:
    for arguments in EMPTY[name]:
        for dtype in ("float32", "float64"):
            expected = results(get_backend("reference"), name, arguments, dtype)
            got = results(backend, name, arguments, dtype)
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch(name: str, backend: Backend) -> None:
    check(backend, name)


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_on_a_device(name: str, device: str) -> None:
    check(get_backend(device), name)


def test_a_network_of_no_images(backend: Backend) -> None:
    """Logits of none, and gradients of 0."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 5 * 5, 10),
    ).eval()
    y = network(tn.Tensor(np.zeros((0, 12, 12, 1), np.float32)))
    assert y.shape == (0, 10)
    y.sum().backward()
    for name, parameter in network.named_parameters():
        gradient = backend.to_numpy(parameter.grad)
        np.testing.assert_array_equal(gradient, np.zeros(parameter.shape), err_msg=name)
