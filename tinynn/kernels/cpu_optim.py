"""Optimiser updates in one pass over the flat arrays. Drop-ins for the reference's."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.numba_setup import float32_only, parallel

Array = Any
f32 = np.float32


@parallel
def sgd(w, dw, lr, decay):
    """w <- w - lr (dw + decay w)."""
    for i in numba.prange(w.size):
        w[i] -= lr * (dw[i] + decay * w[i])


@parallel
def sgd_momentum(w, dw, velocity, lr, decay, momentum, scale, nesterov):
    """velocity <- momentum velocity + scale g; w <- w - lr (g + momentum velocity | velocity)."""
    for i in numba.prange(w.size):
        g = dw[i] + decay * w[i]
        v = momentum * velocity[i] + scale * g
        velocity[i] = v
        w[i] -= lr * (g + momentum * v if nesterov else v)


@parallel
def adam(w, dw, mean, square, decay, shrink, beta1, rest1, beta2, rest2, rate, root, eps):
    """The moments and the weights in one pass; `shrink` is AdamW's factor, `decay` Adam's."""
    for i in numba.prange(w.size):
        g = dw[i] + decay * w[i]
        m = mean[i] + rest1 * (g - mean[i])
        s = beta2 * square[i] + rest2 * (g * g)
        mean[i] = m
        square[i] = s
        w[i] = w[i] * shrink - rate * m / (math.sqrt(s) * root + eps)


@float32_only(reference.update_sgd)
def update_sgd(
    w: Array,
    dw: Array,
    velocity: Array | None,
    lr: Array,
    step: Array,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """Drop-in for reference.update_sgd."""
    rate, decay = f32(lr[0]), f32(weight_decay)
    if velocity is None:
        sgd(w, dw, rate, decay)
    else:
        scale = f32(1 if step[0] == 1 else 1 - dampening)
        sgd_momentum(w, dw, velocity, rate, decay, f32(momentum), scale, nesterov)


@float32_only(reference.update_adam)
def update_adam(
    w: Array,
    dw: Array,
    mean: Array,
    square: Array,
    lr: Array,
    step: Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Drop-in for reference.update_adam."""
    rate = lr[0] / (1 - beta1 ** step[0])
    root = 1 / math.sqrt(1 - beta2 ** step[0])
    decay = 0.0 if decoupled else weight_decay
    shrink = 1 - lr[0] * weight_decay if decoupled else 1.0
    numbers = (decay, shrink, beta1, 1 - beta1, beta2, 1 - beta2, rate, root, eps)
    adam(w, dw, mean, square, *(f32(v) for v in numbers))
