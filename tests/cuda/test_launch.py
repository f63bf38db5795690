"""Which arrays the CUDA kernels take, and which they leave to the reference."""

from typing import Any

import cupy_double
import emulator
import numpy as np
import pytest

from tinynn.backend import get_backend
from tinynn.kernels import cuda_launch

pytestmark = pytest.mark.skipif(
    emulator.compiler() is None, reason="no C++ compiler (g++ or clang++) to emulate kernels with"
)

MOST = 100
SAME, THIRD = ((1, 1), ((1, 1), (1, 1)), (1, 1)), ((3, 3), ((0, 0), (0, 0)), (1, 1))
TENS = (10, 10), (10, 10), (0, 0)
SMALL: dict[str, tuple[Any, ...]] = {  # arrays, by their shapes in lists, with a larger result
    "conv2d": ([1, 6, 6, 1], [3, 3, 3, 1], *SAME, 1),
    "conv2d of 2 groups": ([1, 6, 6, 2], [4, 1, 1, 1], *SAME, 2),
    "conv2d_input_grad": ([1, 3, 3, 1], [1, 1, 1, 3], (1, 7, 7, 3), *THIRD, 1, None),
    "conv2d_input_grad of 2 groups": ([1, 3, 3, 2], [2, 1, 1, 2], (1, 7, 7, 4), *THIRD, 2, None),
    "conv2d_weight_grad": ([1, 2, 2, 9], [1, 2, 2, 9], (9, 3, 3, 9), *SAME, 1, None),
    "conv2d_weight_grad of 3 groups": ([1, 2, 2, 9], [1, 2, 2, 9], (9, 3, 3, 3), *SAME, 3, None),
    "max_pool2d": ([1, 9, 9, 1], (2, 2), (1, 1), (1, 1), (1, 1), False),
    "max_pool2d_grad": ([1, 2, 2, 1], [1, 2, 2, 1], (1, 20, 20, 1), *TENS, (1, 1), False),
    "avg_pool2d": ([1, 9, 9, 1], (2, 2), (1, 1), (1, 1), False, True, None),
    "avg_pool2d_grad": ([1, 2, 2, 1], (1, 20, 20, 1), *TENS, False, True, None),
    "global_avg_pool2d_grad": ([1, 1, 1, 3], (1, 9, 9, 3)),
    "interpolate": ([1, 4, 4, 3], [12, 4], [4, 4]),
    "gru": ([7, 1, 12], [1, 4], [12, 4], [12]),
    "ctc_loss": ([9, 2, 3], [2, 3], [2], [2], 0),
    "gather_images": ([1, 7, 7, 1], [3], None, None, [9]),
}
INTEGERS = {"max_pool2d_grad": {1: np.uint8}, "gather_images": {0: np.uint8, 1: np.int64}}
INTEGERS["ctc_loss"] = dict.fromkeys((1, 2, 3), np.int64)


class Launched(Exception):
    """A kernel was."""


def launched(kernel: cupy_double.RawKernel, *arguments: Any, **options: Any) -> None:
    """In place of a launch."""
    raise Launched(kernel.name)


@pytest.mark.parametrize("case", SMALL)
def test_results_that_kernels_cannot_count_are_the_reference_s(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, backend, rng = case.split()[0], get_backend("emulated"), np.random.default_rng(0)
    given = []
    for i, value in enumerate(SMALL[case]):
        if isinstance(value, list):
            dtype = INTEGERS.get(name, {}).get(i, np.float32)
            value = backend.asarray(rng.uniform(-1, 1, value).astype(dtype))
        given.append(value)
    expected = get_backend("double").kernels[name](*given)
    monkeypatch.setattr(cupy_double.RawKernel, "__call__", launched)
    monkeypatch.setattr(cuda_launch, "MOST", MOST)
    results = backend.kernels[name](*given)
    for got, true in zip(*(r if isinstance(r, tuple) else (r,) for r in (results, expected))):
        np.testing.assert_array_equal(got.get(), true.get())


def test_an_array_of_the_host_is_refused() -> None:
    """CuPy would give a kernel the number of one that holds but one, in place of a pointer."""
    backend = get_backend("emulated")
    on_device = backend.asarray(np.ones(1, np.float32))
    with pytest.raises(TypeError, match=r"an array \(1,\) of the host; take it to the device"):
        backend.relu_grad(on_device, np.ones(1, np.float32))


def test_a_number_of_numpy_s_is_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in float64 does not leave the work to the reference."""
    backend = get_backend("emulated")
    average, x = (backend.asarray(np.full(3, v, np.float32)) for v in (0, 1))
    monkeypatch.setattr(cupy_double.RawKernel, "__call__", launched)
    with pytest.raises(Launched, match="update_average"):
        backend.update_average(average, x, np.float64(0.5))
