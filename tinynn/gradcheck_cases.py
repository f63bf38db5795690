"""Random cases for `gradcheck`: for each operation a function that draws inputs and options.

Here are arithmetic, reductions and what moves elements; `gradcheck_layer_cases` adds the rest.

Operations with kinks or ties (relu, abs, clip, max) get inputs away from them: a finite difference
across a kink is no derivative. A new operation needs a case here; a test insists on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tinynn import functional as F
from tinynn.tensor import Tensor

T = TypeVar("T")


class Case(NamedTuple):
    """A function of tensors with its options bound, and arrays to call it with."""

    function: Callable[..., Tensor]
    inputs: list[Any]


class Draw:
    """Where a case takes its sizes, options and numbers from: here a NumPy generator.

    The tests draw `integer` and `choice` through hypothesis instead, which shrinks them.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        """True or False."""
        return self.choice([False, True])

    def shape(self, least: int = 0, most: int = 3) -> tuple[int, ...]:
        """From `least` to `most` axes of size 1 to 3."""
        return tuple(self.integer(1, 3) for _ in range(self.integer(least, most)))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        """Two whole numbers, for height and width."""
        return self.integer(low, high), self.integer(low, high)

    def dim(self, ndim: int) -> int:
        """An axis, counted from the front or from the back."""
        return self.integer(-ndim, ndim - 1)

    def dims(self, ndim: int) -> Any:
        """An axis, several in any order, or None for all."""
        several = tuple(int(d) for d in self.rng.permutation(ndim)[: self.integer(1, ndim)])
        return self.choice([None, self.dim(ndim), several])

    def normal(self, *shape: int) -> np.ndarray:
        """Normal numbers."""
        return np.asarray(self.rng.standard_normal(shape))

    def positive(self, *shape: int) -> np.ndarray:
        """Numbers from 0.5 to 2."""
        return np.asarray(self.rng.uniform(0.5, 2, shape))

    def away_from_zero(self, *shape: int) -> np.ndarray:
        """Numbers of both signs, at least 0.1 from 0."""
        x = self.normal(*shape)
        return x + np.where(x < 0, -0.1, 0.1)

    def distinct(self, *shape: int) -> np.ndarray:
        """Numbers from -2 to 2, no two of them close."""
        size = int(np.prod(shape))
        return np.linspace(-2, 2, size)[self.rng.permutation(size)].reshape(shape)

    def columns(self, *shape: int) -> np.ndarray:
        """Every column (all axes but the last) distinct numbers: its variance is never small."""
        rows = int(np.prod(shape[:-1]))
        spaced = np.repeat(np.linspace(-2, 2, rows)[:, None], shape[-1], axis=1)
        return self.rng.permuted(spaced, axis=0).reshape(shape) + 0.1 * self.normal(*shape)


CASES: dict[str, Callable[[Draw], Case]] = {}  # operation -> maker of cases
Make = Callable[[Draw], Case]


def case(make: Make) -> Make:
    """Enter a maker of cases under the operation's name (its own, less a trailing underscore)."""
    CASES[make.__name__.rstrip("_")] = make
    return make


# -- arithmetic and elementwise functions --------------------------------------------------------


