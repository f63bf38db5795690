"""Every fast kernel against the reference, in float64 on the same numbers.

A kernel that replaces a reference kernel and has no cases in `kernel_cases` fails the suite.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import CASES, DOUBLE, Arguments

from tinynn.backend import Backend, backend_names, get_backend
from tinynn.gradcheck_cases import Draw
from tinynn.kernels import (
    reference,
    reference_pool,
)

Drawing = Callable[[st.DataObject], Draw]

OTHER_NUMBERS = "random_bits"  # as random as the reference's: see tests/cuda/test_random.py


def find_drop_ins() -> Iterator[Any]:
    """(backend, kernel) for every kernel that is not the reference's own."""
    for backend in backend_names():
        marks = [pytest.mark.gpu] if backend == "cupy" else []
        try:
            kernels = get_backend(backend).kernels
        except ImportError:
            continue
        for name, function in kernels.items():
            if function is not reference.KERNELS[name] and name != OTHER_NUMBERS:
                yield pytest.param(backend, name, id=f"{backend}-{name}", marks=marks)


DROP_INS = list(find_drop_ins())


def layouts(array: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers lying differently in memory."""
    if layout == "strided":
        array = np.stack([array, array], axis=-1)[..., 0]
    elif layout == "misaligned":  # one byte off, as in a file's bytes
        moved = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        moved[...] = array
        array = moved
    array.flags.writeable = layout != "read-only"
    return array


def in_dtype(name: str, arguments: Arguments, dtype: str) -> Arguments:
    """A kernel's floating-point arrays in `dtype`; rates and step counts stay float64."""
    parameters = inspect.signature(reference.KERNELS[name]).parameters
    return [
        a.astype(dtype)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and p not in ("lr", "step")
        else a
        for p, a in zip(parameters, arguments, strict=True)
    ]


def run(
    backend: Backend, name: str, arguments: Arguments, dtype: str, layout: str = "contiguous"
) -> tuple[list[Any], list[Any]]:
    """-> a kernel's results, and its arrays after the call, as NumPy arrays (or None)."""
    given: Arguments = []
    for value in in_dtype(name, arguments, dtype):
        value = copy.deepcopy(value)
        if isinstance(value, np.ndarray):
            value = backend.asarray(layouts(value, layout))
        given.append(value)
    returned = backend.kernels[name](*given)
    results = returned if isinstance(returned, tuple) else (returned,)
    arrays = [value for value in given if hasattr(value, "dtype")]
    return [r if r is None else backend.to_numpy(r) for r in results], [
        backend.to_numpy(a) for a in arrays
    ]


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    """Integers equal; numbers within `tolerance` of the largest finite one, NaN where NaN."""
    if expected is None:
        assert got is None
        return
    assert got.shape == expected.shape
    if expected.dtype.kind != "f":
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
        return
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest)


def test_every_drop_in_has_cases() -> None:
    missing = {param.values[1] for param in DROP_INS} - CASES.keys()
    assert not missing, f"write cases in kernel_cases.py for {sorted(missing)}"


def test_every_reference_kernel_has_cases() -> None:
    """So that whoever writes a drop-in finds its cases waiting."""
    assert reference.KERNELS.keys() == CASES.keys()


COMPILED = [param for param in DROP_INS if param.values[0] != "emulated"]
MOST_EMULATED = 30_000  # elements; an emulated thread is a thousand times as slow
EMULATED = [param.values[1] for param in DROP_INS if param.values[0] == "emulated"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("backend_name", "name"), COMPILED)
@given(data=st.data())
@settings(max_examples=30)
def test_a_drop_in_computes_what_the_reference_does(
    backend_name: str, name: str, dtype: str, drawing: Drawing, data: st.DataObject
) -> None:
    draw = drawing(data)
    check_drop_in(get_backend(backend_name), name, dtype, CASES[name].make(draw), draw)


@pytest.mark.parametrize("name", EMULATED)
@given(data=st.data())
@settings(max_examples=16)
def test_a_cuda_drop_in_computes_what_the_reference_does(
    name: str, drawing: Drawing, data: st.DataObject
) -> None:
    draw = drawing(data)
    dtype = draw.choice(["float32", "float32", "float32", "float64"])
    arguments = CASES[name].make(draw)
    if sum(getattr(a, "size", 0) for a in arguments) < MOST_EMULATED:
        check_drop_in(get_backend("emulated"), name, dtype, arguments, draw)


