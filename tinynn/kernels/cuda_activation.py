"""CUDA drop-ins for activations, their gradients and dropout: one pass over the arrays each.

relu and tanh are one kernel of CuPy's own already.
"""

from __future__ import annotations

import math

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cuda_launch import drop_in, float32, int32, like, per_element
from tinynn.kernels.reference import Array

FILE = "activation"


@drop_in(reference.relu_grad)
def relu_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.relu_grad."""
    return _gradient("relu_grad", dy, y)


@drop_in(reference.sigmoid)
def sigmoid(x: Array) -> Array:
    """Drop-in for reference.sigmoid."""
    y = like(x)
    per_element(FILE, "sigmoid", x.size, x, y, int32(x.size))
    return y


@drop_in(reference.sigmoid_grad)
def sigmoid_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.sigmoid_grad."""
    return _gradient("sigmoid_grad", dy, y)


@drop_in(reference.tanh_grad)
def tanh_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.tanh_grad."""
    return _gradient("tanh_grad", dy, y)


@drop_in(reference.silu)
def silu(x: Array) -> Array:
    """Drop-in for reference.silu."""
    y = like(x)
    per_element(FILE, "silu", x.size, x, y, int32(x.size))
    return y


@drop_in(reference.silu_grad)
def silu_grad(dy: Array, x: Array) -> Array:
    """Drop-in for reference.silu_grad."""
    return _gradient("silu_grad", dy, x)


@drop_in(reference.gelu)
def gelu(x: Array, approximate: str) -> Array:
    """Drop-in for reference.gelu: the hardware's erfc rather than a series."""
    y = like(x)
    per_element(FILE, "gelu", x.size, x, y, int32(x.size), int32(approximate == "tanh"))
    return y


@drop_in(reference.gelu_grad)
def gelu_grad(dy: Array, x: Array, approximate: str) -> Array:
    """Drop-in for reference.gelu_grad."""
    dx, is_tanh = like(x), int32(approximate == "tanh")
    per_element(FILE, "gelu_grad", x.size, dy, x, dx, int32(x.size), is_tanh)
    return dx


@drop_in(reference.dropout)
def dropout(x: Array, bits: Array, drop: float) -> Array:
    """Drop-in for reference.dropout: bits for each element, or for each row of a branch."""
    whole, rows = bits.shape == x.shape, bits.shape == (len(x), *[1] * (x.ndim - 1))
    if drop >= 1 or bits.dtype != np.uint16 or not (whole or rows):
        return reference.dropout(x, bits, drop)
    y, each = like(x), x.size // math.prod(bits.shape)
    threshold, scale = int32(round(2**16 * drop)), float32(1 / (1 - drop))
    per_element(FILE, "dropout", x.size, x, bits, y, int32(x.size), int32(each), threshold, scale)
    return y


def _gradient(name: str, dy: Array, saved: Array) -> Array:
    """A gradient from dy and what was saved, of one shape."""
    dx = like(dy)
    per_element(FILE, name, dy.size, dy, saved, dx, int32(dy.size))
    return dx
