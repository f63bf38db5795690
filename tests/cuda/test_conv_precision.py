"""Convolutions in TF32 and bf16 are as exact as their operands, and no less."""

from collections.abc import Iterator

import emulator
import numpy as np
import pytest

import tinynn as tn
from tinynn.backend import get_backend

pytestmark = pytest.mark.skipif(
    emulator.compiler() is None, reason="no C++ compiler (g++ or clang++) to emulate kernels with"
)
SAME = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
HALF = ((2, 2), ((0, 1), (1, 0)), (1, 1), 1)


@pytest.fixture(autouse=True)
def precision_comes_back() -> Iterator[None]:
    before = tn.get_float32_matmul_precision()
    yield
    tn.set_float32_matmul_precision(before)


def relative_error(got: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(got - true) / np.linalg.norm(true))


@pytest.mark.parametrize(
    ("precision", "least", "most", "size", "c", "oc", "geometry"),
    [
        ("highest", 0, 1e-6, 5, 16, 68, SAME),
        ("high", 5e-5, 1e-3, 5, 16, 68, SAME),
        ("high", 5e-5, 1e-3, 6, 4, 12, HALF),
        ("medium", 5e-4, 1e-2, 5, 16, 68, SAME),
    ],
)
def test_the_triplet_in_each_precision(
    precision: str, least: float, most: float, size: int, c: int, oc: int, geometry: tuple
) -> None:
    rng = np.random.default_rng(0)
    reference, emulated = get_backend("reference"), get_backend("emulated")
    x, w = rng.standard_normal((3, size, size, c)), rng.standard_normal((oc, 3, 3, c))
    y = reference.conv2d(x, w, *geometry)
    dy = rng.standard_normal(y.shape)
    calls = [
        ("conv2d", (x, w), ()),
        ("conv2d_input_grad", (dy, w), (x.shape,)),
        ("conv2d_weight_grad", (dy, x), (w.shape,)),
    ]
    tn.set_float32_matmul_precision(precision)
    for name, arrays, shape in calls:
        true = reference.kernels[name](*arrays, *shape, *geometry)
        given = [emulated.asarray(a.astype(np.float32)) for a in arrays]
        got = emulated.to_numpy(emulated.kernels[name](*given, *shape, *geometry))
        assert least <= relative_error(got, true) <= most, name


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="highest, high, medium, not 'tf32'"):
        tn.set_float32_matmul_precision("tf32")
