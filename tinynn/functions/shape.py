"""Reshaping, joining, padding and indexing: operations that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor, normal_dim
from tinynn.kernels.reference import namespace
from tinynn.tensor import Tensor, operator


class Reshape(Function):
    """The same elements in another shape."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        return x.reshape(self.shape)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.x_shape)


class Permute(Function):
    """Axes in another order, copied so that the result is contiguous."""

    def __init__(self, dims: tuple[int, ...]):
        self.dims = dims

    def forward(self, x: Array) -> Array:
        return namespace(x).ascontiguousarray(x.transpose(self.dims))

    def backward(self, dy: Array) -> Array:
        inverse = sorted(range(len(self.dims)), key=self.dims.__getitem__)
        return namespace(dy).ascontiguousarray(dy.transpose(inverse))


class Concatenate(Function):
    """Arrays joined along an existing axis.

    One after the other: to join many at once CuPy reads a list that the host makes, which a step
    that is recorded cannot.
    """

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        ends = list(accumulate(x.shape[self.axis] for x in xs))
        before = (slice(None),) * self.axis
        self.parts = [(*before, slice(a, b)) for a, b in zip([0, *ends], ends)]
        shape = (*xs[0].shape[: self.axis], ends[-1], *xs[0].shape[self.axis + 1 :])
        y = namespace(xs[0]).empty(shape, np.result_type(*(x.dtype for x in xs)))
        for part, x in zip(self.parts, xs):
            y[part] = x
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        contiguous = namespace(dy).ascontiguousarray
        return tuple(contiguous(dy[p]) if need else None for p, need in zip(self.parts, self.needs))


class Pad(Function):
    """A constant border around the array."""

    def __init__(self, widths: list[tuple[int, int]], value: float):
        self.widths, self.value = widths, value

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        keep = [slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, self.widths)]
        grow = [(max(a, 0), max(b, 0)) for a, b in self.widths]
        return namespace(x).pad(x[tuple(keep)], grow, constant_values=self.value)

    def backward(self, dy: Array) -> Array:
        mirrored = [(-a, -b) for a, b in self.widths]  # what grew is cut, what was cut is 0
        return Pad(mirrored, 0).forward(dy)


class GetItem(Function):
    """x[index] for integers, slices, ellipsis, None, boolean masks and integer arrays."""

    def __init__(self, index: Any):
        self.index = index

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        y = x[self.index]
        xp = namespace(x)
        return xp.ascontiguousarray(y) if getattr(y, "ndim", 0) else xp.asarray(y)

    def backward(self, dy: Array) -> Array:
        xp = namespace(dy)
        dx = xp.zeros(self.x_shape, dy.dtype)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(hasattr(p, "dtype") or isinstance(p, list) for p in parts):
            xp.add.at(dx, self.index, dy)  # an index may repeat: its gradients add up
        else:
            dx[self.index] = dy
        return dx


class TakeAlongDim(Function):
    """y[..., i, ...] = x[..., index[..., i, ...], ...] along one axis."""

    def __init__(self, index: Array, axis: int):
        self.index, self.axis = index, axis

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        return namespace(x).take_along_axis(x, self.index, axis=self.axis)

    def backward(self, dy: Array) -> Array:
        xp = namespace(dy)
        dx = xp.zeros(self.x_shape, dy.dtype)
        rank = range(dx.ndim)
        grid = [
            xp.arange(n).reshape([-1 if d == e else 1 for e in rank])
            for d, n in enumerate(self.x_shape)
        ]
        grid[self.axis] = self.index  # the other axes broadcast
        xp.add.at(dx, tuple(grid), dy)
        return dx


