"""Cases for `test_torch_ops`: what layers are made of, from matrix products to norms."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from torch_cases import case, nchw, nhwc, normal, positive, some, ties

import tinynn as tn
from tinynn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")
TF = torch.nn.functional

shape: Any  # the loops below draw these from many types
sizes: Any
dims: Any
options: Any
kernel: Any


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
