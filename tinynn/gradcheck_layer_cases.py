"""More cases for `gradcheck`: what layers are made of, from matrix products to losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn import functional as F
from tinynn.gradcheck_cases import CASES as CASES  # all of them, here
from tinynn.gradcheck_cases import Case as Case
from tinynn.gradcheck_cases import Draw as Draw
from tinynn.gradcheck_cases import case
from tinynn.tensor import Tensor

# -- matrix products and convolution -------------------------------------------------------------


@case
def matmul(draw: Draw) -> Case:
    m, k, n = draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 3)
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((m, k), (k, n)),
        ((k,), (k,)),
        ((k,), (k, n)),
        ((m, k), (k,)),
        ((2, m, k), (k, n)),
        ((m, k), (2, k, n)),
        ((k,), (2, k, n)),
        ((2, m, k), (k,)),
        ((2, 1, m, k), (3, k, n)),
    ]
    a, b = draw.choice(shapes)
    return Case(lambda input, other: F.matmul(input, other), [draw.normal(*a), draw.normal(*b)])


@case
def linear(draw: Draw) -> Case:
    relu = draw.flag()
    while True:
        x = draw.normal(*draw.shape(1))
        w = draw.normal(draw.integer(1, 3), x.shape[-1])
        arrays = [x, w] if draw.flag() else [x, w, draw.normal(len(w))]
        y = F.linear(*arrays).numpy()
        if not relu or np.abs(y).min(initial=1) > 1e-3:  # away from the ReLU's kink
            return Case(lambda *inputs: F.linear(*inputs, relu=relu), arrays)


def convolution(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of x and w that fit, and the options: stride, padding, dilation, groups."""
    groups = draw.integer(1, 3)
    kernel, dilation = draw.pair(1, 3), draw.pair(1, 2)
    padding = draw.pair(0, 2), draw.pair(0, 2)
    h, w = (
        max(1, d * (k - 1) + 1 - sum(p)) + draw.integer(0, 3)
        for k, d, p in zip(kernel, dilation, padding)
    )
    per_group = draw.integer(1, 2)
    x_shape = (draw.integer(1, 2), h, w, groups * per_group)
    w_shape = (groups * draw.integer(1, 2), *kernel, per_group)
    options = {"stride": draw.pair(1, 3), "padding": padding, "dilation": dilation}
    return x_shape, w_shape, {**options, "groups": groups}


@case
def conv2d(draw: Draw) -> Case:
    x_shape, w_shape, options = convolution(draw)
    x, w = draw.normal(*x_shape), draw.normal(*w_shape)
    if draw.flag():
        return Case(lambda input, weight: F.conv2d(input, weight, **options), [x, w])
    b = draw.normal(len(w))
    return Case(lambda input, weight, bias: F.conv2d(input, weight, bias, **options), [x, w, b])


# -- pooling -------------------------------------------------------------------------------------


