"""Arithmetic with broadcasting, and elementwise mathematics.

Where an operation is one array expression, that expression stands here: the array library's own
loop is its kernel. Python numbers stay Python numbers, so `x * 2.0` keeps x's dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array, current_backend
from tinynn.kernels.reference import namespace, unbroadcast
from tinynn.tensor import Tensor, operator


def as_operand(x: Any) -> Any:
    """Tensors and Python numbers as they are, NumPy's numbers as Python's, the rest as Tensors."""
    if isinstance(x, np.generic):
        return x.item()  # so that float32 / np.sqrt(4) stays float32
    return x if isinstance(x, (Tensor, bool, int, float)) else Tensor(x)


def as_tensor(x: Any) -> Tensor:
    """A Tensor as it is; anything else as a Tensor."""
    return x if isinstance(x, Tensor) else Tensor(x)


def check_broadcast(name: str, *operands: Any) -> None:
    """Raise ValueError, with the shapes, unless they broadcast."""
    shapes = [x.shape for x in operands if isinstance(x, Tensor)]
    if all(shape == shapes[0] for shape in shapes):
        return
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(s) for s in shapes)
        raise ValueError(
            f"{name}: shapes {listed} do not broadcast; align them from the right, "
            "each pair of sizes equal or 1"
        ) from None


def normal_dim(name: str, ndim: int, dim: int) -> int:
    """An axis counted from the front. ValueError for one that does not exist.

    A 0-d tensor accepts dim 0 and -1, as in PyTorch.
    """
    rank = ndim or 1
    if not -rank <= dim < rank:
        raise ValueError(f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions")
    return dim % rank


class Binary(Function):
    """An operation on two operands that broadcast: remembers their shapes."""

    def __call__(self, *inputs: Any) -> Tensor:
        inputs = tuple(as_operand(x) for x in inputs)
        check_broadcast(self.name.lower(), *inputs)
        self.shapes = [x.shape if isinstance(x, Tensor) else None for x in inputs]
        if not any(isinstance(x, Tensor) for x in inputs):
            inputs = (as_tensor(inputs[0]), *inputs[1:])
            self.shapes[0] = ()
        return super().__call__(*inputs)

    def reduced(self, *dxs: Array | None) -> tuple[Array | None, ...]:
        """One gradient an input, each summed back to its input's shape."""
        return tuple(
            None if dx is None or shape is None else unbroadcast(dx, shape)
            for dx, shape in zip(dxs, self.shapes)
        )


