"""The CPU's matrix products and linear layers against NumPy in float64, with every tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynn.kernels import cpu_linear, cpu_matmul
from tinynn.kernels.cpu_llvm import AVX2, AVX512, NEON, SSE, host_tile

TILES = list(dict.fromkeys([host_tile(), AVX2, AVX512, NEON, SSE, host_tile().half()]))
RELAXED = settings(max_examples=25, deadline=None, derandomize=True)
TOLERANCE = 1e-6  # of the sum of the products' absolute values: about 8 float32 roundings


@pytest.fixture(autouse=True)
def poisoned_scratch(poison_scratch):
    poison_scratch(cpu_linear, cpu_matmul)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_product(actual: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    wide = a.astype(np.float64), b.astype(np.float64)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    error = np.abs(actual - wide[0] @ wide[1]).max()
    assert error <= TOLERANCE * (np.abs(wide[0]) @ np.abs(wide[1])).max()


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(m=st.integers(1, 200), k=st.integers(1, 150), n=st.integers(1, 70))
@RELAXED
def test_products(tile, m, k, n):
    """Of matrices, transposed views, and views of every other row and column."""
    a, b = random(m, k), random(k, n, seed=1)
    spread_a, spread_b = np.zeros((2 * m, 3 * k), np.float32), np.zeros((3 * k, 2 * n), np.float32)
    spread_a[::2, ::3], spread_b[::3, ::2] = a, b
    for left in (a, np.asfortranarray(a), spread_a[::2, ::3]):
        for right in (b, np.asfortranarray(b), spread_b[::3, ::2]):
            c = np.full((m, n), np.nan, np.float32)
            cpu_matmul.multiply_into(c, left, right, tile)
            check_product(c, a, b)


@pytest.mark.parametrize(
    ("m", "k", "n", "method"),
    [
        (128, 784, 512, "tiles"),
        (1500, 2100, 33, "tiles"),  # several groups of rows, and lots of the sum
        (7, 512, 512, "dot"),
        (128, 512, 10, "dot"),
        (64, 128, 10, "BLAS"),
    ],
)
def test_methods(m, k, n, method):
    """The three products of a linear layer, new and where `out` says."""
    x, w, dy = random(m, k), random(n, k, seed=1), random(m, n, seed=2)
    assert cpu_matmul.choose(x, w.T)[0] == method
    for a, b in ((x, w.T), (dy, w), (dy.T, x)):
        out = np.full((a.shape[0], b.shape[1]), np.nan, np.float32)
        assert cpu_matmul.matmul(a, b, out) is out
        check_product(out, a, b)
        check_product(cpu_matmul.matmul(a, b), a, b)


@pytest.mark.parametrize(("samples", "rows", "columns"), [(3000, 64, 48), (1024, 130, 33)])
def test_a_weight_gradient_over_many_samples(samples, rows, columns):
    """As the linear layers of a sequence have it, at all steps at once."""
    dy, x = random(samples, rows), random(samples, columns, seed=1)
    assert cpu_matmul.choose(dy.T, x)[0] == "pixels"
    out = np.full((rows, columns), np.nan, np.float32)
    assert cpu_matmul.matmul(dy.T, x, out) is out
    check_product(out, dy.T, x)


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(m=st.integers(1, 100), k=st.integers(1, 150), n=st.integers(1, 130))
@RELAXED
def test_swapped_linear(tile, m, k, n):
    """The bias is one more feature, which is 1; a ReLU leaves what is positive."""
    x, w, bias = random(m, k), random(n, k, seed=1), random(n, seed=2)
    y = cpu_linear.multiply_swapped(x, w, bias, False, tile)
    check_product(y, np.c_[x, np.ones(m)], np.c_[w, bias].T)
    np.testing.assert_array_equal(
        cpu_linear.multiply_swapped(x, w, bias, True, tile), np.maximum(y, 0)
    )
    check_product(cpu_linear.multiply_swapped(x, w, None, False, tile), x, w.T)


@pytest.mark.parametrize(
    ("m", "k", "n", "method"),
    [
        (128, 784, 512, "swapped"),
        (97, 784, 512, "tiles"),  # panels of samples would be half empty
        (112, 3000, 512, "swapped"),  # lots of the sum
        (7, 512, 512, "dot"),
        (128, 512, 10, "swapped"),  # few numbers to copy
        (128, 1024, 10, "dot"),
        (64, 128, 10, "BLAS"),
    ],
)
def test_methods_of_linear(m, k, n, method):
    x, w, bias = random(m, k), random(n, k, seed=1), random(n, seed=2)
    assert cpu_linear.choose(m, k, n)[0] == method
    y = cpu_linear.linear(x, w, bias, False)
    check_product(y, np.c_[x, np.ones(m)], np.c_[w, bias].T)
    np.testing.assert_array_equal(cpu_linear.linear(x, w, bias, True), np.maximum(y, 0))


def test_nan_passes_through_a_linear_layer():
    """As through NumPy's maximum: a network that has diverged is to be seen."""
    x, w, bias = random(128, 784), random(512, 784, seed=1), random(512, seed=2)
    x[3], x[5, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        y = cpu_linear.linear(x, w, bias, True)
    assert np.isnan(y[3]).all()
    np.testing.assert_array_equal(y[5], np.where(w[:, 0] > 0, np.inf, 0))
