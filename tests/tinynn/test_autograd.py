"""What a user relies on when calling backward."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn.autograd import Function
from tinynn.backend import Backend


def leaf(*values: float) -> Any:
    """A float32 vector that requires a gradient."""
    return tn.Tensor([float(v) for v in values], requires_grad=True)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the cycle collector: memory must come back by reference counting alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# -- gradients -----------------------------------------------------------------------------------


def test_backward_gives_the_gradient_of_every_leaf(backend: Backend) -> None:
    x, w = leaf(1, 2), leaf(3, 4)
    (x * w).sum().backward()
    np.testing.assert_array_equal(backend.to_numpy(x.grad), [3, 4])
    np.testing.assert_array_equal(backend.to_numpy(w.grad), [1, 2])


def test_gradients_add_up_over_calls_of_backward() -> None:
    x = leaf(1, 2)
    for _ in range(3):
        (2 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [6, 6])
    x.grad = None
    (2 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_an_input_gets_its_gradient_although_the_weights_need_none() -> None:
    image = tn.Tensor(np.ones((1, 4, 4, 1), "float32"), requires_grad=True)
    layer = tn.nn.Conv2d(1, 2, 3).requires_grad_(False)
    layer(image).sum().backward()
    assert image.grad is not None
    assert image.grad.shape == image.shape
    assert all(p.grad is None for p in layer.parameters())


def test_a_tensor_used_twice_collects_both_gradients() -> None:
    x = leaf(3)
    y = x * x  # a diamond: x feeds both sides, y both again
    (y * 2 + y * x).sum().backward()
    np.testing.assert_allclose(x.grad, [4 * 3 + 3 * 9])  # d(2 x^2 + x^3)


def test_gradients_do_not_share_memory() -> None:
    a, b = leaf(1, 2), leaf(3, 4)
    (a + b).sum().backward()
    a.grad += 10
    np.testing.assert_array_equal(b.grad, [1, 1])


def test_a_longer_path_is_walked_before_a_shared_node() -> None:
    x = leaf(2)
    shared = x.exp()
    long = shared
    for _ in range(20):
        long = long * 1.0
    (shared + long).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.exp([2.0]), rtol=1e-6)


def test_ten_thousand_operations_need_no_recursion() -> None:
    x = leaf(1)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1])
    y = x
    for _ in range(10_000):
        y = y + 1.0
    del y  # a graph that is dropped without backward must not recurse either


def test_backward_of_a_non_scalar_needs_a_gradient() -> None:
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs an explicit gradient"):
        (x * 3).backward()
    (x * 3).backward([1, 10])
    np.testing.assert_array_equal(x.grad, [3, 30])
    (x * 3).backward(tn.Tensor([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [6, 33])


def test_the_gradient_passed_to_backward_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(2,\)"):
        (leaf(1, 2) * 3).backward([1, 2, 3])


def test_backward_of_a_leaf_is_its_own_gradient() -> None:
    x = leaf(5)
    x.backward()
    np.testing.assert_array_equal(x.grad, [1])


def test_backward_without_a_graph_says_why() -> None:
    with pytest.raises(RuntimeError, match="does not depend on anything that requires a gradient"):
        tn.Tensor([1.0]).sum().backward()


def test_a_zero_dimensional_parameter_has_an_array_for_a_gradient() -> None:
    scale = tn.nn.Parameter(np.float32(2))
    (scale * 3.0).backward()
    (scale * 3.0).backward()
    assert isinstance(scale.grad, np.ndarray)  # so that optimisers may change it in place
    assert scale.grad.shape == ()
    assert scale.grad == 6


# -- a second backward ---------------------------------------------------------------------------


def test_a_second_backward_raises() -> None:
    x = leaf(1, 2)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"walked before.*retain_graph=True"):
        loss.backward()


def test_a_second_loss_over_a_freed_part_raises() -> None:
    x = leaf(1, 2)
    features = x.exp()
    features.sum().backward()
    with pytest.raises(RuntimeError, match="Exp was walked before"):
        (features * 2).sum().backward()


def test_retain_graph_allows_another() -> None:
    x = leaf(1, 2)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(x.grad, [4, 8])


# -- intermediate tensors ------------------------------------------------------------------------


def test_retain_grad_keeps_the_gradient_of_an_intermediate_tensor() -> None:
    x = leaf(1, 2)
    hidden = (x * 2).retain_grad()
    other = x * 1
    (hidden * hidden + other).sum().backward()
    np.testing.assert_array_equal(hidden.grad, [4, 8])
    assert other.grad is None


def test_detach_stops_the_gradient() -> None:
    x = leaf(3)
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad, [3])
    assert not x.detach().requires_grad
    assert x.detach().data is x.data


def test_requires_grad_of_an_intermediate_tensor_cannot_change() -> None:
    with pytest.raises(RuntimeError, match="only a leaf"):
        (leaf(1) * 2).requires_grad_(False)


# -- memory --------------------------------------------------------------------------------------


class Watch(Function):
    """The identity, which in `backward` notes how many of the watched arrays are alive."""

    def __init__(self, watched: list[weakref.ref[Any]], alive: list[int]):
        self.watched, self.alive = watched, alive

    def forward(self, x: Any) -> Any:
        return x * 1

    def backward(self, dy: Any) -> Any:
        self.alive.append(sum(ref() is not None for ref in self.watched))
        return dy


def test_activations_are_freed_as_backward_goes(no_collector: None) -> None:
    watched: list[weakref.ref[Any]] = []
    alive: list[int] = []
    y = leaf(0.5)
    for _ in range(5):
        y = Watch(watched, alive)(y).tanh()  # tanh saves its output
        watched.append(weakref.ref(y.data))
    loss = y.sum()
    del y
    loss.backward()
    assert alive == [4, 3, 2, 1, 0]


def test_a_graph_dropped_without_backward_is_freed_at_once(no_collector: None) -> None:
    x = leaf(0.5)
    y = x.exp()
    saved = weakref.ref(y.data)
    loss = (y * y).tanh().sum()
    del y
    assert saved() is not None
    del loss
    assert saved() is None


def test_activations_nobody_saved_are_freed_at_once(no_collector: None) -> None:
    y = leaf(1, 2) + 1.0
    activation = weakref.ref(y.data)
    y = y + 1.0
    assert activation() is None
    y.sum().backward()


def test_no_grad_saves_nothing(no_collector: None) -> None:
    x = leaf(0.5)
    with tn.no_grad():
        y = x.exp()
        first = weakref.ref(y.data)
        y = y.exp()
    assert first() is None
    assert y.node is None


# -- no_grad -------------------------------------------------------------------------------------


def test_no_grad_records_nothing() -> None:
    x = leaf(1)
    with tn.no_grad():
        assert not tn.is_grad_enabled()
        y = x * 2
    assert tn.is_grad_enabled()
    assert not y.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_nests_and_enable_grad_undoes_it() -> None:
    with tn.no_grad():
        with tn.no_grad():
            assert not tn.is_grad_enabled()
        assert not tn.is_grad_enabled()
        with tn.enable_grad():
            assert tn.is_grad_enabled()
        assert not tn.is_grad_enabled()
    assert tn.is_grad_enabled()


def test_no_grad_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), tn.no_grad():
        raise KeyError
    assert tn.is_grad_enabled()


def test_no_grad_decorates_functions_that_call_themselves() -> None:
    @tn.no_grad()
    def depth(n: int) -> int:
        assert not tn.is_grad_enabled()
        return n if n == 0 else 1 + depth(n - 1)

    assert depth(3) == 3
    assert tn.is_grad_enabled()


def test_a_decorated_function_may_run_in_several_threads_at_once() -> None:
    inside = threading.Barrier(4, timeout=10)

    @tn.no_grad()
    def predict(x: tn.Tensor) -> bool:
        inside.wait()  # all four are within the function now
        requires_grad = (x * 2).requires_grad
        inside.wait()
        return requires_grad

    def work(value: float) -> tuple[bool, bool]:
        return predict(leaf(value)), tn.is_grad_enabled()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [(False, True)] * 4


def test_threads_do_not_share_no_grad() -> None:
    with tn.no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(tn.is_grad_enabled).result()
        assert not tn.is_grad_enabled()


# -- backends ------------------------------------------------------------------------------------


def test_use_backend_nests_and_ends_with_an_exception() -> None:
    outside = tn.current_backend().name
    with tn.use_backend("reference") as chosen:
        assert tn.current_backend() is chosen
        with pytest.raises(KeyError), tn.use_backend("numpy") as inner:
            raise KeyError(inner.name)
        assert tn.current_backend() is chosen
    assert tn.current_backend().name == outside == "numpy"


def test_use_backend_decorates_a_function() -> None:
    @tn.use_backend("reference")
    def name(depth: int) -> str:
        return name(depth - 1) if depth else tn.current_backend().name

    assert [name(2), tn.current_backend().name] == ["reference", "numpy"]


def test_threads_do_not_share_use_backend() -> None:
    with tn.use_backend("reference"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: tn.current_backend().name).result() == "numpy"


def test_backward_runs_on_the_backend_of_forward() -> None:
    calls = []

    def relu_grad(dy: Any, y: Any) -> Any:
        calls.append("relu_grad")
        return dy * (y > 0)

    counting = tn.get_backend("reference").override("counting", relu_grad=relu_grad)
    x = leaf(-1, 1)
    with tn.use_backend(counting):
        y = x.relu()
    y.sum().backward()
    assert calls == ["relu_grad"]
    np.testing.assert_array_equal(x.grad, [0, 1])


def test_arrays_of_another_library_are_refused() -> None:
    class Array(np.ndarray):
        """Stands for another library's array."""

    class Library:
        """Stands for that library."""

        ndarray = Array
        __name__ = "otherlib"

    x = leaf(1)
    other = Backend("other", Library(), tn.get_backend("reference").kernels)  # type: ignore[arg-type]
    with tn.use_backend(other), pytest.raises(TypeError, match=r"Neg: backend 'other' works on"):
        F.neg(x)


def test_gradients_of_joined_images_are_contiguous(backend: Backend) -> None:
    """The fast kernels take no others, and a dense network joins at every layer."""
    a, b = (tn.Tensor(np.ones((2, 3, 3, c), "float32"), requires_grad=True) for c in (2, 4))
    F.cat([a, b], 3).backward(np.ones((2, 3, 3, 6), "float32"))
    assert a.grad.flags.c_contiguous
    assert b.grad.flags.c_contiguous
