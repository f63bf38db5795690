"""Activations in one pass. Drop-ins for the reference's.

Each is a formula that `cpu_loops` compiles into a loop of vector code, exponential included:
the mathematical library's functions take one number at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cpu_arithmetic import images, scales
from tinynn.kernels.cpu_formulas import absolute, exp, expm1, where
from tinynn.kernels.cpu_formulas import relu as rectified
from tinynn.kernels.cpu_loops import elementwise
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any
SMALL = 4096  # elements: up to so many a plain NumPy function is done sooner than a job begins

# ---------------------------------------------------------------------------------------------
# Formulas
# ---------------------------------------------------------------------------------------------


@elementwise("y")
def relu_loop(x):
    return rectified(x)


@elementwise("dx")
def relu_grad_loop(dy, y):
    return where(y > 0, dy, 0)


@elementwise("y")
def dropout_loop(x, bits, *, limit, scale):
    return where(bits < limit, 0, x * scale)


@images("y")
def dropout_of_images(x, *, scale):
    return where(scale > 0, x * scale, 0)  # 0 inf would be NaN


def logistic(x):
    e = exp(-absolute(x))
    return where(x < 0, e, 1) / (1 + e)


def hyperbolic(x):
    e = expm1(-2 * absolute(x))  # e^-2|x| - 1
    size = -e / (2 + e)
    return where(x < 0, -size, size)


@elementwise("y")
def sigmoid_loop(x):
    return logistic(x)


@elementwise("dx")
def sigmoid_grad_loop(dy, y):
    return dy * y * (1 - y)


@elementwise("y")
def tanh_loop(x):
    return hyperbolic(x)


@elementwise("dx")
def tanh_grad_loop(dy, y):
    return dy * (1 - y * y)


@elementwise("y")
def silu_loop(x):
    return x * logistic(x)


@elementwise("dx")
def silu_grad_loop(dy, x):
    s = logistic(x)
    return dy * s * (1 + x * (1 - s))


MILLS = (
    -0.0278326684, 0.155038197, -0.326141756, 0.285466771, -0.103191,
    0.143762385, 0.10514088, 0.13493807, 0.132812841, 6.27623273e-06,
)  # fmt: skip


def normal(x):
    """The normal distribution Phi(x) and its density phi(x).

    Phi(-a) = exp(-a^2 / 2) P(1 / (1 + a / 3)) for a >= 0, P the polynomial with the coefficients
    MILLS: a fit by least squares at Chebyshev points of 0 .. 13, within 1e-8.
    """
    a = absolute(x)
    t = 1 / (1 + a * (1 / 3))
    e = exp(-0.5 * a * a)
    p: Any = 0.0
    for coefficient in MILLS:
        p = t * p + coefficient
    tail = e * p
    return where(x < 0, tail, 1 - tail), e * (1 / math.sqrt(2 * math.pi))


@elementwise("y")
def gelu_loop(x):
    return x * normal(x)[0]


@elementwise("dx")
def gelu_grad_loop(dy, x):
    phi, density = normal(x)
    return dy * (phi + x * density)


SLOPE = math.sqrt(2 / math.pi)


@elementwise("y")
def gelu_tanh_loop(x):
    return 0.5 * x * (1 + hyperbolic(SLOPE * (x + 0.044715 * x * x * x)))


@elementwise("dx")
def gelu_tanh_grad_loop(dy, x):
    t = hyperbolic(SLOPE * (x + 0.044715 * x * x * x))
    slope = SLOPE * (1 + 3 * 0.044715 * x * x)
    return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference.relu)
def relu(x: Array) -> Array:
    """Drop-in for reference.relu."""
    if x.size <= SMALL:
        return np.maximum(x, 0)
    y = empty_like(x)
    relu_loop(x=x, y=y)
    return y


@float32_only(reference.relu_grad)
def relu_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.relu_grad."""
    if dy.size <= SMALL:
        return np.where(y > 0, dy, 0)
    dx = empty_like(dy)
    relu_grad_loop(dy=dy, y=y, dx=dx)
    return dx


@float32_only(reference.dropout)
def dropout(x: Array, bits: Array, drop: float) -> Array:
    """Drop-in for reference.dropout of single elements, of whole images and of their channels."""
    if drop >= 1 or not bits.flags.c_contiguous:
        return reference.dropout(x, bits, drop)
    limit, scale = round(2**16 * drop), 1 / (1 - drop)
    if bits.shape == x.shape:
        y = empty_like(x)
        dropout_loop(x=x, bits=bits, y=y, limit=float(limit), scale=scale)
    elif scales(shape := (*bits.shape[:-1], x.shape[-1]), x.shape):
        y = empty_like(x)
        factors = np.where(bits < limit, np.float32(0), np.float32(scale))
        factors = np.ascontiguousarray(np.broadcast_to(factors, shape))
        dropout_of_images(x.shape, x=x, scale=factors, y=y)
    else:
        y = reference.dropout(x, bits, drop)
    return y


@float32_only(reference.sigmoid)
def sigmoid(x: Array) -> Array:
    """Drop-in for reference.sigmoid."""
    y = empty_like(x)
    sigmoid_loop(x=x, y=y)
    return y


@float32_only(reference.sigmoid_grad)
def sigmoid_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.sigmoid_grad."""
    dx = empty_like(dy)
    sigmoid_grad_loop(dy=dy, y=y, dx=dx)
    return dx


@float32_only(reference.tanh)
def tanh(x: Array) -> Array:
    """Drop-in for reference.tanh."""
    y = empty_like(x)
    tanh_loop(x=x, y=y)
    return y


@float32_only(reference.tanh_grad)
def tanh_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.tanh_grad."""
    dx = empty_like(dy)
    tanh_grad_loop(dy=dy, y=y, dx=dx)
    return dx


@float32_only(reference.silu)
def silu(x: Array) -> Array:
    """Drop-in for reference.silu."""
    y = empty_like(x)
    silu_loop(x=x, y=y)
    return y


@float32_only(reference.silu_grad)
def silu_grad(dy: Array, x: Array) -> Array:
    """Drop-in for reference.silu_grad."""
    dx = empty_like(dy)
    silu_grad_loop(dy=dy, x=x, dx=dx)
    return dx


@float32_only(reference.gelu)
def gelu(x: Array, approximate: str) -> Array:
    """Drop-in for reference.gelu: the error function by one exponential and a polynomial."""
    y = empty_like(x)
    loop = gelu_tanh_loop if approximate == "tanh" else gelu_loop
    loop(x=x, y=y)
    return y


@float32_only(reference.gelu_grad)
def gelu_grad(dy: Array, x: Array, approximate: str) -> Array:
    """Drop-in for reference.gelu_grad."""
    dx = empty_like(dy)
    loop = gelu_tanh_grad_loop if approximate == "tanh" else gelu_grad_loop
    loop(dy=dy, x=x, dx=dx)
    return dx
