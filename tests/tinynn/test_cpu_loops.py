"""Loops compiled from formulas: every width, whole blocks of rows and parts, several threads."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn.kernels import (
    cpu_activation,
    cpu_arithmetic,
    cpu_bias,
    cpu_layer_norm,
    cpu_loops,
    cpu_norm,
    cpu_optim,
    cpu_pool,
    cpu_softmax,
    reference,
    reference_norm,
    reference_pool,
)
from tinynn.kernels.threads import usable_cpus

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(autouse=True)
def poisoned_scratch(poison_scratch: Any) -> None:
    poison_scratch(cpu_norm)


@pytest.fixture(params=range(1, min(2, usable_cpus()) + 1))
def threads(request: Any) -> Iterator[int]:
    before = tn.get_num_threads()
    tn.set_num_threads(request.param)
    yield request.param
    tn.set_num_threads(before)


@pytest.mark.parametrize(
    "shape",
    [*((65, c) for c in (1, 2, 3, 7, 8, 15, 33, 64, 77)), (4, 8, 8, 16), (128, 512), (9000, 48)],
    ids=str,
)
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_of_every_shape(shape: tuple[int, ...], relu: bool, threads: int) -> None:
    """Narrow and wide rows, a last block of one row, enough for two threads."""
    c = shape[-1]
    x, dy, residual, weight, bias = (numbers(*s) for s in (shape, shape, shape, (c,), (c,)))
    y, mean, var = cpu_norm.batch_norm(x, weight, bias, residual, relu, 1e-5)
    wide = [a.astype(np.float64) for a in (x, weight, bias, residual)]
    for got, expected in zip(
        (y, mean, var), reference_norm.batch_norm(*wide, relu, 1e-5), strict=True
    ):
        size = max(1, np.abs(expected).max())  # x has a deviation of 1: its mean may be near 0
        np.testing.assert_allclose(got, expected, atol=2e-6 * size, rtol=0)

    arrays = [dy, x, y, weight, bias, mean, var]
    wide = [a.astype(np.float64) for a in arrays]
    results = cpu_norm.batch_norm_grad(*arrays, relu, 1e-5, True)
    truth = reference_norm.batch_norm_grad(*wide, relu, 1e-5, True)
    # Sums over rows may cancel: their error is bounded by the size of what is summed.
    summed = np.abs(dy).reshape(-1, c).sum(axis=0).max()
    sizes = [np.abs(truth[0]).max(), 2 * summed, summed, np.abs(dy).max()]
    for got, expected, size in zip(results, truth, sizes, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6 * size, rtol=0)


@pytest.mark.parametrize("needs_residual", [False, True])
@pytest.mark.parametrize(("relu", "given"), [(False, False), (True, False), (True, True)])
def test_batch_norm_s_gradient_in_place_of_dy(
    relu: bool, given: bool, needs_residual: bool, threads: int
) -> None:
    """The same bits, one new array less."""
    dy, x = numbers(9000, 48), numbers(9000, 48)
    y = numbers(9000, 48) if given else None
    weight, bias, mean, var = numbers(48), numbers(48), x.mean(0), x.var(0)
    arguments = x, y, weight, bias, mean, var, relu, 1e-5, needs_residual, None, None
    for kernel in cpu_norm.batch_norm_grad, cpu_norm.batch_norm_inference_grad:
        expected, place = kernel(dy, *arguments), dy.copy()
        results = kernel(place, *arguments, True)
        assert sum(result is place for result in results) == 1
        assert results[0] is not results[3]
        for got, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(got, right)


def test_variance_beside_an_outlier_in_the_first_row() -> None:
    """The first row of a block is what its numbers are measured from: it may be far off."""
    x = np.full((20_000, 3), 1.0, np.float32) + 1e-3 * numbers(20_000, 3)
    x[0] = 1000
    _, mean, var = cpu_norm.batch_norm(x, numbers(3), numbers(3), None, False, 1e-5)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var, wide.var(axis=0), rtol=1e-5)


WINDOWS: dict[str, Any] = {
    "overlapping": ((3, 3), (2, 2), (1, 1), (1, 1), False),
    "side by side": ((2, 2), (2, 2), (0, 0), (1, 1), False),
    "with gaps": ((1, 2), (2, 3), (0, 1), (1, 1), False),
}


@pytest.mark.parametrize("geometry", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 5, 6, 8, 13, 31, 32, 33, 72])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_max_pooling_of_every_width(n: int, channels: int, geometry: Any, threads: int) -> None:
    x = np.round(2 * numbers(n, 14, 13, channels))
    y, tap = cpu_pool.max_pool2d(x, *geometry)
    expected, expected_tap = reference_pool.max_pool2d(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(tap, expected_tap)
    dy = numbers(*y.shape)
    dx = cpu_pool.max_pool2d_grad(dy, tap, x.shape, *geometry)
    expected = reference_pool.max_pool2d_grad(dy, tap, x.shape, *geometry)
    np.testing.assert_allclose(dx, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 3, 5), (1, 1, 1, 3), (7, 5, 6, 33), (64, 24, 24, 96)])
def test_the_mean_of_whole_images(shape: tuple[int, ...], threads: int) -> None:
    x = numbers(*shape)
    y = cpu_pool.global_avg_pool2d(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, reference_pool.global_avg_pool2d(wide), atol=1e-6)
    dx = cpu_pool.global_avg_pool2d_grad(y, shape)
    np.testing.assert_allclose(dx, reference_pool.global_avg_pool2d_grad(y, shape), rtol=2e-7)
    assert dx.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 2, 6, 10, 31, 32, 33, 200])
@pytest.mark.parametrize("rows", [0, 1, 512, 513, 6000])
def test_a_bias_of_every_width(rows: int, channels: int, threads: int) -> None:
    """Also where the arrays do not begin on a whole vector."""
    y = numbers(rows * channels + 1)[1:].reshape(rows, channels)
    bias = numbers(channels + 1)[1:]
    total = cpu_bias.column_sum(y)
    expected = y.sum(axis=0, dtype=np.float64)
    summed = np.abs(y).sum(axis=0).max(initial=0)
    np.testing.assert_allclose(total, expected, atol=1e-6 * summed, rtol=0)
    expected = y + bias
    cpu_bias.add_bias(y, bias)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", ["column_sum", "layer_norm_grad"])
def test_sums_are_the_same_with_any_number_of_threads(name: str) -> None:
    x, weight, mean = numbers(20_000, 33), numbers(33), numbers(20_000, 1)
    before, results = tn.get_num_threads(), []
    for count in range(1, usable_cpus() + 1):
        tn.set_num_threads(count)
        if name == "column_sum":
            results.append(cpu_bias.column_sum(x).tobytes())
        else:
            gradients = cpu_layer_norm.layer_norm_grad(x, x, weight, mean, mean)
            results.append(b"".join(g.tobytes() for g in gradients))
    tn.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 8), (128, 10), (70, 33), (500, 1001)])
def test_rows_of_every_width(shape: tuple[int, int], threads: int) -> None:
    """Whole vectors, several at a time, and what is left over; enough for two threads."""
    x, dy = numbers(*shape), numbers(*shape)
    wide, wide_dy = x.astype(np.float64), dy.astype(np.float64)
    for name in ("softmax", "log_softmax"):
        expected = reference.KERNELS[name](wide, 1)
        y = getattr(cpu_softmax, name)(x, 1)
        np.testing.assert_allclose(y, expected, atol=2e-6, rtol=1e-6)
        dx = getattr(cpu_softmax, f"{name}_grad")(dy, y, 1)
        expected = reference.KERNELS[f"{name}_grad"](wide_dy, expected, 1)
        np.testing.assert_allclose(dx, expected, atol=1e-5, rtol=1e-6)
    weight, bias = numbers(shape[1]), numbers(shape[1])
    results = cpu_layer_norm.layer_norm(x, weight, bias, 0.1)
    expected = reference_norm.layer_norm(wide, weight, bias, 0.1)
    for got, true in zip(results, expected, strict=True):
        np.testing.assert_allclose(got, true, atol=5e-6)


def test_softmax_of_impossible_classes() -> None:
    """exp(-inf) is 0, not the smallest float; a row without a possible class has no softmax."""
    x = np.full((3, 11), -np.inf, np.float32)
    x[0, 3], x[1, 10], x[1, 0] = 0, 5, 5
    with np.errstate(invalid="ignore"):
        for name in ("softmax", "log_softmax"):
            expected = reference.KERNELS[name](x, 1)
            np.testing.assert_allclose(getattr(cpu_softmax, name)(x, 1), expected, rtol=1e-6)
    losses, *_ = cpu_softmax.label_cross_entropy(x[:2], np.array([3, 1]), -100, 0.0)
    assert losses.tolist() == [0, np.inf]


def test_an_ignored_sample_hides_its_nan() -> None:
    x = np.full((2, 10), np.nan, np.float32)
    x[1] = 0
    labels = np.array([-100, 3])
    losses, *statistics = cpu_softmax.label_cross_entropy(x, labels, -100, 0.1)
    np.testing.assert_allclose(losses, [0, math.log(10)], rtol=1e-6)
    dlosses = np.ones(2, np.float32)
    dx = cpu_softmax.label_cross_entropy_grad(dlosses, x, labels, *statistics, -100, 0.1)
    assert (dx[0] == 0).all()
    np.testing.assert_allclose(dx[1], 0.9 * (0.1 - np.eye(10)[3]), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 1, 1, 5), (0, 4, 4, 8), (70, 16, 16, 33)], ids=str)
def test_one_number_for_each_images_channel(shape: tuple[int, ...], threads: int) -> None:
    """No pixels to sum over, no images, enough for two threads."""
    n, _, _, c = shape
    x, scale, dy = numbers(*shape), numbers(n, 1, 1, c), numbers(*shape)
    for y in (cpu_arithmetic.mul(x, scale), cpu_arithmetic.mul(scale, x)):
        np.testing.assert_array_equal(y, x * scale)
    np.testing.assert_array_equal(cpu_arithmetic.mul_grad(dy, scale, x.shape), dy * scale)
    total = (dy.astype(np.float64) * x).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(cpu_arithmetic.mul_grad(dy, x, scale.shape), total, atol=1e-4)


@pytest.mark.parametrize("size", [0, 1, 9, 63, 1000, 500_001])
def test_flat_arrays_of_every_size(size: int, threads: int) -> None:
    x = numbers(size)
    np.testing.assert_array_equal(cpu_activation.relu(x), np.maximum(x, 0))
    w, dw = numbers(size), numbers(size)
    expected = w - np.float32(0.1) * dw
    cpu_optim.update_sgd(w, dw, None, np.array([0.1]), np.array([1.0]), 0, 0, 0, False)
    np.testing.assert_allclose(w, expected, atol=1e-6)


def test_the_exponential_from_one_to_the_last_float() -> None:
    """sigmoid(x) = exp(x) to float32 for x < -17; and -87 is where float32 ends."""
    x = np.linspace(-86, -17, 10_001).astype(np.float32)
    expected = [math.exp(v) / (1 + math.exp(v)) for v in x.tolist()]
    np.testing.assert_allclose(cpu_activation.sigmoid(x), expected, rtol=3e-7)
    x = np.geomspace(1e-30, 1, 10_001).astype(np.float32)
    np.testing.assert_allclose(cpu_activation.tanh(x), np.tanh(x.astype(np.float64)), rtol=5e-7)


@pytest.mark.parametrize("function", ["relu", "sigmoid", "tanh", "silu"])
def test_activations_keep_nan_and_the_limits(function: str) -> None:
    x = np.array([math.nan, math.inf, -math.inf, 0.0, -0.0], np.float32)
    with np.errstate(invalid="ignore"):
        expected = reference.KERNELS[function](x)
    got = getattr(cpu_activation, function)(x)
    if function == "silu":  # -inf times 0
        x, got, expected = (np.delete(a, 2) for a in (x, got, expected))
    np.testing.assert_allclose(got, expected, atol=1e-30)


def test_gelu_near_and_far() -> None:
    x = np.linspace(-12, 12, 20_001).astype(np.float32)
    phi = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()])
    np.testing.assert_allclose(cpu_activation.gelu(x, "none"), x * phi, rtol=6e-6)
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    slope = cpu_activation.gelu_grad(np.ones_like(x), x, "none")
    np.testing.assert_allclose(slope, phi + x * density, atol=1e-6)


def test_formulas_of_a_file_have_names_of_their_own() -> None:
    for loops in cpu_loops.Loop.loops.values():
        names = [loop.name for loop in loops]
        assert len(names) == len(set(names))
