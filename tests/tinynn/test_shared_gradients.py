"""A gradient is added to, or overwritten, in place only where nobody else holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn.autograd import Function
from tinynn.backend import Backend


def check_gradients(
    backend: Backend,
    shapes: Sequence[tuple[int, ...]],
    given: tuple[int, ...],
    run: Callable[..., Sequence[Any]],
) -> None:
    """`run(gradient, *leaves)`, which goes backward and names tensors: their gradients in float32
    are those in float64, where kernels write nothing in place; and the user's stays."""
    rng = np.random.default_rng(0)
    arrays, gradient = [rng.normal(size=shape) for shape in shapes], rng.normal(size=given)
    grads = []
    for dtype in ("float32", "float64"):
        leaves = [tn.Tensor(array, dtype=dtype, requires_grad=True) for array in arrays]
        mine = backend.asarray(gradient.astype(dtype))
        grads.append([backend.to_numpy(tensor.grad) for tensor in run(mine, *leaves)])
        np.testing.assert_array_equal(backend.to_numpy(mine), gradient.astype(dtype))
    for got, true in zip(*grads, strict=True):
        np.testing.assert_allclose(got, true, atol=1e-5 * np.abs(true).max())


def test_a_convolution_adds_to_the_gradient_that_a_shortcut_brings(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    image, w = rng.normal(size=(2, 5, 5, 16)), rng.normal(size=(16, 3, 3, 16))
    filters = tn.Tensor(w, dtype="float32")

    def gradient(shared: bool) -> np.ndarray:
        x = tn.Tensor(image, dtype="float32", requires_grad=True)
        a, b, c = [x * 1] * 3 if shared else [x * 1 for _ in range(3)]
        y = F.conv2d(a, filters, padding=1) + b + F.conv2d(c, filters, padding=1)
        (y * y).sum().backward(retain_graph=True)
        return backend.to_numpy(x.grad)

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("retained", [False, True])
def test_convolutions_of_one_image_add_up_their_gradients(backend: Backend, retained: bool) -> None:
    """As in a ResNet's block that halves the image: in place, where nobody else has the array."""

    def run(mine: Any, x: Any, a: Any, b: Any) -> Sequence[Any]:
        h = F.conv2d(x, a, padding=1)
        if retained:
            h.retain_grad()
        y = F.conv2d(h, b, stride=2) * F.conv2d(h, a, stride=2, padding=1)
        (y + F.conv2d(h, b, stride=2)).backward(mine)
        return x, a, b, *[h] * retained

    shapes = (2, 8, 8, 16), (16, 3, 3, 16), (16, 1, 1, 16)
    check_gradients(backend, shapes, (2, 4, 4, 16), run)


@pytest.mark.parametrize("summed", [False, True])
def test_batch_norm_leaves_a_gradient_that_others_hold(backend: Backend, summed: bool) -> None:
    """The user's own, that of a sum's other term, and one that is kept."""

    def run(mine: Any, x: Any, w: Any, leaf: Any) -> Sequence[Any]:
        other = leaf * 1  # made first, so walked last
        h = F.batch_norm(x, None, None, training=True).retain_grad()
        shortcut = F.batch_norm(h, None, None, training=True)
        y = F.batch_norm(F.conv2d(h, w, padding=1), None, None, training=True, residual=shortcut)
        (y + other if summed else y).backward(mine)
        if summed:
            np.testing.assert_array_equal(backend.to_numpy(leaf.grad), backend.to_numpy(mine))
        return x, w, h

    image = 4, 8, 8, 16
    check_gradients(backend, (image, (16, 3, 3, 16), image), image, run)


def test_a_linear_layer_leaves_a_gradient_that_others_hold(backend: Backend) -> None:
    """Large enough for a kernel of its own."""

    def run(mine: Any, x: Any, w: Any, b: Any) -> Sequence[Any]:
        h = F.linear(x, w, b, relu=True).retain_grad()
        F.linear(F.linear(h, w, b, relu=True), w, b, relu=True).backward(mine)
        return x, w, b, h

    check_gradients(backend, ((64, 128), (128, 128), (128,)), (64, 128), run)


class Half(Function):
    """y = x^2 / 2, whose derivative is x itself."""

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x * x / 2

    def backward(self, dy: Any) -> Any:
        return self.saved[0]


def test_a_gradient_that_others_hold_is_not_added_to_in_place() -> None:
    """A sum gives both its terms one array, and a function may give one that is the user's."""
    rng = np.random.default_rng(0)
    w = tn.Tensor(rng.normal(size=(16, 1, 1, 16)), dtype="float32")
    a, b = (
        tn.Tensor(rng.normal(size=(2, 8, 8, 16)), dtype="float32", requires_grad=True)
        for _ in range(2)
    )
    h = a * 1
    convolved = F.conv2d(h, w, stride=2)
    (h + b).sum().backward(retain_graph=True)
    alone = b.grad.copy()
    b.grad = None
    ((h + b).sum() + convolved.sum()).backward()
    np.testing.assert_array_equal(b.grad, alone)

    h = a * 1
    before = h.data.copy()
    convolved = F.conv2d(h, w, stride=2)
    (Half()(h).sum() + convolved.sum()).backward()
    np.testing.assert_array_equal(h.data, before)