def pooling(draw: Draw, most_dilation: int = 1) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Shape of x, and the options: kernel_size, stride, padding, dilation, ceil_mode."""
    kernel, dilation = draw.pair(1, 3), draw.pair(1, most_dilation)
    padding = draw.integer(0, kernel[0] // 2), draw.integer(0, kernel[1] // 2)
    h, w = (d * (k - 1) + 1 + draw.integer(0, 4) for k, d in zip(kernel, dilation))
    options = {
        "kernel_size": kernel,
        "stride": draw.pair(1, 3),
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": draw.flag(),
    }
    return (draw.integer(1, 2), h, w, draw.integer(1, 3)), options


@case
def max_pool2d(draw: Draw) -> Case:
    shape, options = pooling(draw, most_dilation=2)
    return Case(lambda input: F.max_pool2d(input, **options), [draw.distinct(*shape)])


@case
def avg_pool2d(draw: Draw) -> Case:
    shape, options = pooling(draw)
    del options["dilation"]
    options["count_include_pad"] = draw.flag()
    options["divisor_override"] = draw.choice([None, None, 3])
    return Case(lambda input: F.avg_pool2d(input, **options), [draw.normal(*shape)])


@case
def adaptive_avg_pool2d(draw: Draw) -> Case:
    return Case(lambda input: F.adaptive_avg_pool2d(input, 1), [draw.normal(*draw.shape(4, 4))])


@case
def interpolate(draw: Draw) -> Case:
    shape = draw.integer(1, 2), *draw.pair(1, 6), draw.integer(1, 2)
    options: dict[str, Any] = {"mode": draw.choice(["nearest", "bilinear", "area"])}
    if options["mode"] == "bilinear":
        options["align_corners"] = draw.flag()
    if draw.flag():
        options["size"] = draw.choice([draw.integer(1, 7), draw.pair(1, 7)])
    else:
        options["scale_factor"] = draw.choice([1.0, 1.7, (2, 1.3)])
    return Case(lambda input: F.interpolate(input, **options), [draw.normal(*shape)])


# -- normalisation -------------------------------------------------------------------------------


@case
def batch_norm(draw: Draw) -> Case:
    c, eps, relu = draw.integer(1, 3), draw.choice([1e-5, 0.1]), draw.flag()
    shape = draw.choice([(5, c), (2, 3, 2, c)])
    training, with_residual = draw.flag(), draw.flag()
    while True:
        x, w, b = draw.columns(*shape), draw.away_from_zero(c), draw.normal(c)
        residual = draw.normal(*shape) if with_residual else np.zeros(shape)
        rows = x.reshape(-1, c)
        mean, variance = rows.mean(0), rows.var(0)
        if not training:
            mean, variance = draw.normal(c), draw.positive(c)
        z = w * (x - mean) / np.sqrt(variance + eps) + b + residual
        if np.abs(z).min() > 1e-3:  # away from the ReLU's kink
            break

    def function(input: Any, weight: Any, bias: Any, residual: Any = None) -> Tensor:
        running = Tensor(mean.copy()), Tensor(variance.copy())
        fused = {"residual": residual, "relu": relu}
        return F.batch_norm(input, *running, weight, bias, training, 0.1, eps, **fused)

    return Case(function, [x, w, b, residual] if with_residual else [x, w, b])


@case
def conv2d_batch_norm(draw: Draw) -> Case:
    eps, relu, with_residual = draw.choice([1e-5, 0.1]), draw.flag(), draw.flag()
    while True:
        x_shape, w_shape, options = convolution(draw)
        x, filters = draw.normal(*x_shape), draw.normal(*w_shape)
        z = F.conv2d(x, filters, **options).numpy()
        c = len(filters)
        w, b, mean, variance = draw.normal(c), draw.normal(c), draw.normal(c), draw.positive(c)
        residual = draw.normal(*z.shape) if with_residual else np.zeros(z.shape)
        z = w * (z - mean) / np.sqrt(variance + eps) + b + residual
        if np.abs(z).min() > 1e-3:  # away from the ReLU's kink
            break

    def function(input: Any, filters: Any, weight: Any, bias: Any, residual: Any = None) -> Tensor:
        statistics, fused = (Tensor(mean), Tensor(variance)), {"residual": residual, "relu": relu}
        geometry = tuple(options.values())
        return F.conv2d_batch_norm(input, filters, geometry, statistics, weight, bias, eps, **fused)

    return Case(function, [x, filters, w, b, *([residual] if with_residual else [])])


@case
def layer_norm(draw: Draw) -> Case:
    trailing = draw.choice([(4,), (2, 3)])
    shape = draw.shape(0, 2) + trailing
    d = int(np.prod(trailing))
    x = draw.columns(d, int(np.prod(shape)) // d).T.reshape(shape)
    if draw.flag():
        return Case(lambda input: F.layer_norm(input, trailing), [x])
    return Case(
        lambda input, weight, bias: F.layer_norm(input, trailing, weight, bias),
        [x, draw.normal(*trailing), draw.normal(*trailing)],
    )


# -- softmax and losses --------------------------------------------------------------------------


@case
def softmax(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(1))
    dim = draw.dim(x.ndim)
    return Case(lambda input: F.softmax(input, dim), [x])


@case
def log_softmax(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(1))
    dim = draw.dim(x.ndim)
    return Case(lambda input: F.log_softmax(input, dim), [x])


def _labels(draw: Draw, shape: tuple[int, ...], classes: int, ignore: int) -> np.ndarray:
    """Labels, some of them `ignore` but not the first."""
    labels = draw.rng.integers(0, classes, shape)
    ignored = np.asarray(draw.normal(*shape) > 1)
    ignored.flat[:1] = False
    return np.where(ignored, ignore, labels)


@case
def cross_entropy(draw: Draw) -> Case:
    shape, classes = draw.shape(0, 2), draw.integer(2, 4)
    options: dict[str, Any] = {
        "reduction": draw.choice(["mean", "sum", "none"]),
        "label_smoothing": draw.choice([0.0, 0.1]),
        "weight": draw.positive(classes) if draw.flag() else None,
    }
    if draw.flag():
        target = draw.rng.dirichlet(np.ones(classes), shape)
    else:
        target = _labels(draw, shape, classes, -100)
    logits = draw.normal(*shape, classes)
    return Case(lambda input: F.cross_entropy(input, target, **options), [logits])


@case
def nll_loss(draw: Draw) -> Case:
    shape, classes = draw.shape(0, 2), draw.integer(2, 4)
    target = _labels(draw, shape, classes, -1)
    weight = draw.positive(classes) if draw.flag() else None
    reduction = draw.choice(["mean", "sum", "none"])
    return Case(
        lambda input: F.nll_loss(input, target, weight, -1, reduction),
        [-draw.positive(*shape, classes)],
    )


@case
def mse_loss(draw: Draw) -> Case:
    shape, reduction = draw.shape(), draw.choice(["mean", "sum", "none"])
    return Case(
        lambda input, target: F.mse_loss(input, target, reduction),
        [draw.normal(*shape), draw.normal(*shape)],
    )


@case
def multi_margin_loss(draw: Draw) -> Case:
    n, classes, p = draw.integer(1, 3), draw.integer(2, 4), draw.integer(1, 2)
    labels = draw.rng.integers(0, classes, n)
    weight = draw.positive(classes) if draw.flag() else None
    reduction = draw.choice(["mean", "sum", "none"])
    while True:
        scores = draw.normal(n, classes)
        slack = 1 + scores - scores[np.arange(n), labels][:, None]
        if np.abs(slack).min() > 1e-3:
            break
    return Case(
        lambda input: F.multi_margin_loss(input, labels, p, 1.0, weight, reduction), [scores]
    )


@case
def ctc_loss(draw: Draw) -> Case:
    n, s, classes = draw.integer(1, 3), draw.integer(0, 3), draw.integer(2, 4)
    blank, reduction = draw.integer(0, classes - 1), draw.choice(["mean", "sum", "none"])
    steps = draw.integer(2 * s + 1, 2 * s + 3)  # enough for labels that are all equal
    targets = (blank + draw.rng.integers(1, classes, (n, s))) % classes
    lengths = draw.rng.integers(2 * s + 1, steps + 1, n), draw.rng.integers(0, s + 1, n)
    return Case(
        lambda input: F.ctc_loss(input, targets, *lengths, blank, reduction),
        [-draw.positive(steps, n, classes)],
    )


# -- recurrence ----------------------------------------------------------------------------------


def recurrent(draw: Draw, gates: int, states: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """[input, states] and [weight_ih, weight_hh, bias_ih, bias_hh], or no biases."""
    t, n, c, h = draw.integer(1, 4), draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 3)
    rows = gates * h
    weights = [draw.normal(rows, c), draw.normal(rows, h)]
    biases = [draw.normal(rows), draw.normal(rows)] if draw.flag() else []
    return [draw.normal(t, n, c), *(draw.normal(n, h) for _ in range(states))], weights + biases


@case
def rnn(draw: Draw) -> Case:
    nonlinearity = draw.choice(["tanh", "relu"])
    while True:
        arrays, weights = recurrent(draw, 1, 1)
        (x, h), (w_ih, w_hh, *biases) = arrays, weights
        y = F.rnn(x, h, *weights, nonlinearity=nonlinearity).numpy()
        a = x @ w_ih.T + np.concatenate([h[None], y[:-1]]) @ w_hh.T + np.sum(biases, axis=0)
        if nonlinearity == "tanh" or np.abs(a).min() > 1e-3:  # away from the ReLU's kink
            break
    return Case(lambda *inputs: F.rnn(*inputs, nonlinearity=nonlinearity), arrays + weights)


@case
def lstm(draw: Draw) -> Case:
    arrays, weights = recurrent(draw, 4, 2)

    def function(input: Any, h: Any, c: Any, *weights: Any) -> Tensor:
        return F.stack(F.lstm(input, (h, c), *weights))

    return Case(function, arrays + weights)


@case
def gru(draw: Draw) -> Case:
    arrays, weights = recurrent(draw, 3, 1)
    return Case(lambda *inputs: F.gru(*inputs), arrays + weights)


# -- random masks: the same mask at every call ---------------------------------------------------


@case
def dropout(draw: Draw) -> Case:
    p, seed = draw.choice([0.1, 0.5, 1.0]), draw.integer(0, 9)
    return Case(
        lambda input: F.dropout(input, p, generator=np.random.default_rng(seed)),
        [draw.normal(*draw.shape(1))],
    )


@case
def stochastic_depth(draw: Draw) -> Case:
    p, seed = draw.choice([0.1, 0.5, 1.0]), draw.integer(0, 9)
    mode = draw.choice(["row", "batch"])
    return Case(
        lambda input: F.stochastic_depth(input, p, mode, generator=np.random.default_rng(seed)),
        [draw.normal(*draw.shape(1))],
    )