@operator
def reshape(input: Any, shape: int | Sequence[int]) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1."""
    x = as_tensor(input)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    known = math.prod(s for s in sizes if s != -1)
    fits = x.size == known if -1 not in sizes else known and x.size % known == 0
    if not fits or sizes.count(-1) > 1:
        raise ValueError(
            f"reshape: {x.shape} has {x.size} elements and cannot become {sizes}; "
            "the product of the sizes must be equal (one may be -1)"
        )
    return reshaped(x, sizes)


@operator
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes from start_dim to end_dim. Images flatten in (H, W, C) order."""
    x = as_tensor(input)
    shape = x.shape
    start, end = (normal_dim("flatten", len(shape), d) for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = math.prod(shape[start : end + 1])
    return reshaped(x, (*shape[:start], merged, *shape[end + 1 :]))


def reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A node of the graph only where there is a graph: mostly it is images that are flattened."""
    return Reshape(shape)(x) if x.requires_grad else Tensor.of(x.data.reshape(shape))


@operator
def permute(input: Any, dims: Sequence[int]) -> Tensor:
    """The axes in the order `dims`, as a contiguous copy."""
    x = as_tensor(input)
    normal = tuple(normal_dim("permute", x.ndim, d) for d in dims)
    if sorted(normal) != list(range(x.ndim)):
        raise ValueError(f"permute: {tuple(dims)} is not an order of the {x.ndim} axes {x.shape}")
    return Permute(normal)(x)


@operator
def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged, as a contiguous copy."""
    x = as_tensor(input)
    order = list(range(x.ndim))
    a, b = (normal_dim("transpose", x.ndim, d) for d in (dim0, dim1))
    order[a], order[b] = order[b], order[a]
    return permute(x, order)


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors along an existing axis; the other sizes must agree."""
    parts = [as_tensor(t) for t in tensors]
    if not parts:
        raise ValueError("cat: no tensors were given")
    axis = normal_dim("cat", parts[0].ndim, dim)
    for p in parts:
        same = p.shape[:axis] + p.shape[axis + 1 :]
        if p.ndim != parts[0].ndim or same != parts[0].shape[:axis] + parts[0].shape[axis + 1 :]:
            raise ValueError(
                f"cat: shapes {[t.shape for t in parts]} differ outside dim {dim}; "
                "only the size along dim may differ"
            )
    return Concatenate(axis)(*parts)


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    parts = [as_tensor(t) for t in tensors]
    if not parts:
        raise ValueError("stack: no tensors were given")
    if len({p.shape for p in parts}) > 1:
        raise ValueError(f"stack: shapes {[p.shape for p in parts]} differ; use cat")
    axis = normal_dim("stack", parts[0].ndim + 1, dim)
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    return Concatenate(axis)(*(reshape(p, shape) for p in parts))


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float = 0) -> Tensor:
    """A constant border. `pad` = (before, after) of the last axis, then of the one before, ...

    as in PyTorch; the last axis of an image is its channels here. Negative widths cut.
    """
    x = as_tensor(input)
    if mode != "constant":
        raise ValueError(f"pad: mode {mode!r} is not offered; use 'constant'")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"pad: {len(pad)} widths for a tensor of {x.ndim} dimensions; give (before, after) "
            "for each padded axis, the last axis first"
        )
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    for n, (before, after) in zip(x.shape, widths):
        if n + before + after < 0 or n + min(before, 0) < 0 or n + min(after, 0) < 0:
            raise ValueError(f"pad: widths {tuple(pad)} cut more than shape {x.shape} has")
    return Pad(widths, value)(x)


@operator
def getitem(input: Any, index: Any) -> Tensor:
    """input[index]: integers, slices, ellipsis, None, masks and integer arrays or Tensors."""

    def plain(part: Any) -> Any:
        return part.data if isinstance(part, Tensor) else part

    key = tuple(plain(p) for p in index) if isinstance(index, tuple) else plain(index)
    return GetItem(key)(as_tensor(input))


def take_along_dim(input: Any, indices: Any, dim: int) -> Tensor:
    """Elements picked along one axis by an index tensor of matching rank."""
    x, index = as_tensor(input), as_tensor(indices)
    axis = normal_dim("take_along_dim", x.ndim, dim)
    if index.dtype.kind not in "iu" or index.ndim != x.ndim:
        raise ValueError(
            f"take_along_dim: indices must be integers of the input's rank, not {index.dtype} of "
            f"shape {index.shape} for input {x.shape}"
        )
    return TakeAlongDim(index.data, axis)(x)
