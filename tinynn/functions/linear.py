"""Matrix products: `matmul` over leading axes, and the fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor
from tinynn.functions.shape import reshape
from tinynn.kernels.reference import unbroadcast
from tinynn.tensor import Tensor, operator


class Matmul(Function):
    """a (..., M, K) @ b (..., K, N). da = dy b^T, db = a^T dy."""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a if self.needs[1] else None, b if self.needs[0] else None)
        self.shapes = a.shape, b.shape
        return self.kernels.matmul(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        product, da, db = self.kernels.matmul, None, None
        if self.needs[0]:
            da = unbroadcast(product(dy, b.swapaxes(-1, -2)), self.shapes[0])
        if self.needs[1]:
            db = unbroadcast(product(a.swapaxes(-1, -2), dy), self.shapes[1])
        return da, db


class Linear(Function):
    """y = x w^T [+ b], [ReLU]. x (M, I), w (O, I), b (O,) -> y (M, O)."""

    new_grads = True

    def __init__(self, relu: bool):
        self.relu = relu

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        y = self.kernels.linear(x, w, b, self.relu)
        given = x if self.needs[1] else None, w if self.needs[0] else None
        self.save(*given, y if self.relu else None)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        out_dw, out_db = (self.grad_storage(i) if self.needs[i] else None for i in (1, 2))
        more = self.needs[2], out_dw, out_db, self.owns_dy
        return self.kernels.linear_grad(dy, *self.saved, *more)


@operator
def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product; vectors and leading axes follow NumPy's (and PyTorch's) rules."""
    a, b = as_tensor(input), as_tensor(other)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: needs at least 1 dimension, got {a.shape} and {b.shape}")
    row = reshape(a, (1, a.size)) if a.ndim == 1 else a
    column = reshape(b, (b.size, 1)) if b.ndim == 1 else b
    if row.shape[-1] != column.shape[-2]:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: {row.shape[-1]} columns against "
            f"{column.shape[-2]} rows"
        )
    try:
        np.broadcast_shapes(row.shape[:-2], column.shape[:-2])
    except ValueError:
        raise ValueError(
            f"matmul: the leading axes of shapes {a.shape} and {b.shape} do not broadcast; "
            "each pair of sizes must be equal or 1"
        ) from None
    y = Matmul()(row, column)
    shape = y.shape
    if b.ndim == 1:
        shape = shape[:-1]
    if a.ndim == 1:
        shape = shape[:-2] + shape[-1:] if b.ndim > 1 else shape[:-1]
    return y if shape == y.shape else reshape(y, shape)


def linear(input: Any, weight: Any, bias: Any = None, *, relu: bool = False) -> Tensor:
    """y = x w^T + b. input (..., in_features), weight (out_features, in_features), bias (out,).

    With `relu`, max(y, 0) in the same kernel.
    """
    x, w = as_tensor(input), as_tensor(weight)
    x_shape, w_shape = x.shape, w.shape
    if len(w_shape) != 2 or not x_shape or x_shape[-1] != w_shape[1]:
        features, expected = (shape[-1] if shape else 0 for shape in (x_shape, w_shape))
        raise ValueError(
            f"linear: input {x_shape} has {features} features, weight {w_shape} expects "
            f"{expected}; use Linear(in_features={features}) or flatten"
        )
    b = None if bias is None else as_tensor(bias)
    if b is not None and b.shape != w_shape[:1]:
        raise ValueError(f"linear: bias has shape {b.shape}, expected {w_shape[:1]}")
    if len(x_shape) == 2:
        return Linear(relu)(x, w, b)
    y = Linear(relu)(reshape(x, (-1, x_shape[-1])), w, b)
    return reshape(y, (*x_shape[:-1], w_shape[0]))
