"""What holds for the kernels of every backend, the reference's own too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import a_convolution, avg_pool2d

import tinynn as tn
from tinynn.backend import Backend, get_backend
from tinynn.gradcheck_layer_cases import Draw, pooling
from tinynn.kernels import (
    reference,
)
from tinynn.kernels.geometry import conv_output_size, live_taps, tap_visits

Drawing = Callable[[st.DataObject], Draw]


def inner(a: Any, b: Any) -> float:
    """<a, b>, summed in float64."""
    a, b = (tn.current_backend().to_numpy(v).astype("float64") for v in (a, b))
    return float((a * b).sum())


def arrays_of(backend: Backend, dtype: str, *arrays: np.ndarray) -> list[Any]:
    return [backend.asarray(a.astype(dtype)) for a in arrays]


ADJOINT = {"float32": 1e-4, "float64": 1e-12}  # of |a| |b|: sums of thousands of products


def assert_adjoint(dtype: str, size: Any, *products: float) -> None:
    """The inner products agree, relative to the length of the vectors in the first."""
    for product in products[1:]:
        assert abs(product - products[0]) <= ADJOINT[dtype] * max(1.0, size)


@pytest.mark.many_numbers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
@settings(max_examples=12)
def test_the_convolution_gradients_are_its_adjoints(
    dtype: str, backend: Backend, drawing: Drawing, data: st.DataObject
) -> None:
    conv = a_convolution(drawing(data))
    x, w, dy = arrays_of(backend, dtype, conv.x, conv.w, conv.dy)
    y = backend.conv2d(x, w, *conv.geometry)
    dx = backend.conv2d_input_grad(dy, w, x.shape, *conv.geometry)
    dw = backend.conv2d_weight_grad(dy, x, w.shape, *conv.geometry)
    size = np.sqrt(inner(y, y) * inner(dy, dy))
    assert_adjoint(dtype, size, inner(y, dy), inner(x, dx), inner(w, dw))


@given(data=st.data())
@settings(max_examples=12)
def test_col2im_is_the_adjoint_of_im2col(drawing: Drawing, data: st.DataObject) -> None:
    draw = drawing(data)
    conv = a_convolution(draw)
    stride, padding, dilation, _ = conv.geometry
    columns = reference.im2col(conv.x, conv.w.shape[1:3], stride, padding, dilation)
    d = draw.normal(*columns.shape)
    back = reference.col2im(d, conv.x.shape, stride, padding, dilation)
    assert inner(columns, d) == pytest.approx(inner(conv.x, back), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
@settings(max_examples=12)
def test_the_pooling_gradients_are_its_adjoints(
    dtype: str, backend: Backend, drawing: Drawing, data: st.DataObject
) -> None:
    draw = drawing(data)
    x, *geometry = avg_pool2d(draw)
    (x,) = arrays_of(backend, dtype, x)
    y = backend.avg_pool2d(x, *geometry)
    (dy,) = arrays_of(backend, dtype, draw.normal(*y.shape))
    dx = backend.avg_pool2d_grad(dy, x.shape, *geometry)
    size = np.sqrt(inner(y, y) * inner(dy, dy))
    assert_adjoint(dtype, size, inner(y, dy), inner(x, dx))

    shape, options = pooling(draw, most_dilation=2)
    (x,) = arrays_of(backend, dtype, draw.normal(*shape))
    y, tap = backend.max_pool2d(x, *options.values())
    (dy,) = arrays_of(backend, dtype, draw.normal(*y.shape))
    dx = backend.max_pool2d_grad(dy, tap, x.shape, *options.values())
    size = np.sqrt(inner(y, y) * inner(dy, dy))
    assert_adjoint(dtype, size, inner(y, dy), inner(x, dx))


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_live_taps_are_those_that_see_the_image(
    size: int, kernel: int, stride: int, dilation: int, data: st.DataObject
) -> None:
    padding = data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6)))
    if conv_output_size(size, kernel, stride, padding, dilation) < 1:
        return
    columns = reference.im2col(
        np.ones((1, size, 1, 1)), (kernel, 1), (stride, 1), (padding, (0, 0)), (dilation, 1)
    )  # 1 where a tap sees the image
    seen = columns[0, :, 0, :, 0, 0]  # (OH, KH)
    live = live_taps(size, kernel, stride, padding, dilation)
    assert live == np.flatnonzero(seen.any(axis=0)).tolist()
    assert tap_visits(size, kernel, stride, padding, dilation) == seen.sum()


CHANNELS = (np.ones(3), np.zeros(3))
GEOMETRY = ((2, 2), (2, 2), (0, 0), (1, 1), False)
FORWARD: dict[str, tuple[tuple[int, ...], tuple[Any, ...]]] = {
    "conv2d": ((2, 4, 4, 3), (np.ones((2, 3, 3, 3)), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)),
    "matmul": ((4, 3), (np.ones((3, 2)),)),
    "mul": ((2, 4, 4, 3), (np.ones((2, 1, 1, 3)),)),
    "max_pool2d": ((2, 4, 4, 3), GEOMETRY),
    "avg_pool2d": ((2, 4, 4, 3), ((2, 2), (2, 2), (0, 0), False, True, None)),
    "batch_norm": ((4, 3), (*CHANNELS, None, True, 1e-5)),
    "batch_norm_inference": ((4, 3), (*CHANNELS, np.zeros(3), np.ones(3), None, True, 1e-5)),
    "layer_norm": ((4, 3), (*CHANNELS, 1e-5)),
    "relu": ((4, 3), ()),
    "sigmoid": ((4, 3), ()),
    "tanh": ((4, 3), ()),
    "silu": ((4, 3), ()),
    "gelu": ((4, 3), ("none",)),
    "softmax": ((4, 3), (1,)),
    "log_softmax": ((4, 3), (1,)),
    "cross_entropy": ((4, 3), (np.full((4, 3), 1 / 3),)),
}


@pytest.mark.parametrize("name", FORWARD)
def test_a_nan_is_never_hidden(name: str, backend: Backend) -> None:
    """A diverged run must look diverged: max(NaN, 0) is NaN, not 0."""
    shape, options = FORWARD[name]
    x = np.random.default_rng(0).standard_normal(shape)
    x.flat[0] = np.nan
    x, *rest = (
        backend.asarray(a.astype("float32")) if isinstance(a, np.ndarray) else a
        for a in (x, *options)
    )
    y = backend.kernels[name](x, *rest)
    assert np.isnan(backend.to_numpy(y[0] if isinstance(y, tuple) else y)).any()


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "softmax", "log_softmax", "tanh"])
def test_large_inputs_do_not_overflow(name: str, backend: Backend) -> None:
    x = backend.asarray(np.array([[-1000, 0, 1000], [1000, 1000, 1000]], "float32"))
    _, options = FORWARD[name]
    assert np.isfinite(backend.to_numpy(backend.kernels[name](x, *options))).all()


def test_batch_statistics_survive_a_large_mean(backend: Backend) -> None:
    """In float32, E[x^2] - E[x]^2 of numbers around 1000 would be noise."""
    x = 1000 + np.random.default_rng(0).standard_normal((5000, 2))
    x = x.astype("float32")
    one, zero = (backend.asarray(np.full(2, v, "float32")) for v in (1, 0))
    _, mean, var = backend.batch_norm(backend.asarray(x), one, zero, None, False, 1e-5)
    np.testing.assert_allclose(backend.to_numpy(mean), x.mean(0, dtype="float64"), rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(var), x.var(0, dtype="float64"), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "rows"), [("reference", 3), ("numpy", 3), ("numpy", 700), ("numpy", 4000)]
)
def test_a_linear_layer_s_gradients_go_where_out_says(name: str, rows: int) -> None:
    check_weight_gradients(get_backend(name), rows)


def test_a_device_s_gradients_go_where_out_says(device: str) -> None:
    check_weight_gradients(get_backend(device), 300)


def check_weight_gradients(backend: Backend, rows: int) -> None:
    rng = np.random.default_rng(0)
    shapes = (rows, 9), (rows, 9), (rows, 50), (9, 50)
    dy, y, x, w = (backend.asarray(rng.normal(size=s).astype(np.float32)) for s in shapes)
    storage = [backend.xp.full(s, np.nan, np.float32) for s in (9, (9, 50), 9)]
    expected = backend.column_sum(dy), *backend.linear_grad(dy, x, w, y, True)[1:]
    got = (
        backend.column_sum(dy, storage[0]),
        *backend.linear_grad(dy, x, w, y, True, *storage[1:])[1:],
    )
    for a, b, out in zip(got, expected, storage, strict=True):
        assert a is out
        np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


@pytest.mark.parametrize("samples", [3, pytest.param(64, marks=pytest.mark.many_numbers)])
def test_results_go_where_out_says(backend: Backend, samples: int) -> None:
    """Both ways of adding up weight gradients, into memory that holds something else."""
    rng = np.random.default_rng(0)
    for channels, filters, size in [(1, 16, 9), (32, 32, 9), (64, 64, 8), (64, 256, 1)]:
        conv = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        w_shape = (filters, 3, 3, channels)
        x, dy = (
            backend.asarray(rng.normal(size=(samples, size, size, c)).astype(np.float32))
            for c in (channels, filters)
        )
        expected = backend.conv2d_weight_grad(dy, x, w_shape, *conv, None)
        storage = backend.xp.full(expected.size + 1, np.nan, np.float32)[1:].reshape(w_shape)
        assert backend.conv2d_weight_grad(dy, x, w_shape, *conv, storage) is storage
        np.testing.assert_array_equal(backend.to_numpy(storage), backend.to_numpy(expected))
    a, b = (backend.asarray(rng.normal(size=(samples, 300)).astype(np.float32)) for _ in range(2))
    storage = backend.xp.full((300, 300), np.nan, np.float32)
    assert backend.matmul(a.T, b, storage) is storage
    np.testing.assert_array_equal(
        backend.to_numpy(storage), backend.to_numpy(backend.matmul(a.T, b))
    )
