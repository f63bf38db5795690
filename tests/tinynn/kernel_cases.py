"""Arguments for every kernel, drawn at random, and how exact its results must be."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinynn.gradcheck_layer_cases import Draw, convolution, pooling
from tinynn.kernels import (
    reference,
    reference_ctc,
    reference_pool,
    reference_rnn,
    reference_softmax,
)
from tinynn.kernels.geometry import conv_output_size

Arguments = list[Any]


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
    return [conv.dy, conv.w, conv.x.shape, *conv.geometry, residual, False]


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


@cases(PRODUCT)
def linear_grad(draw: Draw) -> Arguments:
    """For all that is wanted or for some of it; also as much as kernels of their own are for."""
    sizes = (draw.integer(0, 40), draw.integer(1, 40), 7), (37, 33, 300), (128, 90, 130)
    m, i, o = draw.choice([*sizes, (1100, 10, 40)])
    x, w, y = (draw.choice([None, draw.normal(*shape)]) for shape in ((m, i), (o, i), (m, o)))
    dy = draw.normal(m, o) + draw.choice([1, 10])  # sums around 0 would cancel
    return [dy, x, w, y, draw.flag(), None, None, False]


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


# -- products element by element -----------------------------------------------------------------


@cases(ELEMENTWISE)
def mul(draw: Draw) -> Arguments:
    """Shapes that broadcast; now and then images and one number for each of their channels."""
    images = draw.integer(1, 3), *draw.pair(1, 9), 37
    shape = draw.choice([draw.shape(2), images, (40, 7, 60)])  # the last is a large one
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
    momentum = draw.choice([0.0, 0.1, 1.0] + [None] * (batches is not None))
    return [*arrays, momentum, draw.integer(2, 50), batches]


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
    norm = weight, bias, mean, var, relu, 1e-5, draw.flag()
    return [dy, x, y, *norm, None, None, False]


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
    """x, h and w; also of as many numbers as kernels of their own are for."""
    t, n, hidden = draw.integer(1, 5), draw.choice([1, 3, 32]), draw.choice([1, 3, 40])
    if draw.flag():
        n, hidden = draw.choice([33, 101]), draw.choice([31, 64, 100])
    w = draw.normal(gates * hidden, hidden) / np.sqrt(hidden)
    return [draw.normal(t, n, gates * hidden), draw.normal(n, hidden), w]


@cases(RECURRENT)
def rnn(draw: Draw) -> Arguments:
    return [*a_recurrence(draw, 1), draw.choice(["tanh", "relu"])]


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
    within = (1,) * (x.ndim - 2)
    shape = draw.choice([x.shape, (len(x), *within, 1), (len(x), *within, x.shape[-1])])
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
