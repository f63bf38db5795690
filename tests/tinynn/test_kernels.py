"""Every fast kernel against the reference, and the identities the reference itself must keep.

The truth is the reference in float64 on the same numbers. A kernel that replaces a reference
kernel and has no cases here fails the suite.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynn as tn
from tinynn.backend import Backend, backend_names, get_backend
from tinynn.gradcheck_cases import Draw, convolution, pooling
from tinynn.kernels import (
    reference,
    reference_ctc,
    reference_pool,
    reference_rnn,
    reference_softmax,
)
from tinynn.kernels.geometry import conv_output_size, live_taps, tap_visits

Arguments = list[Any]
Drawing = Callable[[st.DataObject], Draw]


class KernelCases(NamedTuple):
    """Draws arguments; `tolerance` is the error in float32, relative to the largest output."""

    make: Callable[[Draw], Arguments]
    tolerance: float


CASES: dict[str, KernelCases] = {}

# Tolerances, in float32 roundings of 6e-8; in float64 the same number of roundings of 1.1e-16.
COPIED = 0.0  # a choice among its inputs: not one rounding
ELEMENTWISE = 1e-6  # a handful of roundings, and exp and tanh to one or two
PRODUCT = 4e-6  # sums of up to a thousand products: about the square root of their number
RECURRENT = 1e-5  # products one after another, each step's rounding carried on by the next
NORMALISED = 2e-5  # x - mean loses digits when the mean is ten standard deviations
DOUBLE = 2e-9  # float64 unit roundoff over float32's, by which a tolerance shrinks


def cases(tolerance: float, *names: str) -> Callable[..., Any]:
    """Enter a maker of arguments for kernels of the same parameters (by default its own name)."""

    def enter(make: Callable[..., Arguments]) -> Callable[..., Arguments]:
        for name in names or (make.__name__,):
            CASES[name] = KernelCases(make, tolerance)
        return make

    return enter


# -- convolution and matrix products -------------------------------------------------------------


class Convolution(NamedTuple):
    """The arrays of a drawn convolution and its geometry: stride, padding, dilation, groups."""

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    geometry: tuple[Any, ...]


def a_convolution(draw: Draw) -> Convolution:
    x_shape, w_shape, options = convolution(draw)
    n, h, w, c = x_shape
    size = draw.choice(["tiny", "tiny", "a few slices", "pointwise", "ungrouped"])
    if size == "a few slices":  # more patches than a kernel may want to hold at once
        (n, h, w, c), w_shape = (7, 24, 24, 32), (3, 3, 3, 32 // options["groups"])
        options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
        w_shape = (3, 3, 3, 32)
    elif size == "pointwise":
        w_shape = (w_shape[0], 1, 1, w_shape[3])
        options |= {"padding": ((0, 0), (0, 0)), "stride": (1, 1)}
    elif size == "ungrouped":
        options["groups"], w_shape = 1, (*w_shape[:3], c)
    sides = zip((h, w), w_shape[1:3], options["stride"], options["padding"], options["dilation"])
    out = (conv_output_size(*side) for side in sides)
    arrays = draw.normal(n, h, w, c), draw.normal(*w_shape), draw.normal(n, *out, w_shape[0])
    return Convolution(*arrays, tuple(options.values()))


@cases(PRODUCT)
def conv2d(draw: Draw) -> Arguments:
    conv = a_convolution(draw)
    return [conv.x, conv.w, *conv.geometry]


@cases(PRODUCT)
def conv2d_input_grad(draw: Draw) -> Arguments:
    conv = a_convolution(draw)
    residual = draw.choice([None, draw.normal(*conv.x.shape)])
    return [conv.dy, conv.w, conv.x.shape, *conv.geometry, residual]


@cases(PRODUCT)
def conv2d_weight_grad(draw: Draw) -> Arguments:
    conv = a_convolution(draw)
    return [conv.dy, conv.x, conv.w.shape, *conv.geometry, None]


@cases(PRODUCT)
def matmul(draw: Draw) -> Arguments:
    m, k, n = draw.integer(1, 40), draw.integer(1, 40), draw.integer(1, 40)
    a_axes, b_axes = draw.choice([((), ()), ((3,), ()), ((2, 1), (3,))])
    return [draw.normal(*a_axes, m, k), draw.normal(*b_axes, k, n), None]


@cases(PRODUCT)
def linear(draw: Draw) -> Arguments:
    """Also as many numbers as kernels of their own are for."""
    m, i, o = draw.choice([(draw.integer(0, 40), draw.integer(1, 40), 7), (128, 90, 130)])
    bias = draw.choice([None, draw.normal(o)])
    return [draw.normal(m, i), draw.normal(o, i), bias, draw.flag()]


@cases(ELEMENTWISE)
def add(draw: Draw) -> Arguments:
    shape, other = draw.choice([((3, 5), (3, 5)), ((40, 7, 60), (40, 7, 60)), ((4, 5), (1, 5))])
    return [draw.normal(*shape), draw.normal(*other)]


def a_matrix(draw: Draw) -> np.ndarray:
    """(M, C) or (N, H, W, C), few rows or hundreds, narrow and wide."""
    rows = draw.choice([(0,), (1,), (37,), (2, 3, 3), (3, 16, 16), (5003,)])
    return draw.normal(*rows, draw.choice([1, 3, 6, 10, 31, 32, 33]))


@cases(ELEMENTWISE)
def add_bias(draw: Draw) -> Arguments:
    y = a_matrix(draw)
    return [y, draw.normal(y.shape[-1])]


@cases(PRODUCT)
def column_sum(draw: Draw) -> Arguments:
    return [a_matrix(draw) + draw.choice([1, 10]), None]  # around 0 they would cancel


@cases(PRODUCT)
def relu_bias_grad(draw: Draw) -> Arguments:
    y = a_matrix(draw)
    return [draw.normal(*y.shape) + draw.choice([1, 10]), np.maximum(y, 0), None]


# -- products element by element -----------------------------------------------------------------


@cases(ELEMENTWISE)
def mul(draw: Draw) -> Arguments:
    """Shapes that broadcast; now and then images and one number for each of their channels."""
    shape = draw.shape(2) if draw.flag() else (draw.integer(1, 3), *draw.pair(1, 9), 37)
    scale = draw.choice([shape, (shape[0], *[1] * (len(shape) - 2), shape[-1]), shape[-1:], (1,)])
    a, b = draw.normal(*shape), draw.normal(*scale)
    return [a, 0.5] if scale == (1,) else [a, b] if draw.flag() else [b, a]


@cases(ELEMENTWISE)  # in a sum of many pixels their errors cancel as they do
def mul_grad(draw: Draw) -> Arguments:
    a, b = draw.choice([mul(draw), mul(draw), [draw.normal(), draw.choice([0.5, draw.normal()])]])
    dy = draw.normal(*np.shape(a * b))
    return [dy, b, a.shape] if np.ndim(b) == 0 or draw.flag() else [dy, a, b.shape]


# -- pooling -------------------------------------------------------------------------------------


@cases(COPIED)
def max_pool2d(draw: Draw) -> Arguments:
    shape, options = pooling(draw, most_dilation=2)
    x = np.round(2 * draw.normal(*shape))  # many equal maxima: the first one counts
    kind = draw.choice(["numbers", "numbers", "some NaN", "some -inf", "all -inf"])
    special = draw.normal(*shape) > (0.5 if kind.startswith("some") else -np.inf)
    if kind != "numbers":
        x = np.where(special, np.nan if kind == "some NaN" else -np.inf, x)
    return [x, *options.values()]


@cases(ELEMENTWISE)  # windows overlap: sums of up to nine
def max_pool2d_grad(draw: Draw) -> Arguments:
    x, *geometry = max_pool2d(draw)
    _, tap = reference_pool.max_pool2d(x, *geometry)
    return [draw.normal(*tap.shape), tap, x.shape, *geometry]


@cases(ELEMENTWISE)
def avg_pool2d(draw: Draw) -> Arguments:
    shape, options = pooling(draw)
    del options["dilation"]
    return [draw.normal(*shape), *options.values(), draw.flag(), draw.choice([None, 3])]


@cases(ELEMENTWISE)
def avg_pool2d_grad(draw: Draw) -> Arguments:
    x, *geometry = avg_pool2d(draw)
    return [draw.normal(*reference_pool.avg_pool2d(x, *geometry).shape), x.shape, *geometry]


@cases(ELEMENTWISE)
def global_avg_pool2d(draw: Draw) -> Arguments:
    return [draw.normal(*draw.shape(3, 3), draw.choice([1, 3, 31, 33]))]


@cases(ELEMENTWISE)
def global_avg_pool2d_grad(draw: Draw) -> Arguments:
    (x,) = global_avg_pool2d(draw)
    return [draw.normal(len(x), 1, 1, x.shape[3]), x.shape]


# -- normalisation -------------------------------------------------------------------------------


def an_image(draw: Draw) -> np.ndarray:
    """(M, C) or (N, H, W, C), from a handful of rows to hundreds, around 1 or around 10: of a mean
    near 0 no digit would be right."""
    rows = draw.choice([(4,), (37,), (2, 3, 3), (3, 11, 10)])
    return draw.columns(*rows, draw.choice([1, 2, 3, 17])) + draw.choice([1, 10])


@cases(NORMALISED)
def batch_norm(draw: Draw) -> Arguments:
    x = an_image(draw)
    c = x.shape[-1]
    residual = draw.normal(*x.shape) if draw.flag() else None
    return [x, draw.normal(c), draw.normal(c), residual, draw.flag(), draw.choice([1e-5, 0.1])]


@cases(ELEMENTWISE)
def update_running_statistics(draw: Draw) -> Arguments:
    c = draw.choice([1, 3, 300])
    arrays = draw.normal(c), draw.positive(c), draw.normal(c), draw.positive(c)
    batches = draw.choice([None, np.array(draw.integer(0, 9))])
    return [*arrays, draw.choice([0.0, 0.1, 1.0]), draw.integer(2, 50), batches]


@cases(NORMALISED)
def batch_norm_inference(draw: Draw) -> Arguments:
    x, weight, bias, *rest = batch_norm(draw)
    statistics = x.reshape(-1, x.shape[-1]).mean(0), draw.positive(x.shape[-1])
    return [x, weight, bias, *statistics, *rest]


@cases(PRODUCT)
def conv2d_batch_norm(draw: Draw) -> Arguments:
    """Also a few pixels of many channels."""
    conv = a_convolution(draw)
    x, w, geometry = conv.x, conv.w, conv.geometry
    if draw.flag():
        x, w = draw.normal(2, 3, 3, 32), draw.normal(draw.choice([6, 8]), 3, 3, 32)
        geometry = (1, 1), ((1, 1), (1, 1)), (1, 1), 1
    y = reference.conv2d(x, w, *geometry)
    c = y.shape[-1]
    statistics = draw.normal(c), draw.positive(c)
    residual = draw.normal(*y.shape) if draw.flag() else None
    norm = draw.normal(c), draw.normal(c), *statistics, residual, draw.flag(), 1e-3
    return [x, w, *geometry, *norm]


@cases(NORMALISED, "batch_norm_grad", "batch_norm_inference_grad")
def batch_norm_gradients(draw: Draw) -> Arguments:
    """y is given, or follows from x."""
    x = an_image(draw)
    c, relu = x.shape[-1], draw.flag()
    y = np.maximum(draw.normal(*x.shape), 0) if relu and draw.flag() else None
    rows = x.reshape(-1, c)
    weight, bias, mean, var = draw.normal(c), draw.normal(c), rows.mean(0), rows.var(0)
    xhat = (x - mean) / np.sqrt(var + 1e-5)
    dy = draw.normal(*x.shape) + 1 + xhat  # or the sums of dy and dy xhat may vanish by chance
    x = np.where(np.abs(weight * xhat + bias) < 1e-3, x + 1, x)  # a ReLU is open or closed
    return [dy, x, y, weight, bias, mean, var, relu, 1e-5, draw.flag(), None, None]


@cases(NORMALISED)
def layer_norm(draw: Draw) -> Arguments:
    m, d = draw.choice([1, 3, 20, 70]), draw.choice([4, 8, 31, 33, 70])
    x = draw.columns(d, m).T + draw.choice([0, 10])
    return [x, draw.normal(d), draw.normal(d), 1e-5]


@cases(NORMALISED)
def layer_norm_grad(draw: Draw) -> Arguments:
    x, weight, _, eps = layer_norm(draw)
    mean = x.mean(axis=1, keepdims=True)
    rstd = (x.var(axis=1, keepdims=True) + eps) ** -0.5
    return [draw.normal(*x.shape), x, weight, mean, rstd]


# -- activations, softmax and its loss -----------------------------------------------------------


@cases(COPIED, "relu")
@cases(ELEMENTWISE, "sigmoid", "tanh", "silu", "erf")
def one_array(draw: Draw) -> Arguments:
    return [draw.choice([0.1, 1, 10]) * draw.normal(*draw.shape(1), draw.integer(1, 50))]


@cases(ELEMENTWISE, "relu_grad", "sigmoid_grad", "tanh_grad", "silu_grad")
def two_arrays(draw: Draw) -> Arguments:
    (dy,) = one_array(draw)
    return [dy, draw.rng.uniform(-1, 1, dy.shape)]


@cases(ELEMENTWISE)
def gelu(draw: Draw) -> Arguments:
    return [*one_array(draw), draw.choice(["none", "tanh"])]


@cases(ELEMENTWISE)
def gelu_grad(draw: Draw) -> Arguments:
    dy, x = two_arrays(draw)
    # At -.75 the derivative is a difference that vanishes. The largest dy stands where it does not,
    # so that errors are relative to dy, whatever its scale.
    dy.flat[:1], x.flat[:1] = np.abs(dy).max(initial=0), 1
    return [dy, x, draw.choice(["none", "tanh"])]


@cases(ELEMENTWISE, "softmax", "log_softmax")
def one_array_and_an_axis(draw: Draw) -> Arguments:
    (x,) = one_array(draw)
    return [x, draw.integer(0, x.ndim - 1)]


@cases(ELEMENTWISE, "softmax_grad", "log_softmax_grad")
def two_arrays_and_an_axis(draw: Draw) -> Arguments:
    x, axis = one_array_and_an_axis(draw)
    return [draw.normal(*x.shape), reference_softmax.log_softmax(x, axis), axis]


@cases(ELEMENTWISE)
def cross_entropy(draw: Draw) -> Arguments:
    m, c = draw.integer(1, 20), draw.choice([1, 3, 10, 20, 33, 100])
    target = draw.rng.dirichlet(np.ones(c), m)
    if draw.flag():
        target = np.eye(c)[draw.rng.integers(0, c, m)]
        target[:: draw.integer(1, 5)] = 0  # samples to ignore
    return [draw.choice([1, 10]) * draw.normal(m, c), target]


@cases(ELEMENTWISE)
def cross_entropy_grad(draw: Draw) -> Arguments:
    logits, target = cross_entropy(draw)
    return [draw.normal(len(logits)), logits, target]


@cases(ELEMENTWISE)
def label_cross_entropy(draw: Draw) -> Arguments:
    m, c = draw.integer(1, 20), draw.choice([1, 3, 8, 10, 31, 33, 100])
    labels = draw.rng.integers(0, c, m)
    labels[:: draw.integer(1, 5)] = -100  # samples to ignore
    return [draw.choice([1, 10]) * draw.normal(m, c), labels, -100, draw.choice([0.0, 0.1])]


@cases(ELEMENTWISE)
def label_cross_entropy_grad(draw: Draw) -> Arguments:
    logits, labels, *options = label_cross_entropy(draw)
    _, *statistics = reference_softmax.label_cross_entropy(logits, labels, *options)
    return [draw.normal(len(logits)), logits, labels, *statistics, *options]


@cases(ELEMENTWISE)
def mean_over_labels(draw: Draw) -> Arguments:
    m = draw.choice([1, 20, 700])
    labels = draw.rng.integers(0, 3, m)
    ignored = draw.choice([-100, 2, 3])
    labels[0] = 0
    return [np.where(labels == ignored, 0, draw.positive(m)), labels, ignored]


@cases(RECURRENT)
def ctc_loss(draw: Draw) -> Arguments:
    t, n, s = draw.integer(1, 12), draw.choice([1, 3, 40]), draw.integer(0, 5)
    classes = draw.choice([2, 3, 11])
    log_probs = reference_softmax.log_softmax(draw.choice([1, 5]) * draw.normal(t, n, classes), 2)
    if draw.flag():  # what never happens
        log_probs = np.where(draw.normal(*log_probs.shape) > 1, -np.inf, log_probs)
    blank = draw.integer(0, classes - 1)
    targets = (blank + draw.rng.integers(1, classes, (n, s))) % classes
    lengths = draw.rng.integers(0, t + 1, n), draw.rng.integers(0, s + 1, n)
    return [log_probs, targets, *lengths, blank]  # some labellings are too long


@cases(RECURRENT)
def ctc_loss_grad(draw: Draw) -> Arguments:
    arguments = ctc_loss(draw)
    losses, alpha = reference_ctc.ctc_loss(*arguments)
    return [draw.normal(len(losses)), *arguments, losses, alpha]


# -- recurrence ----------------------------------------------------------------------------------


def a_recurrence(draw: Draw, gates: int) -> Arguments:
    """x, h and w."""
    t, n, hidden = draw.integer(1, 5), draw.choice([1, 3, 32]), draw.choice([1, 3, 40])
    w = draw.normal(gates * hidden, hidden) / np.sqrt(hidden)
    return [draw.normal(t, n, gates * hidden), draw.normal(n, hidden), w]


@cases(RECURRENT)
def rnn(draw: Draw) -> Arguments:
    """Also as many numbers as kernels of their own are for."""
    arrays = a_recurrence(draw, 1)
    if draw.flag():
        t, n, hidden = draw.integer(1, 4), draw.choice([33, 101]), draw.choice([31, 64, 100])
        w = draw.normal(hidden, hidden) / np.sqrt(hidden)
        arrays = [draw.normal(t, n, hidden), draw.normal(n, hidden), w]
    return [*arrays, draw.choice(["tanh", "relu"])]


@cases(RECURRENT)
def rnn_grad(draw: Draw) -> Arguments:
    x, h, w, nonlinearity = rnn(draw)
    return [draw.normal(*x.shape), reference_rnn.rnn(x, h, w, nonlinearity), w, nonlinearity]


@cases(RECURRENT)
def lstm(draw: Draw) -> Arguments:
    x, h, w = a_recurrence(draw, 4)
    return [x, h, draw.normal(*h.shape), w]


@cases(RECURRENT)
def lstm_grad(draw: Draw) -> Arguments:
    x, h, c, w = lstm(draw)
    y, gates = reference_rnn.lstm(x, h, c, w)
    return [draw.normal(*y.shape), y, gates, c, w]


@cases(RECURRENT)
def gru(draw: Draw) -> Arguments:
    x, h, w = a_recurrence(draw, 3)
    return [x, h, w, draw.normal(len(w))]


@cases(RECURRENT)
def gru_grad(draw: Draw) -> Arguments:
    x, h, w, b = gru(draw)
    y, gates = reference_rnn.gru(x, h, w, b)
    return [draw.normal(*y.shape), y, gates, h, w]


# -- batches of images ----------------------------------------------------------------------------


@cases(1.01 / 255)  # a grey level, where rounding is a close call
def gather_images(draw: Draw) -> Arguments:
    n, h, w, c = draw.integer(1, 4), draw.integer(1, 9), draw.integer(1, 9), draw.integer(1, 3)
    images = draw.rng.integers(0, 256, (5, h, w, c), np.uint8)
    chosen = draw.rng.integers(0, 5, n)
    maps = draw.choice([None, draw.normal(n, 2, 3)])
    moved = None if maps is None else draw.choice([None, 3 * draw.normal(n, 2, h, w)])
    return [images, chosen, maps, moved, np.arange(256) / 255]


# -- dropout and optimisers -----------------------------------------------------------------------


@cases(COPIED)
def random_bits(draw: Draw) -> Arguments:
    shape = draw.shape(1)
    return [np.random.default_rng(draw.integer(0, 99)), shape, draw.normal(*shape)]


@cases(ELEMENTWISE)
def dropout(draw: Draw) -> Arguments:
    (x,) = one_array(draw)
    shape = draw.choice([x.shape, (len(x),) + (1,) * (x.ndim - 1)])
    bits = draw.rng.integers(0, 2**16, shape, np.uint16)
    return [x, bits, draw.choice([0.1, 0.5, 1.0])]


def weights(draw: Draw, moments: int) -> Arguments:
    """w, dw and positive moments, all of one length; then lr."""
    p = draw.choice([1, 3, 1000])
    arrays = [draw.normal(p), draw.normal(p), *(draw.positive(p) for _ in range(moments))]
    return [*arrays, np.array([draw.choice([0.1, 1e-3])])]


def a_step(draw: Draw) -> np.ndarray:
    return np.array([float(draw.choice([1, 2, 100]))])


@cases(ELEMENTWISE)
def update_sgd(draw: Draw) -> Arguments:
    w, dw, velocity, lr = weights(draw, 1)
    momentum, decay = draw.choice([0.0, 0.9]), draw.choice([0.0, 0.01])
    variant = draw.choice(["plain", "dampened", "nesterov"])
    damping = 0.5 if variant == "dampened" else 0.0
    state = velocity if momentum else None
    options = [momentum, damping, decay, variant == "nesterov"]
    return [w, dw, state, lr, a_step(draw), *options]


@cases(ELEMENTWISE)
def update_adam(draw: Draw) -> Arguments:
    betas = draw.choice([(0.9, 0.999), (0.0, 0.9)])
    return [*weights(draw, 2), a_step(draw), *betas, 1e-8, draw.choice([0.0, 0.1]), draw.flag()]


@cases(ELEMENTWISE)
def update_rmsprop(draw: Draw) -> Arguments:
    w, dw, square, mean, velocity, lr = weights(draw, 3)
    centred, momentum = draw.flag(), draw.choice([0.0, 0.9])
    square = square + 4  # larger than the squared mean, as running averages are
    state = [square, mean if centred else None, velocity if momentum else None]
    return [w, dw, *state, lr, 0.99, 1e-8, draw.choice([0.0, 0.1]), momentum]


@cases(ELEMENTWISE)
def update_adagrad(draw: Draw) -> Arguments:
    options = draw.choice([0.0, 0.1]), draw.choice([0.0, 0.1]), 1e-10
    return [*weights(draw, 1), a_step(draw), *options]


@cases(ELEMENTWISE)
def update_adadelta(draw: Draw) -> Arguments:
    return [*weights(draw, 2), 0.9, 1e-6, draw.choice([0.0, 0.1])]


@cases(ELEMENTWISE)
def update_average(draw: Draw) -> Arguments:
    shape = draw.choice([(1,), (3, 2), (1000,)])
    return [draw.normal(*shape), draw.normal(*shape), draw.choice([1.0, 0.5, 0.001])]


@cases(PRODUCT)
def interpolate(draw: Draw) -> Arguments:
    n, c = draw.integer(1, 3), draw.integer(1, 5)
    (h, w), (oh, ow) = draw.pair(1, 9), draw.pair(1, 9)
    return [draw.normal(n, h, w, c), draw.normal(oh, h), draw.normal(ow, w)]


# -- fast kernels against the reference ----------------------------------------------------------


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
    assert not missing, f"write cases in test_kernels.py for {sorted(missing)}"


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
        ("batch_norm_grad", [*gradient, kept, None, None]),
        ("batch_norm_inference_grad", [*gradient, kept, None, None]),
    ]
    for filters, groups in [(1, 1), (3, 1), (31, 1), (33, 1), (c, c), (2 * c, c)]:
        w, dy = draw.normal(filters, 3, 3, c // groups), draw.normal(3, 7, 6, filters)
        geometry = (1, 1), ((1, 1), (1, 1)), (1, 1), groups
        calls += [
            ("conv2d", [x, w, *geometry]),
            ("conv2d_input_grad", [dy, w, x.shape, *geometry, None]),
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


# -- what holds for every backend ----------------------------------------------------------------


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


@pytest.mark.parametrize(("name", "rows"), [("reference", 3), ("numpy", 3), ("numpy", 4000)])
def test_a_bias_gradient_goes_where_out_says(name: str, rows: int) -> None:
    check_bias_gradients(get_backend(name), rows)


def test_a_device_s_bias_gradient_goes_where_out_says(device: str) -> None:
    check_bias_gradients(get_backend(device), 300)


def check_bias_gradients(backend: Backend, rows: int) -> None:
    rng = np.random.default_rng(0)
    dy, y = (backend.asarray(rng.normal(size=(rows, 9)).astype(np.float32)) for _ in range(2))
    storage = list(backend.xp.full((2, 9), np.nan, np.float32))
    expected = backend.column_sum(dy), backend.relu_bias_grad(dy, y)[1]
    got = backend.column_sum(dy, storage[0]), backend.relu_bias_grad(dy, y, storage[1])[1]
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
