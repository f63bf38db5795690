"""Calls that no training step of a ResNet makes, in sizes that other networks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any

from benchmarks.calls import ArrayOf, Call, calls_of
from benchmarks.engines import step_of
from benchmarks.works import WORKS, Work
from tinynn.backend import get_backend

IMAGES = ArrayOf((128, 14, 14, 64)), ArrayOf((128, 28, 28, 32))
ROWS = ArrayOf((128, 512)), ArrayOf((4096, 256))
SCORES = ArrayOf((128, 10)), ArrayOf((4096, 256)), ArrayOf((256, 4096))
CONVOLUTIONS = {"conv2d", "conv2d_input_grad", "conv2d_weight_grad"}


def calls_to_time(works: Iterable[Work], kernels: Collection[str]) -> Counter[Call]:
    """The kernels' calls in a step of each work and how often, those of `of_other_networks`, and
    `others`."""
    found: Counter[Call] = Counter()
    for work in works:
        found.update(calls_of_step(work))
    found.update(of_other_networks(kernels))
    found.update(others())
    return Counter({call: count for call, count in found.items() if call.kernel in kernels})


def calls_of_step(work: Work) -> list[Call]:
    """What a step of the work calls."""
    return calls_of(partial(step_of, work), get_backend("numpy"))


def of_other_networks(kernels: Collection[str]) -> Iterator[Call]:
    """Depthwise convolutions of EfficientNet-B0; the fused kernel of inference."""
    if not CONVOLUTIONS.isdisjoint(kernels):
        calls = calls_of_step(WORKS["efficientnet-b0"])
        yield from (call for call in calls if call.given.get("groups", 1) > 1)
    if "conv2d_batch_norm" in kernels:
        calls = calls_of_step(WORKS["inference-batch128"])
        yield from (call for call in calls if call.kernel == "conv2d_batch_norm")


def others(weights: int = 11_172_810) -> Iterator[Call]:
    """Everything element by element, rows, windows, recurrences, labellings; optimisers on so many
    weights."""
    for x in IMAGES:
        yield from of_images(x)
    for x in (IMAGES[0], *ROWS):
        yield from of_layers(x)
    yield from of_linear(ROWS[0])
    for x in ROWS:
        yield from of_layer_norm(x)
    for x in SCORES:
        for name in ("softmax", "log_softmax"):
            yield call(name, (x,), x=x, axis=1)
            yield call(f"{name}_grad", (x,), dy=x, y=x, axis=1)
    for samples, hidden in ((32, 128), (128, 256)):
        yield from of_recurrences(28, samples, hidden)
    for steps, signs, labels in ((32, 11, 10), (128, 80, 20)):
        yield from of_labellings(steps, 64, signs, labels)
    yield from of_optimisers(ArrayOf((weights,)))


def call(kernel: str, results: tuple[ArrayOf, ...], /, **arguments: Any) -> Call:
    """A call; the arguments in the kernel's order."""
    return Call(kernel, tuple(arguments.items()), results)


