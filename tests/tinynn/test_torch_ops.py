"""Every public function of tinynn.functional against PyTorch: the value and all gradients.

A case is the same expression written twice. Arrays are ours (NHWC); the PyTorch side permutes
inside its expression, so that its gradients arrive in our layout. The cotangent is random.
"""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")
TF = torch.nn.functional

pytestmark = pytest.mark.torch

# Relative error of the whole array in the 2-norm. Sums of up to a few hundred products in another
# order: some tens of roundings of 6e-8 (float32) and 1e-16 (float64).
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

EXCEPTIONS = {
    "argmax": "whole numbers without a gradient: test_argmax_is_pytorchs",
    "dropout": "draws random numbers: test_random.py",
    "stochastic_depth": "draws random numbers, and is torchvision's: test_random.py",
}

rng = np.random.default_rng(2024)


class Case(NamedTuple):
    """One expression, ours and PyTorch's, and the arrays it is differentiated by."""

    name: str  # of the public function
    label: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]


CASES: list[Case] = []

shape: Any  # the loops below draw these from many types
sizes: Any
dims: Any
options: Any
kernel: Any


def case(name: str, label: Any, ours: Any, theirs: Any, *arrays: np.ndarray) -> None:
    """Enter a case into the table."""
    CASES.append(Case(name, str(label), ours, theirs, arrays))


def normal(*shape: int) -> np.ndarray:
    """Numbers around 0."""
    return rng.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    """Numbers from 0.3 to 3."""
    return rng.uniform(0.3, 3, size=shape)


def ties(*shape: int) -> np.ndarray:
    """Small whole numbers: many are equal, many are 0."""
    return rng.integers(-2, 3, size=shape).astype(float)


def huge(*shape: int) -> np.ndarray:
    """Logits of +-1e4, where a naive exponential overflows."""
    return rng.choice([-1e4, 1e4], size=shape) + rng.normal(size=shape)


def some(count: int, *choices: Any) -> Iterator[tuple[Any, ...]]:
    """`count` of all combinations of the choices, the same ones in every run."""
    product = list(itertools.product(*choices))
    yield from random.Random(0).sample(product, min(count, len(product)))


def nchw(t: Any) -> Any:
    """(N, H, W, C) -> (N, C, H, W); also (OC, KH, KW, C) -> (OC, C, KH, KW)."""
    return t.permute(0, 3, 1, 2)


