"""Cases for `test_torch_ops`: elementwise functions, reductions and shapes; layers are in
`torch_layer_cases`.

A case is the same expression written twice. Arrays are ours (NHWC); the PyTorch side permutes
inside its expression, so that its gradients arrive in our layout.
"""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")
TF = torch.nn.functional

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