def of_images(x: ArrayOf) -> Iterator[Call]:
    """Sums, products, activations, windows, and batch norm with given statistics."""
    n, h, w, c = x.shape
    yield call("add", (x,), a=x, b=x)
    channels = ArrayOf((n, 1, 1, c))  # what squeeze-and-excitation weighs an image's channels by
    for other in (x, channels):
        yield call("mul", (x,), a=x, b=other)
        yield call("mul_grad", (x,), dy=x, other=other, shape=x.shape)
    yield call("mul_grad", (channels,), dy=x, other=x, shape=channels.shape)
    for name in ("relu", "sigmoid", "tanh", "silu", "gelu"):
        second = "x" if name in ("silu", "gelu") else "y"
        more = {"approximate": "none"} if name == "gelu" else {}
        yield call(name, (x,), x=x, **more)
        yield call(f"{name}_grad", (x,), dy=x, **{second: x}, **more)
    for size, stride, padding in ((2, 2, 0), (3, 2, 1)):
        y = ArrayOf((n, *((s + 2 * padding - size) // stride + 1 for s in (h, w)), c))
        pairs = {"kernel_size": size, "stride": stride, "padding": padding}
        window: dict[str, Any] = {name: (value, value) for name, value in pairs.items()}
        window |= {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
        yield call("avg_pool2d", (y,), x=x, **window)
        yield call("avg_pool2d_grad", (x,), dy=y, x_shape=x.shape, **window)
    one = ArrayOf((c,))
    statistics = {"weight": one, "bias": one, "mean": one, "var": one}
    yield call("batch_norm_inference", (x,), x=x, **statistics, residual=x, relu=True, eps=1e-5)
    yield call("batch_norm_inference_grad", (x, one, one, x), dy=x, x=x, y=x, **statistics,
               relu=True, eps=1e-5, needs_residual=True)  # fmt: skip


def of_layers(x: ArrayOf) -> Iterator[Call]:
    """Biases and dropout."""
    one = ArrayOf(x.shape[-1:])
    yield call("add_bias", (), y=x, bias=one)
    yield call("column_sum", (one,), dy=x)
    yield call("dropout", (x,), x=x, bits=ArrayOf(x.shape, "uint16"), drop=0.5)
    if len(x.shape) == 4:  # a branch dropped for whole images
        bits = ArrayOf((x.shape[0], 1, 1, 1), "uint16")
        yield call("dropout", (x,), x=x, bits=bits, drop=0.2)


def of_linear(x: ArrayOf) -> Iterator[Call]:
    """A layer with as many outputs as inputs, and a ReLU; a product alone."""
    features = x.shape[1]
    w, one = ArrayOf((features, features)), ArrayOf((features,))
    yield call("matmul", (x,), a=x, b=w)
    yield call("linear", (x,), x=x, w=w, bias=one, relu=True)
    yield call("linear_grad", (x, w, one), dy=x, x=x, w=w, y=x, bias=True)


def of_layer_norm(x: ArrayOf) -> Iterator[Call]:
    """Layer norm of rows."""
    one, statistic = ArrayOf(x.shape[1:]), ArrayOf((x.shape[0], 1))
    yield call("layer_norm", (x, statistic, statistic), x=x, weight=one, bias=one, eps=1e-5)
    yield call("layer_norm_grad", (x, one, one), dy=x, x=x, weight=one, mean=statistic,
               rstd=statistic)  # fmt: skip


def of_recurrences(steps: int, samples: int, hidden: int) -> Iterator[Call]:
    """The simple recurrence, long short-term memory and gated recurrent units."""
    x, h, w = (ArrayOf((*axes, hidden)) for axes in ((steps, samples), (samples,), (hidden,)))
    yield call("rnn", (x,), x=x, h=h, w=w, nonlinearity="tanh")
    yield call("rnn_grad", (x, h), dy=x, y=x, w=w, nonlinearity="tanh")
    three, four = (ArrayOf((steps, samples, gates * hidden)) for gates in (3, 4))
    states, w = ArrayOf((2, steps, samples, hidden)), ArrayOf((4 * hidden, hidden))
    yield call("lstm", (states, four), x=four, h=h, c=h, w=w)
    yield call("lstm_grad", (four, h, h), dy=states, y=states, gates=four, c=h, w=w)
    w, bias = ArrayOf((3 * hidden, hidden)), ArrayOf((3 * hidden,))
    yield call("gru", (x, four), x=three, h=h, w=w, b=bias)
    yield call("gru_grad", (three, three, h), dy=x, y=x, gates=four, h=h, w=w)


def of_labellings(steps: int, samples: int, signs: int, labels: int) -> Iterator[Call]:
    """The CTC loss of texts of so many labels, sign 0 the blank."""
    x, losses = ArrayOf((steps, samples, signs)), ArrayOf((samples,))
    lengths, alpha = ArrayOf((samples,), "int64"), ArrayOf((steps, samples, 2 * labels + 1))
    given: dict[str, Any] = {"log_probs": x, "targets": ArrayOf((samples, labels), "int64")}
    given |= {"input_lengths": lengths, "target_lengths": lengths, "blank": 0}
    yield call("ctc_loss", (losses, alpha), **given)
    yield call("ctc_loss_grad", (x,), dlosses=losses, **given, losses=losses, alpha=alpha)


def of_optimisers(w: ArrayOf) -> Iterator[Call]:
    """An update of every weight, with PyTorch's defaults but for the momentum of SGD."""
    one = ArrayOf((1,), "float64")
    yield call("update_sgd", (), w=w, dw=w, velocity=w, lr=one, step=one, momentum=0.9,
               dampening=0.0, weight_decay=0.0, nesterov=False)  # fmt: skip
    yield call("update_rmsprop", (), w=w, dw=w, square=w, mean=None, velocity=None, lr=one,
               alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0)  # fmt: skip
    yield call("update_adagrad", (), w=w, dw=w, total=w, lr=one, step=one, lr_decay=0.0,
               weight_decay=0.0, eps=1e-10)  # fmt: skip
    yield call("update_adadelta", (), w=w, dw=w, square=w, delta=w, lr=one, rho=0.9, eps=1e-6,
               weight_decay=0.0)  # fmt: skip
