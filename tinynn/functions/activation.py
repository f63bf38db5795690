"""Activations, softmax and log-softmax."""

from __future__ import annotations

from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor, normal_dim
from tinynn.tensor import Tensor, operator


class ReLU(Function):
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        y = self.kernels.relu(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return self.kernels.relu_grad(dy, y)


class Sigmoid(Function):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Array) -> Array:
        y = self.kernels.sigmoid(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return self.kernels.sigmoid_grad(dy, y)


class Tanh(Function):
    """The hyperbolic tangent."""

    def forward(self, x: Array) -> Array:
        y = self.kernels.tanh(x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return self.kernels.tanh_grad(dy, y)


class SiLU(Function):
    """x sigmoid(x)."""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return self.kernels.silu(x)

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved
        return self.kernels.silu_grad(dy, x)


class GELU(Function):
    """x Phi(x), exactly or by the tanh approximation."""

    def __init__(self, approximate: str):
        self.approximate = approximate

    def forward(self, x: Array) -> Array:
        self.save(x)
        return self.kernels.gelu(x, self.approximate)

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved
        return self.kernels.gelu_grad(dy, x, self.approximate)


class Softmax(Function):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        y = self.kernels.softmax(x, self.axis)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return self.kernels.softmax_grad(dy, y, self.axis)


class LogSoftmax(Function):
    """x - log(sum(exp(x))) along an axis."""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        y = self.kernels.log_softmax(x, self.axis)
        self.save(y)
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved
        return self.kernels.log_softmax_grad(dy, y, self.axis)


@operator
def relu(input: Any) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    return ReLU()(as_tensor(input))


@operator
def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x)), without overflow."""
    return Sigmoid()(as_tensor(input))


@operator
def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh()(as_tensor(input))


def silu(input: Any) -> Tensor:
    """x sigmoid(x), also called swish."""
    return SiLU()(as_tensor(input))


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """x Phi(x); approximate="tanh" for the usual approximation."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return GELU(approximate)(as_tensor(input))


@operator
def softmax(input: Any, dim: int) -> Tensor:
    """Probabilities along `dim`; the last axis holds the classes in this library."""
    x = as_tensor(input)
    return Softmax(normal_dim("softmax", x.ndim, dim))(x)


@operator
def log_softmax(input: Any, dim: int) -> Tensor:
    """Log-probabilities along `dim`, stable for large logits."""
    x = as_tensor(input)
    return LogSoftmax(normal_dim("log_softmax", x.ndim, dim))(x)