def nhwc(t: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C)."""
    return t.permute(0, 2, 3, 1)


def assert_close(what: str, ours: Any, theirs: Any, tolerance: float) -> None:
    """Same shape, and a relative error within the tolerance."""
    actual, expected = tn.current_backend().to_numpy(ours), theirs.detach().numpy()
    assert actual.shape == expected.shape, what
    error = np.linalg.norm((actual.astype(float) - expected).ravel())
    size = np.linalg.norm(expected.astype(float).ravel()) or 1.0
    assert error <= tolerance * size, f"{what}: relative error {error / size:.2e}"


def check(ours: Any, theirs: Any, arrays: tuple[np.ndarray, ...], dtype: str) -> None:
    """Compare the value of two expressions, and their gradients by every array."""
    tolerance = TOLERANCE[dtype]
    mine = [tn.Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    yours = [torch.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*yours)
    assert str(y.dtype) == str(expected.dtype).removeprefix("torch.")
    assert_close("value", y.data, expected, tolerance)
    dy = np.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)
    y.backward(dy)
    expected.backward(torch.tensor(dy))
    for i, (a, b) in enumerate(zip(mine, yours)):
        assert a.grad is not None, f"input {i} has no gradient"
        assert a.grad.dtype == dtype
        assert_close(f"gradient of input {i}", a.grad, b.grad, tolerance)


# -- elementwise ------------------------------------------------------------------------------

case("abs", "with zeros", F.abs, torch.abs, ties(3, 5))
case("neg", "", F.neg, torch.neg, normal(3, 5))
case("exp", "", F.exp, torch.exp, normal(3, 5))
case("log", "", F.log, torch.log, positive(3, 5))
case("sqrt", "", F.sqrt, torch.sqrt, positive(3, 5))

for label, data in {"normal": 3 * normal(4, 6), "ties": ties(4, 6), "huge": huge(4, 6)}.items():
    case("relu", label, F.relu, TF.relu, data)
    case("sigmoid", label, F.sigmoid, torch.sigmoid, data)
    case("tanh", label, F.tanh, torch.tanh, data)
    case("silu", label, F.silu, TF.silu, data)
    for kind in ("none", "tanh"):
        case(
            "gelu",
            f"{label} {kind}",
            lambda x, kind=kind: F.gelu(x, approximate=kind),
            lambda x, kind=kind: TF.gelu(x, approximate=kind),
            data,
        )

for limits in ({"min": -1.0}, {"max": 1.0}, {"min": -1, "max": 1}, {"min": 0.5, "max": -0.5}):
    case(
        "clip",
        limits,
        lambda x, limits=limits: F.clip(x, **limits),
        lambda x, limits=limits: torch.clamp(x, **limits),
        ties(4, 5),  # some on the limits
    )
case("clamp", "", lambda x: F.clamp(x, -1, 1), lambda x: torch.clamp(x, -1, 1), normal(4, 5))

case("astype", "float64", lambda x: F.astype(x, "float64"), lambda x: x.double(), normal(3, 2))

BROADCAST = [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3)), ((2, 1, 3), (1, 4, 1)), ((0, 3), (3,))]

for shape_a, shape_b in BROADCAST:
    for name, symbol in {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv"}.items():
        two = (normal(*shape_a), positive(*shape_b))
        case(name, f"{shape_a} {shape_b}", getattr(F, name), getattr(operator, symbol), *two)
    case("pow", f"{shape_a} {shape_b}", F.pow, torch.pow, positive(*shape_a), normal(*shape_b))

for name, symbol in {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv"}.items():
    mine, theirs = getattr(F, name), getattr(operator, symbol)
    case(name, "x, 3", lambda x, f=mine: f(x, 3), lambda x, f=theirs: f(x, 3), positive(4))
    case(name, "2.5, x", lambda x, f=mine: f(2.5, x), lambda x, f=theirs: f(2.5, x), positive(4))
case("div", "small divisor", F.div, torch.div, 1e-25 * positive(4), 1e-25 * positive(4))

for exponent in (-1, 0, 0.5, 1, 2, 3.0):
    data = ties(3, 4) if exponent in (0, 1, 2, 3) else positive(3, 4)
    case(
        "pow",
        f"x ** {exponent}",
        lambda x, e=exponent: F.pow(x, e),
        lambda x, e=exponent: torch.pow(x, e),
        data,
    )
for base in (0.0, 0.5, 2):
    case(
        "pow",
        f"{base} ** x",
        lambda x, b=base: F.pow(b, x),
        lambda x, b=base: torch.pow(b, x),
        positive(3, 4),
    )

CONDITION = rng.random((3, 4)) < 0.5
for shape_a, shape_b in (((3, 4), (3, 4)), ((4,), (3, 1)), ((), (2, 3, 4)), ((3, 1), ())):
    case(
        "where",
        f"{shape_a} {shape_b}",
        lambda a, b: F.where(CONDITION, a, b),
        lambda a, b: torch.where(torch.tensor(CONDITION), a, b),
        normal(*shape_a),
        normal(*shape_b),
    )
case("where", "number", lambda a: F.where(tn.Tensor(CONDITION), a, 0.5),
     lambda a: torch.where(torch.tensor(CONDITION), a, 0.5), normal(3, 4))  # fmt: skip
case("where", "number first", lambda a: F.where(CONDITION, 2, a),
     lambda a: torch.where(torch.tensor(CONDITION), 2, a), normal(3, 4))  # fmt: skip


# -- matrix products and convolution ----------------------------------------------------------

for shape_a, shape_b in (
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((4, 1, 2, 3), (5, 3, 2)),
):
    two = (normal(*shape_a), normal(*shape_b))
    case("matmul", f"{shape_a} {shape_b}", F.matmul, torch.matmul, *two)

for shape in ((4,), (3, 4), (2, 3, 4), (0, 4)):
    case("linear", shape, F.linear, TF.linear, normal(*shape), normal(5, 4), normal(5))
    case("linear", f"{shape} no bias", F.linear, TF.linear, normal(*shape), normal(5, 4))

for shape, bias in (((3, 4), True), ((130, 96), True), ((130, 96), False)):
    arrays = [normal(*shape), normal(300, shape[1]), normal(300)][: 3 if bias else 2]
    ours, theirs = partial(F.linear, relu=True), lambda *given: TF.linear(*given).relu()
    case("linear", f"{shape} ReLU {bias=}", ours, theirs, *arrays)


def conv_case(kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int, bias: bool):
    """One convolution of 4 channels into 8."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if padding == "same" and stride != 1:
        return
    arrays = [normal(2, 9, 8, 4), normal(8, *kernel, 4 // groups)]
    case(
        "conv2d",
        f"{kernel} {options} {bias}",
        lambda x, w, *b: F.conv2d(x, w, *b, **options),
        lambda x, w, *b: nhwc(TF.conv2d(nchw(x), nchw(w), *b, **options)),
        *arrays,
        *([normal(8)] if bias else []),
    )


for combination in some(
    60,
    [(1, 1), (3, 3), (2, 3)],
    [1, 2, (2, 1), (1, 3)],
    [0, 1, (2, 0), "same", "valid"],
    [1, 2, (1, 2)],
    [1, 2, 4],
    [True, False],
):
    conv_case(*combination)
conv_case((3, 3), 1, "same", 1, 1, True)
conv_case((2, 4), 1, "same", (1, 2), 2, False)  # an odd total: the extra pixel on the right

for size, kernel, sides in (  # (left, right, top, bottom), as TensorFlow pads
    ((6, 6), (3, 3), (0, 1, 0, 1)),
    ((6, 7), (5, 5), (2, 2, 1, 2)),
    ((1, 2), (5, 3), (0, 1, 2, 2)),
    ((6, 7), (1, 1), (0, 0, 0, 0)),
):
    case(
        "conv2d",
        f"same, {size}, {kernel}, stride 2",
        lambda x, w: F.conv2d(x, w, padding="same", stride=2),
        lambda x, w, sides=sides: nhwc(TF.conv2d(TF.pad(nchw(x), sides), nchw(w), stride=2)),
        normal(2, *size, 3),
        normal(4, *kernel, 3),
    )

case(
    "conv2d",
    "four sides",
    lambda x, w: F.conv2d(x, w, padding=((1, 2), (0, 3)), stride=2),
    lambda x, w: nhwc(TF.conv2d(TF.pad(nchw(x), (0, 3, 1, 2)), nchw(w), stride=2)),
    normal(2, 5, 6, 2),
    normal(3, 3, 2, 2),
)
case(
    "conv2d",
    "only padding under most taps",
    lambda x, w: F.conv2d(x, w, padding=1, stride=2),
    lambda x, w: nhwc(TF.conv2d(nchw(x), nchw(w), padding=1, stride=2)),
    normal(3, 1, 1, 2),
    normal(4, 3, 3, 2),
)


# -- recurrence -------------------------------------------------------------------------------


def recurrent_case(name: str, kind: str, gates: int, states: int, bias: bool) -> None:
    """A layer of 4 units over 5 steps of 3 samples with 2 numbers each."""
    sizes = [(3, 4)] * states + [(4 * gates, 2), (4 * gates, 4)] + [(4 * gates,)] * (2 * bias)
    pack = (lambda hx: tuple(hx)) if states > 1 else (lambda hx: hx[0])
    options = {"nonlinearity": kind.removeprefix("rnn_")} if name == "rnn" else {}

    def ours(x: Any, *arrays: Any) -> Any:
        y = getattr(F, name)(x, pack(arrays[:states]), *arrays[states:], **options)
        return F.cat([y[0], y[1][-1:]]) if states > 1 else y  # every h, and the last c

    def theirs(x: Any, *arrays: Any) -> Any:
        hx = pack([state[None] for state in arrays[:states]])
        settings = bias, 1, 0.0, False, False, False  # layers, dropout, train, both ways, ...
        y, *last = getattr(torch, kind)(x, hx, arrays[states:], *settings)
        return torch.cat([y, last[1]]) if states > 1 else y

    arrays = [0.5 * normal(*size) for size in sizes]
    case(name, f"{kind} bias {bias}", ours, theirs, normal(5, 3, 2), *arrays)


for bias in (True, False):
    recurrent_case("rnn", "rnn_tanh", 1, 1, bias)
    recurrent_case("rnn", "rnn_relu", 1, 1, bias)
    recurrent_case("lstm", "lstm", 4, 2, bias)
    recurrent_case("gru", "gru", 3, 1, bias)


# -- pooling ----------------------------------------------------------------------------------


def pool_case(name: str, data: np.ndarray, kernel: Any, stride: Any, padding: Any, **more: Any):
    """One pooling, if PyTorch allows it: padding of at most half the kernel."""
    pairs = [(v, v) if isinstance(v, int) else v for v in (kernel, padding)]
    if any(2 * p > k for k, p in zip(*pairs)):
        return
    ours, theirs = getattr(F, name), getattr(TF, name)
    options = {"stride": stride, "padding": padding, **more}
    case(
        name,
        f"{kernel} {options}",
        lambda x: ours(x, kernel, **options),
        lambda x: nhwc(theirs(nchw(x), kernel, **options)),
        data,
    )


KERNELS, STRIDES, PADS = [2, 3, (3, 2), (2, 5)], [None, 1, 2, (2, 3)], [0, 1, (1, 0), (0, 1)]
for kernel, stride, padding, dilation, ceil in some(
    50, KERNELS, STRIDES, PADS, [1, 2, (1, 2)], [True, False]
):
    more = {"dilation": dilation, "ceil_mode": ceil}
    pool_case("max_pool2d", ties(2, 9, 10, 3), kernel, stride, padding, **more)
for kernel, stride, padding, ceil, counted, divisor in some(
    60, KERNELS, STRIDES, PADS, [True, False], [True, False], [None, 3]
):
    more = {"ceil_mode": ceil, "count_include_pad": counted, "divisor_override": divisor}
    pool_case("avg_pool2d", normal(2, 9, 10, 3), kernel, stride, padding, **more)
pool_case("max_pool2d", -positive(2, 5, 5, 1), 3, 2, 1)  # padding must not win
case(
    "adaptive_avg_pool2d",
    "(1, 1)",
    lambda x: F.adaptive_avg_pool2d(x, (1, 1)),
    lambda x: nhwc(TF.adaptive_avg_pool2d(nchw(x), (1, 1))),
    normal(2, 5, 7, 3),
)


# -- resizing ---------------------------------------------------------------------------------


def interpolate_case(mode: str, target: dict[str, Any]) -> None:
    """One resizing of 9x10 pixels; align_corners with the mode that has it."""
    for corners in (False, True) if mode == "bilinear" else (None,):
        options = {"mode": mode, **target} | ({} if corners is None else {"align_corners": corners})
        case(
            "interpolate",
            options,
            lambda x, options=options: F.interpolate(x, **options),
            lambda x, options=options: nhwc(TF.interpolate(nchw(x), **options)),
            normal(2, 9, 10, 3),
        )


TARGETS: list[dict[str, Any]] = [
    *({"size": size} for size in (1, (9, 10), (4, 5), (18, 30), (13, 7), (5, 56))),
    *({"scale_factor": scale} for scale in (2, 0.5, (1.7, 0.63))),
]
for mode, target in itertools.product(["nearest", "bilinear", "area"], TARGETS):
    interpolate_case(mode, target)


# -- normalisation ----------------------------------------------------------------------------


def torch_batch_norm(x: Any, mean: Any, var: Any, *args: Any, **options: Any) -> Any:
    """PyTorch's, for channels on the last axis."""
    return TF.batch_norm(x.movedim(-1, 1), mean, var, *args, **options).movedim(1, -1)


MEAN, VAR = normal(3), positive(3)


def batch_norm_case(shape: tuple[int, ...], training: bool, relu: bool, residual: bool) -> None:
    """Weight and bias, and perhaps the residual and ReLU that are fused here."""

    def ours(x: Any, w: Any, b: Any, *more: Any) -> Any:
        running = tn.Tensor(MEAN.astype(x.dtype)), tn.Tensor(VAR.astype(x.dtype))
        residual = more[0] if more else None
        return F.batch_norm(x, *running, w, b, training, 0.1, 1e-3, residual=residual, relu=relu)

    def theirs(x: Any, w: Any, b: Any, *more: Any) -> Any:
        running = torch.tensor(MEAN, dtype=x.dtype), torch.tensor(VAR, dtype=x.dtype)
        y = torch_batch_norm(x, *running, w, b, training, eps=1e-3)
        y = y + more[0] if more else y
        return TF.relu(y) if relu else y

    arrays = [2 * normal(*shape) + 1, normal(3), normal(3)]
    label = f"{shape} training={training} relu={relu} residual={residual}"
    case("batch_norm", label, ours, theirs, *arrays, *([normal(*shape)] if residual else []))


for options in itertools.product([(8, 3), (4, 5, 6, 3)], *[[True, False]] * 3):
    batch_norm_case(*options)


def conv_norm_case(relu: bool, residual: bool) -> None:
    """A convolution of few pixels, normalised in evaluation."""

    def ours(x: Any, filters: Any, w: Any, b: Any, *more: Any) -> Any:
        running = tn.Tensor(MEAN.astype(x.dtype)), tn.Tensor(VAR.astype(x.dtype))
        options = (2, 2), 1, (1, 1), 1
        residual = more[0] if more else None
        return F.conv2d_batch_norm(
            x, filters, options, running, w, b, 1e-3, residual=residual, relu=relu
        )

    def theirs(x: Any, filters: Any, w: Any, b: Any, *more: Any) -> Any:
        running = torch.tensor(MEAN, dtype=x.dtype), torch.tensor(VAR, dtype=x.dtype)
        y = TF.conv2d(x.movedim(-1, 1), filters.movedim(-1, 1), None, 2, 1)
        y = TF.batch_norm(y, *running, w, b, eps=1e-3).movedim(1, -1)
        y = y + more[0] if more else y
        return TF.relu(y) if relu else y

    arrays = [normal(2, 5, 4, 16), normal(3, 3, 3, 16), normal(3), normal(3)]
    more = [normal(2, 3, 2, 3)] if residual else []
    case("conv2d_batch_norm", f"{relu=} {residual=}", ours, theirs, *arrays, *more)


for options in itertools.product([True, False], [True, False]):
    conv_norm_case(*options)
case(
    "batch_norm",
    "no weight, bias or running statistics",
    lambda x: F.batch_norm(x, None, None, training=True),
    lambda x: torch_batch_norm(x, None, None, training=True),
    normal(6, 2, 2, 3),
)

for shape, normalized in (((5, 6), 6), ((2, 3, 4), (3, 4)), ((2, 3, 3, 4), (4,))):
    sizes = (normalized,) if isinstance(normalized, int) else normalized
    case(
        "layer_norm",
        f"{shape} {normalized}",
        lambda x, w, b, n=normalized: F.layer_norm(x, n, w, b, 1e-3),
        lambda x, w, b, n=sizes: TF.layer_norm(x, n, w, b, 1e-3),
        normal(*shape),
        normal(*sizes),
        normal(*sizes),
    )
    case(
        "layer_norm",
        f"{shape} {normalized} plain",
        lambda x, n=normalized: F.layer_norm(x, n),
        lambda x, n=sizes: TF.layer_norm(x, n),
        normal(*shape),
    )


# -- softmax and losses -----------------------------------------------------------------------

for dim, data in itertools.product((0, 1, -1), (normal(3, 4, 5), huge(3, 4, 5))):
    for name in ("softmax", "log_softmax"):
        case(
            name,
            f"dim {dim}, up to {abs(data).max():.0f}",
            lambda x, name=name, dim=dim: getattr(F, name)(x, dim),
            lambda x, name=name, dim=dim: getattr(TF, name)(x, dim),
            data,
        )

REDUCTIONS = ("mean", "sum", "none")
CLASS_WEIGHT = positive(5)
LABELS = rng.integers(0, 5, (4, 3))
LABELS[1, 2] = LABELS[3, 0] = 2


def classes_second(t: Any) -> Any:
    """(..., C) -> (N, C, ...), where PyTorch wants the classes."""
    return t.movedim(-1, 1) if t.ndim > 1 else t


def weights(x: Any, weighted: bool) -> Any:
    """CLASS_WEIGHT as a tensor of x's library and dtype."""
    if not weighted:
        return None
    if isinstance(x, tn.Tensor):
        return tn.Tensor(CLASS_WEIGHT.astype(x.dtype))
    return torch.tensor(CLASS_WEIGHT, dtype=x.dtype)


def label_loss_case(
    name: str, data: np.ndarray, labels: np.ndarray, weighted: bool, label: str, **options: Any
) -> None:
    """A loss of integer labels."""
    case(
        name,
        f"{label} {data.shape} weighted={weighted} {options}",
        lambda x: getattr(F, name)(x, tn.Tensor(labels), weight=weights(x, weighted), **options),
        lambda x: getattr(TF, name)(
            classes_second(x), torch.tensor(labels), weight=weights(x, weighted), **options
        ),
        data,
    )


for weighted, ignored, reduction, smoothing in itertools.product(
    (False, True), (-100, 2), REDUCTIONS, (0.0, 0.1, 1.0)
):
    options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    label_loss_case("cross_entropy", normal(4, 3, 5), LABELS, weighted, "normal", **options)
    if smoothing == 0.1:
        label_loss_case("cross_entropy", huge(4, 5), LABELS[:, 0], weighted, "huge", **options)
        label_loss_case("cross_entropy", normal(4, 5), LABELS[:, 0], weighted, "normal", **options)
    if smoothing == 0:
        del options["label_smoothing"]
        label_loss_case("nll_loss", normal(4, 3, 5), LABELS, weighted, "normal", **options)
label_loss_case("cross_entropy", normal(5), np.array(3), True, "one sample")

for shape, weighted, reduction, smoothing in itertools.product(
    ((4, 5), (4, 2, 5)), (False, True), REDUCTIONS, (0.0, 0.2)
):
    probabilities = rng.dirichlet(np.ones(5), shape[:-1])

    def ours(x: Any, q: Any = probabilities, w: bool = weighted, **options: Any) -> Any:
        return F.cross_entropy(x, tn.Tensor(q.astype(x.dtype)), weights(x, w), **options)

    def theirs(x: Any, q: Any = probabilities, w: bool = weighted, **options: Any) -> Any:
        target = torch.tensor(q, dtype=x.dtype)
        return TF.cross_entropy(classes_second(x), classes_second(target), weights(x, w), **options)

    options = {"reduction": reduction, "label_smoothing": smoothing}
    case(
        "cross_entropy",
        f"probabilities {shape} weighted={weighted} {options}",
        lambda x, f=ours, options=options: f(x, **options),
        lambda x, f=theirs, options=options: f(x, **options),
        normal(*shape),
    )

for reduction in REDUCTIONS:
    case(
        "mse_loss",
        reduction,
        lambda x, y, r=reduction: F.mse_loss(x, y, reduction=r),
        lambda x, y, r=reduction: TF.mse_loss(x, y, reduction=r),
        normal(3, 4),
        normal(3, 4),
    )

for p, margin, weighted, reduction in itertools.product(
    (1, 2), (1.0, 0.5), (False, True), REDUCTIONS
):
    case(
        "multi_margin_loss",
        f"p={p} margin={margin} weighted={weighted} {reduction}",
        lambda x, w=weighted, p=p, m=margin, r=reduction: F.multi_margin_loss(
            x, tn.Tensor(LABELS[:, 0]), p, m, weights(x, w), r
        ),
        lambda x, w=weighted, o=(p, margin), r=reduction: TF.multi_margin_loss(
            x, torch.tensor(LABELS[:, 0]), *o, weight=weights(x, w), reduction=r
        ),
        ties(4, 5) if margin == 1 else normal(4, 5),  # ties stand on the hinge's corner
    )
case(
    "hinge_loss",
    "its other name",
    lambda x: F.hinge_loss(x, LABELS[:, 0]),
    lambda x: TF.multi_margin_loss(x, torch.tensor(LABELS[:, 0])),
    normal(4, 5),
)


# -- reductions -------------------------------------------------------------------------------

for dim, keepdim in itertools.product((None, 0, -1, (0, 2), [1]), (False, True)):
    both = {"dim": dim, "keepdim": keepdim}
    for name in ("sum", "mean"):
        case(
            name,
            both,
            lambda x, name=name, both=both: getattr(F, name)(x, **both),
            lambda x, name=name, both=both: getattr(torch, name)(x, **both),
            normal(3, 4, 5),
        )
    for correction in (0, 1, 2):
        case(
            "var",
            f"{both} correction={correction}",
            lambda x, c=correction, both=both: F.var(x, correction=c, **both),
            lambda x, c=correction, both=both: torch.var(x, correction=c, **both),
            normal(3, 4, 5),
        )
    case(
        "amax",
        both,
        lambda x, both=both: F.amax(x, **both),
        lambda x, both={**both, "dim": () if dim is None else dim}: torch.amax(x, **both),
        ties(3, 4, 5),
    )
case("max", "of all", F.max, torch.max, ties(3, 4))
for dim, keepdim in itertools.product((0, -1), (False, True)):
    case(
        "max",
        f"{dim} {keepdim}",
        lambda x, o=(dim, keepdim): F.max(x, *o).values,
        lambda x, o=(dim, keepdim): torch.max(x, *o).values,
        ties(3, 4, 5),
    )


# -- shapes -----------------------------------------------------------------------------------

for dim in (0, 1, -1):
    sizes = [[2, 3, 4], [2, 3, 4]]
    sizes[1][dim] += 2
    case(
        "cat",
        dim,
        lambda a, b, d=dim: F.cat([a, b, a], d),
        lambda a, b, d=dim: torch.cat([a, b, a], d),
        *(normal(*s) for s in sizes),
    )
    case(
        "stack",
        dim,
        lambda a, b, d=dim: F.stack([a, b, b], d),
        lambda a, b, d=dim: torch.stack([a, b, b], d),
        normal(2, 3),
        normal(2, 3),
    )

for args in ((), (1,), (0, 1), (-2, -1)):
    case(
        "flatten",
        args,
        lambda x, a=args: F.flatten(x, *a),
        lambda x, a=args: torch.flatten(x, *a),
        normal(2, 3, 4),
    )
for shape in ((4, 6), (-1,), (2, -1, 3), 24):
    case(
        "reshape",
        shape,
        lambda x, s=shape: F.reshape(x, s),
        lambda x, s=shape: torch.reshape(x, (s,) if isinstance(s, int) else s),
        normal(2, 3, 4),
    )
for dims in ((2, 0, 1), (0, 1, 2), (-1, 1, 0)):
    case(
        "permute",
        dims,
        lambda x, d=dims: F.permute(x, d),
        lambda x, d=dims: torch.permute(x, d),
        normal(2, 3, 4),
    )
for dims in ((0, 2), (-1, -2), (1, 1)):
    case(
        "transpose",
        dims,
        lambda x, d=dims: F.transpose(x, *d),
        lambda x, d=dims: torch.transpose(x, *d),
        normal(2, 3, 4),
    )
for widths, value in (
    ((1, 2), 0),
    ((1, 0, 2, 3), 0.5),
    ((-1, -1), 0),
    ((2, -1, -2, 1), 3.0),
    ((0, 0, -1, -1, 1, 1), -1),
):
    case(
        "pad",
        f"{widths} {value}",
        lambda x, w=widths, v=value: F.pad(x, w, value=v),
        lambda x, w=widths, v=value: TF.pad(x, w, value=v),
        normal(3, 4, 5),
    )


def index_tensor(index: Any) -> Any:
    """Arrays as Tensors, of any backend; other indices as they are."""
    if isinstance(index, tuple):
        return tuple(index_tensor(part) for part in index)
    return tn.Tensor(index) if isinstance(index, np.ndarray) else index


INDICES: list[Any] = [
    1,
    -1,
    slice(1, None),
    (slice(None), 2),
    (..., 0),
    (None, 1, ..., None),
    (slice(None, None, 2), slice(1, 3)),
    np.array([0, 2, 2, 0, -1]),  # repeats: the gradients add up
    (slice(None), np.array([[0, 1], [3, 3]])),
    (np.array([0, 1, 0]), np.array([3, 3, 3])),
    ([0, 0, 1], slice(None), 2),
    rng.random((3, 4)) < 0.5,
    (1, 2, 3),
]
for index in INDICES:
    case(
        "getitem",
        str(index).replace("\n", ""),
        lambda x, i=index: F.getitem(x, index_tensor(i)),
        lambda x, i=index: x[i],
        normal(3, 4, 5),
    )

for dim, shape in ((0, (2, 4)), (1, (3, 6)), (-1, (3, 1)), (1, (1, 2))):
    picks = rng.integers(0, 3, shape)
    case(
        "take_along_dim",
        f"{dim} {shape}",
        lambda x, p=picks, d=dim: F.take_along_dim(x, tn.Tensor(p), d),
        lambda x, p=picks, d=dim: torch.take_along_dim(x, torch.tensor(p), d),
        normal(3, 4),
    )


for reduction in ("none", "mean", "sum"):
    case(  # PyTorch's gradient is right behind log_softmax only; more in test_ctc.py
        "ctc_loss",
        reduction,
        lambda x, r=reduction: F.ctc_loss(
            F.log_softmax(x, 2), [[1, 1, 2], [3, 0, 0]], [7, 5], [3, 1], reduction=r
        ),
        lambda x, r=reduction: TF.ctc_loss(
            TF.log_softmax(x, 2),
            torch.tensor([[1, 1, 2], [3, 0, 0]]),
            torch.tensor([7, 5]),
            torch.tensor([3, 1]),
            reduction=r,
        ),
        normal(7, 2, 4),
    )


# -- the tests --------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two libraries' idle threads would spin on the processors that the other one wants."""
    before = torch.get_num_threads(), tn.get_num_threads()
    torch.set_num_threads(1)
    tn.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    tn.set_num_threads(before[1])


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # of PyTorch
@pytest.mark.parametrize("case", CASES, ids=[f"{c.name} {c.label}" for c in CASES])
def test_value_and_gradients(case: Case, backend: Any) -> None:
    check(case.ours, case.theirs, case.arrays, "float32")
    if backend.name != "numpy":  # its float64 is the reference's
        check(case.ours, case.theirs, case.arrays, "float64")


def test_every_public_function_has_a_case() -> None:
    public = {n for n, f in vars(F).items() if callable(f) and not n.startswith("_")}
    covered = {c.name for c in CASES}
    assert public - covered == set(EXCEPTIONS), "add a case, or say why there is none"
    assert covered <= public


def test_cases_have_names_of_their_own() -> None:
    ids = [f"{c.name} {c.label}" for c in CASES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_argmax_is_pytorchs(dim: int | None, backend: Any) -> None:
    x = rng.permutation(60).reshape(3, 4, 5).astype("float32")  # no ties: PyTorch promises no order
    actual, expected = F.argmax(tn.Tensor(x), dim), torch.argmax(torch.tensor(x), dim)
    assert actual.dtype == "int64"
    assert not actual.requires_grad
    assert np.array_equal(actual.numpy(), expected.numpy())
    if dim is not None:
        kept = F.argmax(tn.Tensor(x), dim, keepdim=True)
        assert np.array_equal(
            kept.numpy(), torch.argmax(torch.tensor(x), dim, keepdim=True).numpy()
        )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_indices_of_max_are_pytorchs(dim: int) -> None:
    x = rng.permutation(24).reshape(4, 6).astype("float32")
    actual, expected = F.max(tn.Tensor(x), dim), torch.max(torch.tensor(x), dim)
    assert np.array_equal(actual.indices.data, expected.indices.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0])
def test_running_statistics_are_pytorchs(dtype: str, momentum: float, backend: Any) -> None:
    """Training moves them by the momentum, with the unbiased variance; evaluation leaves them."""
    data = np.random.default_rng(3).normal(1, 2, (3, 4, 5, 6, 3)).astype(dtype)
    ours = tn.Tensor(MEAN.astype(dtype)), tn.Tensor(VAR.astype(dtype))
    theirs = [torch.tensor(v.astype(dtype)) for v in (MEAN, VAR)]
    for x in data:
        F.batch_norm(tn.Tensor(x), *ours, None, None, True, momentum)
        torch_batch_norm(torch.tensor(x), *theirs, training=True, momentum=momentum)
    for mine, yours in zip(ours, theirs):
        assert_close("running statistics", mine.data, yours, TOLERANCE[dtype])
        before = mine.numpy()
        F.batch_norm(tn.Tensor(data[0]), *ours, None, None, False, momentum)
        assert np.array_equal(mine.numpy(), before)


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_batch_norm_layer_counts_and_averages_as_pytorchs(momentum: float | None) -> None:
    """`momentum=None` is the plain average of all batches."""
    ours, theirs = (
        tn.nn.BatchNorm2d(3, momentum=momentum),
        torch.nn.BatchNorm2d(3, momentum=momentum),
    )
    for _ in range(4):
        x = rng.normal(2, 3, (5, 4, 4, 3)).astype("float32")
        ours(tn.Tensor(x))
        theirs(nchw(torch.tensor(x)))
    assert ours.num_batches_tracked is not None
    assert ours.running_mean is not None
    assert ours.running_var is not None
    assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item() == 4
    assert_close("mean", ours.running_mean.data, theirs.running_mean, 1e-5)
    assert_close("var", ours.running_var.data, theirs.running_var, 1e-5)
    x = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    expected = nhwc(theirs.eval()(nchw(torch.tensor(x))))
    assert_close("evaluation", ours.eval()(tn.Tensor(x)).data, expected, 1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_minus_infinity_among_the_other_classes(loss: str) -> None:
    """A class ruled out by -inf costs nothing unless it is the label."""
    x = np.array([[0.5, -np.inf, 1.0], [-np.inf, 0.2, 0.1]], "float32")
    labels = np.array([0, 2])
    expected = getattr(TF, loss)(torch.tensor(x), torch.tensor(labels))
    assert_close("loss", getattr(F, loss)(tn.Tensor(x), tn.Tensor(labels)).data, expected, 1e-6)


def test_labels_of_any_integer_dtype() -> None:
    x, labels = rng.normal(size=(4, 5)), np.array([0, 4, 2, 2])
    expected = F.cross_entropy(tn.Tensor(x), tn.Tensor(labels)).item()
    for dtype in ("int8", "uint8", "int32", "uint64"):
        assert F.cross_entropy(x, labels.astype(dtype)).item() == expected


def test_numbers_and_numpy_scalars_keep_float32() -> None:
    """PyTorch keeps the tensor's dtype against any single number; so must `x / np.sqrt(d)`."""
    x = tn.Tensor(np.ones(3, "float32"))
    for number in (2, 2.0, np.float64(2), np.float32(2), np.sqrt(4), np.int64(2)):
        for y in (x + number, number * x, x / number, x**number, number - x):
            assert y.dtype == "float32", (type(number), y)


def test_gradient_has_the_dtype_of_its_tensor() -> None:
    x = tn.Tensor(np.ones(3, "float32"), requires_grad=True)
    (x * np.full(3, 0.5)).sum().backward()  # the product is float64
    assert x.grad is not None
    assert x.grad.dtype == "float32"