def _broadcast_shapes(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast, either of which may be the smaller."""
    full = draw.shape()
    stretched = tuple(1 if draw.flag() else n for n in full)[draw.integer(0, len(full)) :]
    return (full, stretched) if draw.flag() else (stretched, full)


def _binary(name: str, numbers: Callable[..., Any]) -> None:
    def make(draw: Draw) -> Case:
        function = getattr(F, name)
        a, b = (numbers(draw, *shape) for shape in _broadcast_shapes(draw))
        number = draw.choice([1.5, 2, -0.5])
        variant = draw.choice(["tensors", "number right", "number left", "one tensor twice"])
        if variant == "number right":
            return Case(lambda input: function(input, number), [a])
        if variant == "number left":
            return Case(lambda other: function(abs(number), other), [b])
        if variant == "one tensor twice":
            return Case(lambda input: function(input, input), [a])
        return Case(lambda input, other: function(input, other), [a, b])

    CASES[name] = make


def _unary(name: str, numbers: Callable[..., Any]) -> None:
    def make(draw: Draw) -> Case:
        function = getattr(F, name)
        return Case(lambda input: function(input), [numbers(draw, *draw.shape())])

    CASES[name] = make


for _name in ("add", "sub", "mul"):
    _binary(_name, Draw.normal)
_binary("div", Draw.away_from_zero)
_binary("pow", Draw.positive)
for _name in ("neg", "exp", "sigmoid", "tanh", "silu"):
    _unary(_name, Draw.normal)
for _name in ("log", "sqrt"):
    _unary(_name, Draw.positive)
for _name in ("abs", "relu"):
    _unary(_name, Draw.away_from_zero)


@case
def gelu(draw: Draw) -> Case:
    approximate = draw.choice(["none", "tanh"])
    return Case(lambda input: F.gelu(input, approximate), [draw.normal(*draw.shape())])


@case
def clip(draw: Draw) -> Case:
    low, high = draw.choice([(-0.5, 0.5), (None, 0.5), (-0.5, None)])
    x = draw.normal(*draw.shape())
    for kink in (-0.5, 0.5):
        x = np.where(np.abs(x - kink) < 0.05, 0.0, x)
    return Case(lambda input: F.clip(input, low, high), [x])


@case
def astype(draw: Draw) -> Case:
    # Only to float64: the rounding of a narrower type is a step function.
    return Case(lambda input: F.astype(input, "float64"), [draw.normal(*draw.shape())])


@case
def where(draw: Draw) -> Case:
    a, b = (draw.normal(*shape) for shape in _broadcast_shapes(draw))
    condition = draw.normal(*draw.choice([a.shape, b.shape])) > 0
    if draw.flag():
        return Case(lambda input: F.where(condition, input, 0.5), [a])
    return Case(lambda input, other: F.where(condition, input, other), [a, b])


# -- reductions ----------------------------------------------------------------------------------


@case
def sum_(draw: Draw) -> Case:
    shape = draw.shape(1)
    dim, keepdim = draw.dims(len(shape)), draw.flag()
    return Case(lambda input: F.sum(input, dim, keepdim), [draw.normal(*shape)])


@case
def mean(draw: Draw) -> Case:
    shape = draw.shape(1)
    dim, keepdim = draw.dims(len(shape)), draw.flag()
    return Case(lambda input: F.mean(input, dim, keepdim), [draw.normal(*shape)])


@case
def var(draw: Draw) -> Case:
    shape = tuple(n + 1 for n in draw.shape(1))
    dim, keepdim, correction = draw.dims(len(shape)), draw.flag(), draw.integer(0, 1)
    return Case(
        lambda input: F.var(input, dim, correction=correction, keepdim=keepdim),
        [draw.normal(*shape)],
    )


@case
def amax(draw: Draw) -> Case:
    shape = draw.shape(1)
    dim, keepdim = draw.dims(len(shape)), draw.flag()
    return Case(lambda input: F.amax(input, dim, keepdim), [draw.distinct(*shape)])


@case
def max_(draw: Draw) -> Case:
    shape = draw.shape(1)
    dim, keepdim = draw.dim(len(shape)), draw.flag()
    return Case(lambda input: F.max(input, dim, keepdim).values, [draw.distinct(*shape)])


# -- moving elements -----------------------------------------------------------------------------


@case
def reshape(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(1))
    shapes: list[Any] = [-1, (-1, x.shape[0]), (1, x.size), tuple(reversed(x.shape))]
    shape = draw.choice(shapes)
    return Case(lambda input: F.reshape(input, shape), [x])


@case
def flatten(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(2, 4))
    start = draw.integer(0, x.ndim - 1)
    end = draw.integer(start, x.ndim - 1)
    return Case(lambda input: F.flatten(input, start, end), [x])


@case
def permute(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(1, 4))
    dims = tuple(int(d) for d in draw.rng.permutation(x.ndim))
    return Case(lambda input: F.permute(input, dims), [x])


@case
def transpose(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(2, 4))
    dim0, dim1 = draw.dim(x.ndim), draw.dim(x.ndim)
    return Case(lambda input: F.transpose(input, dim0, dim1), [x])


@case
def cat(draw: Draw) -> Case:
    shape = draw.shape(1)
    dim = draw.dim(len(shape))
    parts = []
    for _ in range(3):
        sizes = list(shape)
        sizes[dim] = draw.integer(1, 3)
        parts.append(draw.normal(*sizes))
    return Case(lambda *tensors: F.cat(tensors, dim), parts)


@case
def stack(draw: Draw) -> Case:
    shape = draw.shape()
    dim = draw.dim(len(shape) + 1)
    return Case(lambda *tensors: F.stack(tensors, dim), [draw.normal(*shape) for _ in range(3)])


@case
def pad(draw: Draw) -> Case:
    x = draw.normal(*(n + 2 for n in draw.shape(1)))  # 3 to 5 each: one may be cut on both sides
    widths = [draw.integer(-1, 2) for _ in range(2 * draw.integer(1, x.ndim))]
    return Case(lambda input: F.pad(input, widths, value=1.5), [x])


@case
def getitem(draw: Draw) -> Case:
    rows, repeated = np.array([[2, 0], [1, 2]]), np.array([0, 0, 1])
    index = draw.choice(
        [
            1,
            -1,
            slice(1, None),
            slice(None, None, -2),
            (slice(None), 1),
            (Ellipsis, slice(0, 2)),
            (None, slice(None), None, 0),
            [2, 0],
            repeated,
            (repeated, np.array([1, 1, 0])),
            (slice(None), rows),
            draw.normal(3) > 0,
        ]
    )

    def on_backend(key: Any) -> Any:
        """Arrays as tensors of the backend that the operation runs on."""
        if isinstance(key, tuple):
            return tuple(map(on_backend, key))
        return Tensor(key) if isinstance(key, np.ndarray) else key

    return Case(lambda input: F.getitem(input, on_backend(index)), [draw.normal(3, 3, 2)])


@case
def take_along_dim(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(1))
    dim = draw.dim(x.ndim)
    sizes = list(x.shape)
    sizes[dim] = draw.integer(1, 4)
    indices = draw.rng.integers(0, x.shape[dim], sizes)
    return Case(lambda input: F.take_along_dim(input, indices, dim), [x])
