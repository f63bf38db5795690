"""The CPU convolutions against the reference in float64, on generated shapes and every tile."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinynn.kernels import (
    cpu_conv,
    cpu_depthwise,
    cpu_direct_conv,
    cpu_direct_weights,
    cpu_dot_conv,
    cpu_winograd,
    cpu_winograd_weights,
    reference,
)
from tinynn.kernels.cpu_direct_conv import axes_of
from tinynn.kernels.cpu_llvm import AVX2, AVX512, NEON, SSE, Tile, host_tile
from tinynn.kernels.threads import get_num_threads, set_num_threads, usable_cpus

# The host's own tile first; the others run anywhere, LLVM splits or joins their vectors.
HALVES = [tile.half() for tile in (host_tile(), AVX512, NEON)]
TILES = list(dict.fromkeys([host_tile(), AVX2, AVX512, NEON, SSE, *HALVES]))
TOLERANCE = 1e-6  # of the sum of the products' absolute values: about 8 float32 roundings


@dataclass
class Expected:
    """A result in float64, and the sum of the absolute values of its products."""

    value: np.ndarray
    magnitude: np.ndarray

    def check(self, actual: np.ndarray) -> None:
        assert actual.dtype == np.float32
        assert actual.flags.c_contiguous
        assert actual.shape == self.value.shape
        error = np.abs(actual - self.value).max(initial=0)
        assert error <= TOLERANCE * self.magnitude.max(initial=0)

    def plus(self, residual: np.ndarray) -> Expected:
        return Expected(self.value + residual, self.magnitude + np.abs(residual))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def expected(x: np.ndarray, w: np.ndarray, arguments):
    """dy, and what y and the gradients with it must be."""
    dy = random(*reference.conv2d(x, w, *arguments).shape, seed=2)

    def results(x, w, dy):
        return (
            reference.conv2d(x, w, *arguments),
            reference.conv2d_input_grad(dy, w, x.shape, *arguments),
            reference.conv2d_weight_grad(dy, x, w.shape, *arguments),
        )

    double = [a.astype(np.float64) for a in (x, w, dy)]
    values, magnitudes = results(*double), results(*map(np.abs, double))
    return dy, *map(Expected, values, magnitudes)


@pytest.fixture(autouse=True)
def poisoned_scratch(poison_scratch):
    poison_scratch(cpu_direct_conv, cpu_direct_weights, cpu_winograd, cpu_winograd_weights)


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request):
    if request.param > usable_cpus():
        pytest.skip("one core")
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


CHANNELS, SINGLE = st.integers(1, 40), st.just(1)


@st.composite
def convolutions(draw, groups=SINGLE, per_group=(CHANNELS, CHANNELS), most_taps=4):
    """x, w and the arguments of a convolution, small but of every kind. `per_group`: channels
    and filters."""
    size, groups = st.integers(1, 9), draw(groups)
    c, oc = (draw(channels) for channels in per_group)
    x_shape = (*draw(st.tuples(st.integers(1, 13), size, size)), groups * c)
    kernel = draw(st.tuples(*[st.integers(1, most_taps)] * 2))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pad = st.tuples(st.integers(0, 3), st.integers(0, 3))
    padding = draw(st.tuples(pad, pad))
    for axis in (0, 1):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        assume(x_shape[1 + axis] + sum(padding[axis]) >= span)
    x = random(*x_shape, seed=draw(st.integers(0, 9)))
    w = random(groups * oc, *kernel, c, seed=1)
    return x, w, (stride, padding, dilation, groups)


def check_with_residual(method: Any, dx: Expected, residual: np.ndarray, *arguments: Any) -> None:
    """Added to dx, and in its place the same bits."""
    result = method.conv2d_input_grad(*arguments, residual=residual)
    dx.plus(residual).check(result)
    place = residual.copy()
    assert method.conv2d_input_grad(*arguments, residual=place, out=place) is place
    np.testing.assert_array_equal(place, result)


RELAXED = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(case=convolutions())
@RELAXED
def test_direct(tile: Tile, case):
    x, w, arguments = case
    axes = axes_of(x.shape, w.shape, *arguments[:3])
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_direct_conv.conv2d(x, w, *axes, tile))
    dx.check(cpu_direct_conv.conv2d_input_grad(dy, w, *axes, tile))
    check_with_residual(cpu_direct_conv, dx, x, dy, w, *axes, tile)
    dw.check(cpu_direct_weights.conv2d_weight_grad(dy, x, *axes, tile))


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(case=convolutions(per_group=(st.sampled_from([16, 32, 48]), CHANNELS)))
@RELAXED
def test_dot_products(tile: Tile, case):
    x, w, arguments = case
    axes = axes_of(x.shape, w.shape, *arguments[:3])
    _, y, _, _ = expected(x, w, arguments)
    y.check(cpu_dot_conv.conv2d(x, w, *axes, tile))


DEPTHWISE = st.one_of(CHANNELS, st.sampled_from([31, 33, 64, 96, 144]))


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(case=convolutions(DEPTHWISE, (SINGLE, st.sampled_from([1, 1, 1, 2, 3])), most_taps=5))
@RELAXED
def test_depthwise(tile: Tile, case):
    x, w, arguments = case
    axes = axes_of(x.shape, w.shape, *arguments[:3])
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_depthwise.conv2d(x, w, *axes, tile))
    dx.check(cpu_depthwise.conv2d_input_grad(dy, w, x.shape[3], *axes, tile))
    dw.check(cpu_depthwise.conv2d_weight_grad(dy, x, *axes, tile))


@given(case=convolutions(st.integers(2, 4), (st.integers(2, 20), CHANNELS)))
@RELAXED
def test_groups(case):
    """The public functions: a kernel call for each group, or the reference for small ones."""
    x, w, arguments = case
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_conv.conv2d(x, w, *arguments))
    dx.check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments))
    dx.plus(x).check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments, x))
    dw.check(cpu_conv.conv2d_weight_grad(dy, x, w.shape, *arguments))


@pytest.mark.parametrize("layout", ["read-only", "misaligned", "strided"])
@pytest.mark.parametrize("samples", [0, 1, 40])
def test_depthwise_of_any_layout(samples, layout):
    """The public functions, on enough images for several threads and for none."""
    numbers = random(samples * 9 * 9 * 33 + 1)
    x = numbers[1:].reshape(samples, 9, 9, 33)
    if layout == "strided":
        x = x.transpose(0, 2, 1, 3)
    x.flags.writeable = layout != "read-only"
    w = random(33, 3, 3, 1, seed=1)
    arguments = ((2, 1), ((0, 1), (1, 1)), (1, 1), 33)
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_conv.conv2d(x, w, *arguments))
    dx.check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments))
    dx.plus(x).check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments, x))
    dw.check(cpu_conv.conv2d_weight_grad(dy, x, w.shape, *arguments))


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(
    samples=st.integers(1, 40),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    panels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)
@RELAXED
def test_winograd(tile: Tile, samples, size, panels, padding):
    assume(all(s + sum(p) >= 3 for s, p in zip(size, padding, strict=True)))
    x = random(samples, *size, panels[0] * tile.width)
    w = random(panels[1] * tile.width, 3, 3, x.shape[3], seed=1)
    arguments = ((1, 1), padding, (1, 1), 1)
    axes = axes_of(x.shape, w.shape, *arguments[:3])
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_winograd.conv2d(x, w, *axes, tile))
    dx.check(cpu_winograd.conv2d_input_grad(dy, w, *axes, tile))
    check_with_residual(cpu_winograd, dx, x, dy, w, *axes, tile)
    dw.check(cpu_winograd_weights.conv2d_weight_grad(dy, x, *axes, tile))


@pytest.mark.parametrize(
    ("n", "size", "c", "oc", "kernel", "stride", "padding"),
    [
        (20, 28, 1, 64, 7, 2, 3),  # ResNet's stems
        (20, 28, 1, 64, 3, 1, 1),
        (9, 28, 64, 64, 3, 1, 1),
        (20, 7, 64, 128, 1, 2, 0),  # a shortcut
        (20, 4, 128, 256, 3, 2, 1),
        (33, 1, 512, 512, 3, 1, 1),  # one tap of nine sees data
        (1, 1, 256, 512, 3, 1, 1),
        (1, 28, 3, 10, 5, 1, 2),
    ],
)
def test_choice(n, size, c, oc, kernel, stride, padding):
    """The public functions, which choose a method, on the shapes of ResNet-18."""
    x, w = random(n, size, size, c), random(oc, kernel, kernel, c, seed=1)
    arguments = ((stride, stride), ((padding, padding),) * 2, (1, 1), 1)
    dy, y, dx, dw = expected(x, w, arguments)
    y.check(cpu_conv.conv2d(x, w, *arguments))
    dx.check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments))
    dx.plus(x).check(cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments, x))
    dw.check(cpu_conv.conv2d_weight_grad(dy, x, w.shape, *arguments))


@pytest.mark.parametrize("method", ["direct", "winograd"])
def test_weight_gradient_of_a_large_batch_is_accurate(method):
    """100,352 products a number: blocks are added as wholes, so errors stay near 1e-6."""
    x, dy = random(128, 28, 28, 32), random(128, 28, 28, 32, seed=1)
    axes = axes_of(x.shape, (32, 3, 3, 32), (1, 1), ((1, 1), (1, 1)), (1, 1))
    grad = {"direct": cpu_direct_weights, "winograd": cpu_winograd_weights}[
        method
    ].conv2d_weight_grad
    dw = grad(dy, x, *axes)
    inner = dy.astype(np.float64).reshape(-1, 32).T @ x.astype(np.float64).reshape(-1, 32)
    error = np.linalg.norm(dw[:, 1, 1] - inner) / np.linalg.norm(inner)
    assert error < 2e-6


@pytest.mark.parametrize("groups", [1, 2, 64])
def test_same_bits_every_time(groups):
    x, w = random(50, 14, 14, 64), random(64, 3, 3, 64 // groups, seed=1)
    arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    dy = cpu_conv.conv2d(x, w, *arguments)
    for other in (
        lambda: cpu_conv.conv2d(x, w, *arguments),
        lambda: cpu_conv.conv2d_input_grad(dy, w, x.shape, *arguments),
        lambda: cpu_conv.conv2d_weight_grad(dy, x, w.shape, *arguments),
    ):
        first = other()
        assert all(np.array_equal(first, other()) for _ in range(3))


@pytest.mark.parametrize(("dtype", "groups"), [(np.float32, 2), (np.float64, 1), (np.float64, 2)])
def test_the_rest_is_left_to_the_reference(dtype, groups):
    x, w = random(2, 5, 5, 4).astype(dtype), random(4, 3, 3, 4 // groups).astype(dtype)
    arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    y = cpu_conv.conv2d(x, w, *arguments)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.conv2d(x, w, *arguments))


def test_writes_stay_inside():
    """Images before and after the target keep their values, also beside overhanging tiles."""
    x, w = random(7, 5, 5, 5), random(19, 3, 3, 5, seed=1)
    axes = axes_of(x.shape, w.shape, (1, 1), ((1, 1), (1, 1)), (1, 1))
    around = np.full((9, 5, 5, 19), 7, np.float32)
    cpu_direct_conv.gather_into(around[1:8], x, w, *axes, backward=False)
    assert (around[0] == 7).all()
    assert (around[8] == 7).all()
    _, y, _, _ = expected(x, w, ((1, 1), ((1, 1), (1, 1)), (1, 1), 1))
    y.check(around[1:8])


def test_depthwise_writes_stay_inside():
    x, w = random(7, 5, 5, 19), random(19, 3, 3, 1, seed=1)
    axes = axes_of(x.shape, w.shape, (1, 1), ((1, 1), (1, 1)), (1, 1))
    around = np.full((9, 5, 5, 19), 7, np.float32)
    cpu_depthwise.gather_into(around[1:8], x, w, *axes, backward=False, tile=None)
    assert (around[[0, 8]] == 7).all()
    _, y, _, _ = expected(x, w, ((1, 1), ((1, 1), (1, 1)), (1, 1), 19))
    y.check(around[1:8])


@pytest.mark.slow
def test_second_process_compiles_nothing(tmp_path: Path):
    """Compiled code is kept on disk: the second process loads it."""
    script = (
        "import numba, time; from numba.core import event; start = time.perf_counter()\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    from tinynn.kernels import cpu_conv\n"
        "    from tinynn.kernels.cpu_microkernel import microkernel; microkernel()\n"
        "print(len(recorder.buffer))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    root = Path(cpu_conv.__file__).parents[2]
    compiled = [
        int(subprocess.run([sys.executable, "-c", script], cwd=root, env=environment,
                           capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]  # fmt: skip
    assert compiled[0] > 0
    assert compiled[1] == 0
