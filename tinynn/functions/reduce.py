"""Sums, means, variances and maxima over axes. `dim` is an axis, several, or None for all."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor, normal_dim
from tinynn.functions.shape import take_along_dim
from tinynn.kernels.reference import namespace
from tinynn.tensor import Tensor, operator

Dim = int | tuple[int, ...] | list[int] | None


class MaxResult(NamedTuple):
    """What `max` along one axis gives: the values, and where they stood."""

    values: Tensor
    indices: Tensor


def normalize_dims(name: str, ndim: int, dim: Dim) -> tuple[int, ...]:
    """Axes as sorted non-negative numbers. ValueError for one that does not exist."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    normal = sorted(normal_dim(name, ndim, d) for d in dims)
    if len(set(normal)) != len(normal):
        raise ValueError(f"{name}: dim {dims} names an axis twice")
    return tuple(d for d in normal if d < ndim)


class Reduction(Function):
    """A reduction over `dims`; remembers the input's shape."""

    shape: tuple[int, ...]  # of the input, set by forward

    def __init__(self, dims: tuple[int, ...], keepdim: bool):
        self.dims, self.keepdim = dims, keepdim

    def expand(self, dy: Array) -> Array:
        """Give a gradient its reduced axes back, as size 1."""
        xp = namespace(dy)
        return dy if self.keepdim or not self.dims else xp.expand_dims(dy, self.dims)

    def stretch(self, dy: Array) -> Array:
        """A gradient in the input's shape, in memory of its own: fast kernels want no views."""
        dx = namespace(dy).empty(self.shape, dy.dtype)
        dx[...] = self.expand(dy)
        return dx

    def count(self) -> int:
        """Elements that went into each output."""
        n = 1
        for d in self.dims:
            n *= self.shape[d]
        return n


class Sum(Reduction):
    """y = sum of x."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return namespace(x).asarray(x.sum(axis=self.dims, keepdims=self.keepdim))

    def backward(self, dy: Array) -> Array:
        return self.stretch(dy)


class Mean(Reduction):
    """y = sum of x / n."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return namespace(x).asarray(x.mean(axis=self.dims, keepdims=self.keepdim))

    def backward(self, dy: Array) -> Array:
        return self.stretch(dy / self.count())


class Var(Reduction):
    """y = sum of (x - mean)^2 / (n - correction). dx = 2 dy (x - mean) / (n - correction)."""

    def __init__(self, dims: tuple[int, ...], keepdim: bool, correction: int):
        super().__init__(dims, keepdim)
        self.correction = correction

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        centred = x - x.mean(axis=self.dims, keepdims=True)
        self.save(centred)
        total = (centred * centred).sum(axis=self.dims, keepdims=self.keepdim)
        return namespace(x).asarray(total / (self.count() - self.correction))

    def backward(self, dy: Array) -> Array:
        (centred,) = self.saved
        return self.expand(dy) * (2 / (self.count() - self.correction)) * centred


class AMax(Reduction):
    """The largest element; equal maxima share the gradient evenly."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y = x.max(axis=self.dims, keepdims=True)
        winners = x == y
        self.save(winners / winners.sum(axis=self.dims, keepdims=True))
        return namespace(x).asarray(y if self.keepdim else y.squeeze(self.dims))

    def backward(self, dy: Array) -> Array:
        (share,) = self.saved
        return self.expand(dy) * share.astype(dy.dtype)


@operator
def sum(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum over `dim`."""
    x = as_tensor(input)
    return Sum(normalize_dims("sum", x.ndim, dim), keepdim)(x)


@operator
def mean(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim`."""
    x = as_tensor(input)
    return Mean(normalize_dims("mean", x.ndim, dim), keepdim)(x)


@operator
def var(input: Any, dim: Dim = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The variance over `dim`, divided by n - correction.

    ValueError unless more than `correction` elements go into it.
    """
    x = as_tensor(input)
    function = Var(normalize_dims("var", x.ndim, dim), keepdim, correction)
    function.shape = x.shape
    if function.count() <= correction:
        raise ValueError(
            f"var: {function.count()} element(s) over dim {dim} of shape {x.shape} are too few for "
            f"correction={correction}; use correction=0"
        )
    return function(x)


@operator
def amax(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The maximum over `dim`; equal maxima share the gradient."""
    x = as_tensor(input)
    return AMax(normalize_dims("amax", x.ndim, dim), keepdim)(x)


@operator
def max(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The maximum of all, or with `dim` the pair (values, indices) along one axis."""
    x = as_tensor(input)
    if dim is None:
        return amax(x, None, keepdim)
    if x.ndim == 0:  # PyTorch takes dim 0 and -1 for it
        normal_dim("max", 0, dim)
        return MaxResult(amax(x), argmax(x))
    axis = normal_dim("max", x.ndim, dim)
    where = argmax(x, axis, keepdim=True)
    values = take_along_dim(x, where, axis)
    if keepdim:
        return MaxResult(values, where)
    shape = values.shape[:axis] + values.shape[axis + 1 :]
    return MaxResult(values.reshape(shape), Tensor(where.data.reshape(shape)))


@operator
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the (first) maximum stands, int64: in the flattened tensor, or along `dim`."""
    x = as_tensor(input).data
    if dim is None:
        return Tensor(namespace(x).asarray(x.argmax()))
    return Tensor(namespace(x).asarray(x.argmax(axis=dim, keepdims=keepdim)))