class Add(Binary):
    """a + b."""

    def forward(self, a: Array, b: Array) -> Array:
        return self.kernels.add(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.reduced(dy if self.needs[0] else None, dy if self.needs[1] else None)


class Sub(Binary):
    """a - b."""

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.reduced(dy if self.needs[0] else None, -dy if self.needs[1] else None)


class Mul(Binary):
    """a b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a if self.needs[1] else None, b if self.needs[0] else None)
        return self.kernels.mul(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        return tuple(
            self.kernels.mul_grad(dy, other, shape) if need else None
            for other, shape, need in zip((b, a), self.shapes, self.needs)
        )


class Div(Binary):
    """a / b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return a / b

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        return self.reduced(
            dy / b if self.needs[0] else None,
            -dy * (a / b) / b if self.needs[1] else None,  # b * b could underflow
        )


class Pow(Binary):
    """a^b. d/da = b a^(b-1); d/db = a^b log a, 0 where a is 0 and NaN where it is negative."""

    def forward(self, a: Array, b: Array) -> Array:
        y = a**b
        self.save(a, b, y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b, y = self.saved
        xp = namespace(dy)
        da = db = None
        if self.needs[0]:
            constant = b == 0  # a^0 is constant; 0 * a^-1 would be NaN at a = 0
            da = dy * b * a ** (b - xp.where(constant, 0, 1).astype(dy.dtype))
        if self.needs[1]:
            base = xp.asarray(a)
            logarithm = xp.log(xp.where(base > 0, base, 1))
            logarithm = xp.where(base < 0, math.nan, logarithm).astype(dy.dtype)
            db = dy * y * logarithm
        return self.reduced(da, db)


class Where(Function):
    """a where the condition holds, b elsewhere."""

    def __init__(self, condition: Array):
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = tuple(getattr(x, "shape", ()) for x in (a, b))
        return namespace(self.condition).where(self.condition, a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        xp = namespace(dy)
        return tuple(
            unbroadcast(xp.where(mask, dy, 0), shape) if need else None
            for mask, shape, need in zip((self.condition, ~self.condition), self.shapes, self.needs)
        )


class Neg(Function):
    """-x."""

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, dy: Array) -> Array:
        return -dy


class Exp(Function):
    """exp(x)."""

    def forward(self, x: Array) -> Array:
        y = namespace(x).exp(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return dy * y


class Log(Function):
    """The natural logarithm."""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return namespace(x).log(x)

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved
        return dy / x


class Sqrt(Function):
    """The square root; its derivative at 0 is infinite, as in PyTorch."""

    def forward(self, x: Array) -> Array:
        y = namespace(x).sqrt(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return dy / (2 * y)


class Abs(Function):
    """|x|; the derivative at 0 is taken as 0."""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return namespace(x).abs(x)

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved
        return dy * namespace(x).sign(x)


class Clip(Function):
    """x limited to [low, high]; the gradient passes where low <= x <= high."""

    def __init__(self, low: float | None, high: float | None):
        self.low, self.high = low, high

    def forward(self, x: Array) -> Array:
        self.save(x)
        return namespace(x).clip(x, self.low, self.high)

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved
        inside = namespace(x).ones(x.shape, bool)
        if self.low is not None:
            inside &= x >= self.low
        if self.high is not None:
            inside &= x <= self.high
        return dy * inside


class AsType(Function):
    """The same values in another dtype."""

    def __init__(self, dtype: Any):
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.original = x.dtype
        return x.astype(self.dtype)

    def backward(self, dy: Array) -> Array:
        return dy.astype(self.original)


@operator
def add(input: Any, other: Any) -> Tensor:
    """input + other, broadcasting."""
    return Add()(input, other)


@operator
def sub(input: Any, other: Any) -> Tensor:
    """input - other, broadcasting."""
    return Sub()(input, other)


@operator
def mul(input: Any, other: Any) -> Tensor:
    """input * other, broadcasting."""
    return Mul()(input, other)


@operator
def div(input: Any, other: Any) -> Tensor:
    """input / other, broadcasting."""
    return Div()(input, other)


@operator
def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, broadcasting; either may be a number."""
    return Pow()(input, exponent)


@operator
def neg(input: Any) -> Tensor:
    """-input."""
    return Neg()(as_tensor(input))


@operator
def exp(input: Any) -> Tensor:
    """e to the power of each element."""
    return Exp()(as_tensor(input))


@operator
def log(input: Any) -> Tensor:
    """The natural logarithm of each element."""
    return Log()(as_tensor(input))


@operator
def sqrt(input: Any) -> Tensor:
    """The square root of each element."""
    return Sqrt()(as_tensor(input))


@operator
def abs(input: Any) -> Tensor:
    """The absolute value of each element."""
    return Abs()(as_tensor(input))


@operator
def clip(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Each element limited to [min, max]; one bound may be None. ValueError if both are."""
    if min is None and max is None:
        raise ValueError("clip: give min, max or both")
    return Clip(min, max)(as_tensor(input))


clamp = clip


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where condition holds, other elsewhere; all three broadcast. `condition` is boolean."""
    array = condition.data if isinstance(condition, Tensor) else condition
    mask = current_backend().asarray(array)
    if mask.dtype.kind != "b":
        raise TypeError(f"where: the condition must be boolean, not {mask.dtype}")
    input, other = as_operand(input), as_operand(other)
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        input = as_tensor(input)
    check_broadcast("where", Tensor(mask), input, other)
    return Where(mask)(input, other)


@operator
def astype(input: Any, dtype: Any) -> Tensor:
    """The same values in another dtype."""
    return AsType(dtype)(as_tensor(input))