def check_drop_in(
    backend: Backend, name: str, dtype: str, arguments: Arguments, draw: Draw
) -> None:
    """What a drop-in computes is what the reference does, and always the same bits."""
    arguments = in_dtype(name, arguments, "float32")  # numbers that both dtypes hold
    in_place = name.startswith(("update_", "add_"))
    may = ["contiguous", "strided", "misaligned"]
    layout = draw.choice(may if in_place else [*may, "read-only"])

    expected, after = run(get_backend("reference"), name, arguments, "float64")
    results, arrays = run(backend, name, arguments, dtype, layout)
    tolerance = CASES[name].tolerance * (DOUBLE if dtype == "float64" else 1)
    for got, true in zip(results, expected, strict=True):
        assert_close(got, true, tolerance)
        assert got is None or got.dtype.kind != "f" or got.dtype == dtype
    for got, true in zip(arrays, after, strict=True):  # in place, or not touched at all
        assert_close(got, true, tolerance if in_place else 0)

    again, arrays_again = run(backend, name, arguments, dtype, layout)
    for first, second in zip([*results, *arrays], [*again, *arrays_again], strict=True):
        assert first is None or first.tobytes() == second.tobytes()  # bit for bit


FAST = sorted({param.values[0] for param in DROP_INS})
ODD = [1, 3, 31, 33]  # channels: less than a vector of any machine, and one more or less than some


@pytest.mark.parametrize("channels", ODD)
@pytest.mark.parametrize("backend_name", sorted({param.values[0] for param in COMPILED}))
def test_channels_that_fill_no_vector(backend_name: str, channels: int) -> None:
    draw, c = Draw(np.random.default_rng(channels)), channels
    x, one = draw.columns(3, 7, 6, c) + 1, np.ones(c)
    average = (3, 2), (2, 2), (1, 0), False, True, None
    pooled, kept = draw.normal(*reference_pool.avg_pool2d(x, *average).shape), draw.flag()
    norm = [draw.normal(c) for _ in range(2)] + [draw.normal(*x.shape), True, 1e-5]
    statistics = [one, *(f(x, axis=(0, 1, 2)) for f in (np.mean, np.var))]
    rectified = [draw.normal(*x.shape), one, one, *statistics[1:], True, 1e-5]
    gradient = [draw.normal(*x.shape) + 1 + x, x, *rectified]
    calls = [
        ("avg_pool2d", [x, *average]),
        ("avg_pool2d_grad", [pooled, x.shape, *average]),
        ("global_avg_pool2d", [x]),
        ("batch_norm", [x, *norm]),
        ("batch_norm_inference", [x, *norm[:2], *statistics[1:], *norm[2:]]),
        ("batch_norm_grad", [*gradient, kept, None, None, False]),
        ("batch_norm_inference_grad", [*gradient, kept, None, None, False]),
    ]
    for filters, groups in [(1, 1), (3, 1), (31, 1), (33, 1), (c, c), (2 * c, c)]:
        w, dy = draw.normal(filters, 3, 3, c // groups), draw.normal(3, 7, 6, filters)
        geometry = (1, 1), ((1, 1), (1, 1)), (1, 1), groups
        calls += [
            ("conv2d", [x, w, *geometry]),
            ("conv2d_input_grad", [dy, w, x.shape, *geometry, None, False]),
            ("conv2d_weight_grad", [dy, x, w.shape, *geometry, None]),
        ]
    for name, arguments in calls:
        check_drop_in(get_backend(backend_name), name, "float32", arguments, draw)


@pytest.mark.parametrize("backend_name", FAST)
@pytest.mark.parametrize("name", ["conv2d", "batch_norm", "softmax", "silu"])
def test_integers_are_left_to_the_reference(backend_name: str, name: str) -> None:
    """A kernel of float32 would take their bytes for numbers, and read and write beyond them."""
    x, w, channel = np.arange(64).reshape(1, 4, 4, 4) % 7, np.ones((2, 3, 3, 4)), np.ones(4)
    arguments = {
        "conv2d": [x, w, (1, 1), ((0, 0), (0, 0)), (1, 1), 1],
        "batch_norm": [x, channel, channel, None, False, 1e-5],
        "softmax": [x, 3],
        "silu": [x],
    }[name]
    expected, got = (
        run(get_backend(backend), name, arguments, "float32")[0][0]
        for backend in ("reference", backend_name)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("backend_name", ["reference", *FAST])
@pytest.mark.parametrize("kernel", ["batch_norm_grad", "batch_norm_inference_grad"])
def test_batch_norm_s_gradients_go_where_out_says(backend_name: str, kernel: str) -> None:
    backend, rng = get_backend(backend_name), np.random.default_rng(0)
    dy, x = (backend.asarray(rng.normal(size=(300, 5)).astype(np.float32)) for _ in range(2))
    numbers = (backend.asarray(np.full(5, v, np.float32)) for v in (2, 0, 0, 1))
    given = dy, x, None, *numbers, False, 1e-5, False
    _, *expected, _ = backend.kernels[kernel](*given, None, None)
    storages = [backend.xp.full(5, np.nan, np.float32) for _ in range(2)]
    _, *results, _ = backend.kernels[kernel](*given, *storages)
    for result, storage, true in zip(results, storages, expected):
        assert result is storage
        np.testing.assert_array_equal(backend.to_numpy(storage), backend.to_numpy(true))
