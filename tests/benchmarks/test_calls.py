"""How much work a step is, against arithmetic done by hand."""

from collections import Counter

import numpy as np
import pytest

import tinynn as tn
from benchmarks.calls import ArrayOf, Call, calls_of
from benchmarks.roofline import Roofline
from tinynn import functional as F
from tinynn import nn, optim
from tinynn.backend import Backend, get_backend

REFERENCE = get_backend("reference")


def step(backend: Backend):
    """A training step of two convolutions and a linear layer on two images of 4x4."""
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, 4, 4, 1), np.float32)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, 1, 1, generator=generator),
        nn.ReLU(),
        nn.Conv2d(2, 3, 3, 2, 1, generator=generator),
        nn.Flatten(),
        nn.Linear(12, 5, generator=generator),
    )

    def train() -> None:
        with tn.use_backend(backend):
            optimizer = optim.Adam(model.parameters(), lr=1e-3)
            F.cross_entropy(model(tn.Tensor(images)), np.array([0, 1])).backward()
            optimizer.step()

    return train


def test_multiply_adds_of_a_step() -> None:
    calls = calls_of(step, REFERENCE)
    # Along an axis of 4 pixels, padded by 1, the 3 taps see 10 pixels at stride 1 and 5 at
    # stride 2. No gradient goes to the images.
    first, second, linear = 10 * 10 * 2 * 1, 5 * 5 * 3 * 2, 12 * 5
    assert sum(c.multiply_adds for c in calls) == 2 * (2 * first + 3 * second + 3 * linear)
    kernels = Counter(c.kernel for c in calls)
    assert kernels["conv2d"] == kernels["conv2d_weight_grad"] == 2
    assert kernels["conv2d_input_grad"] == kernels["update_adam"] == 1
    assert kernels["linear"] == kernels["linear_grad"] == 1


def test_grouped_convolutions_do_the_share_of_a_group() -> None:
    x, w = np.zeros((2, 3, 3, 4), np.float32), np.zeros((8, 1, 1, 2), np.float32)

    def make(backend: Backend):
        return lambda: backend.conv2d(x, w, (1, 1), ((0, 0), (0, 0)), (1, 1), 2)

    (call,) = calls_of(make, REFERENCE)
    assert call.multiply_adds == 2 * 9 * 8 * 2


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.LSTM, 4), (nn.GRU, 3)])
def test_multiply_adds_of_a_recurrence(layer: type[nn.Module], gates: int) -> None:
    steps, n, inputs, hidden = 5, 3, 2, 7

    def make(backend: Backend):
        generator = np.random.default_rng(0)
        module = layer(inputs, hidden, generator=generator)
        x = tn.Tensor(generator.standard_normal((steps, n, inputs), np.float32))

        def train() -> None:
            with tn.use_backend(backend):
                module(x)[0].sum().backward()

        return train

    calls = calls_of(make, REFERENCE)
    name = layer.__name__.lower()
    # A step multiplies the state (N, H) by (H, gates H); going back, the gradient of the gates
    # (N, gates H) by (gates H, H).
    a_walk = steps * n * hidden * gates * hidden
    assert {c.kernel: c.multiply_adds for c in calls if c.kernel.startswith(name)} == {
        name: a_walk,
        f"{name}_grad": a_walk,
    }
    # With the gradient of the recurrent weights, and those of the inputs, once each way.
    by_inputs = steps * n * inputs * gates * hidden
    assert sum(c.multiply_adds for c in calls) == 3 * a_walk + 2 * by_inputs


def test_the_bytes_a_kernel_moves() -> None:
    x = ArrayOf((10, 100))
    relu = Call("relu", (("x", x),), (x,))
    assert relu.bytes == 2 * 4000
    rate = ArrayOf((1,), "float64")
    arrays = {"w": x, "dw": x, "mean": x, "square": x, "lr": rate, "step": rate}
    adam = Call("update_adam", tuple(arrays.items()), ())
    assert adam.bytes == 4 * 4000 + 3 * 4000 + 2 * 8  # the gradient is only read


def test_the_roofline_is_the_slower_of_work_and_memory() -> None:
    roof = Roofline(multiply_adds=1e9, copies={1 << 20: 4e9, 1 << 28: 1e9})
    assert roof.seconds(2_000_000_000, 1000) == 2
    assert roof.seconds(0, 1 << 28) == (1 << 28) / 1e9
    assert roof.seconds(0, 1000) == 1000 / 4e9  # small arrays stay in the cache
