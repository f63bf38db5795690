"""Optimiser updates in one pass over the flat arrays. Drop-ins for the reference's.

Each is a formula that `cpu_loops` compiles into a loop: the step reads and writes memory once,
where the reference's array expressions do so five to fifteen times.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynn.kernels import reference_optim
from tinynn.kernels.cpu_formulas import sqrt
from tinynn.kernels.cpu_loops import elementwise
from tinynn.kernels.fallback import float32_only

Array = Any

# ---------------------------------------------------------------------------------------------
# Formulas. What follows the * is a number.
# ---------------------------------------------------------------------------------------------


@elementwise("w")
def sgd(w, dw, *, lr, decay):
    return w - lr * (dw + decay * w)


@elementwise("w velocity")
def sgd_momentum(w, dw, velocity, *, lr, decay, momentum, scale):
    velocity = momentum * velocity + scale * (dw + decay * w)
    return w - lr * velocity, velocity


@elementwise("w velocity")
def sgd_nesterov(w, dw, velocity, *, lr, decay, momentum, scale):
    g = dw + decay * w
    velocity = momentum * velocity + scale * g
    return w - lr * (g + momentum * velocity), velocity


@elementwise("w mean square")
def adam(w, dw, mean, square, *, decay, shrink, rest1, beta2, rest2, rate, root, eps):
    g = dw + decay * w
    mean = mean + rest1 * (g - mean)
    square = beta2 * square + rest2 * (g * g)
    return w * shrink - rate * mean / (sqrt(square) * root + eps), mean, square


# Without decay, weights whose gradient has always been zero stay as they are, exactly. With a 7x7
# stem they are most of a ResNet-18's on MNIST: its last filters see one pixel and eight of padding.
@elementwise("w mean square", idle="dw mean square")
def adam_without_decay(w, dw, mean, square, *, rest1, beta2, rest2, rate, root, eps):
    mean = mean + rest1 * (dw - mean)
    square = beta2 * square + rest2 * (dw * dw)
    return w - rate * mean / (sqrt(square) * root + eps), mean, square


@elementwise("w square")
def rmsprop(w, dw, square, *, lr, alpha, rest, eps, decay):
    g = dw + decay * w
    square = alpha * square + rest * (g * g)
    return w - lr * g / (sqrt(square) + eps), square


@elementwise("w square velocity")
def rmsprop_momentum(w, dw, square, velocity, *, lr, alpha, rest, eps, decay, momentum):
    g = dw + decay * w
    square = alpha * square + rest * (g * g)
    velocity = momentum * velocity + g / (sqrt(square) + eps)
    return w - lr * velocity, square, velocity


@elementwise("w square mean")
def rmsprop_centred(w, dw, square, mean, *, lr, alpha, rest, eps, decay):
    g = dw + decay * w
    square = alpha * square + rest * (g * g)
    mean = mean + rest * (g - mean)
    return w - lr * g / (sqrt(square - mean * mean) + eps), square, mean


@elementwise("w square mean velocity")
def rmsprop_centred_momentum(
    w, dw, square, mean, velocity, *, lr, alpha, rest, eps, decay, momentum
):
    g = dw + decay * w
    square = alpha * square + rest * (g * g)
    mean = mean + rest * (g - mean)
    velocity = momentum * velocity + g / (sqrt(square - mean * mean) + eps)
    return w - lr * velocity, square, mean, velocity


@elementwise("w total")
def adagrad(w, dw, total, *, rate, eps, decay):
    g = dw + decay * w
    total = total + g * g
    return w - rate * g / (sqrt(total) + eps), total


@elementwise("w square delta")
def adadelta(w, dw, square, delta, *, lr, rho, rest, eps, decay):
    g = dw + decay * w
    square = rho * square + rest * (g * g)
    d = sqrt((delta + eps) / (square + eps)) * g
    return w - lr * d, square, rho * delta + rest * (d * d)


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference_optim.update_sgd)
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
    """Drop-in for reference_optim.update_sgd: one pass."""
    numbers = {"lr": float(lr[0]), "decay": float(weight_decay)}
    if velocity is None:
        sgd(w=w, dw=dw, **numbers)
        return
    scale = 1.0 if step[0] == 1 else 1.0 - dampening
    update = sgd_nesterov if nesterov else sgd_momentum
    update(w=w, dw=dw, velocity=velocity, momentum=float(momentum), scale=scale, **numbers)


@float32_only(reference_optim.update_adam)
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
    """Drop-in for reference_optim.update_adam: one pass; none where no gradient ever was."""
    fields: dict[str, Any] = dict(
        w=w, dw=dw, mean=mean, square=square,
        rest1=1.0 - beta1, beta2=float(beta2), rest2=1.0 - beta2,
        rate=float(lr[0] / (1 - beta1 ** step[0])), root=1 / math.sqrt(1 - beta2 ** step[0]),
        eps=float(eps),
    )  # fmt: skip
    if weight_decay == 0 and np.float32(eps) > 0:  # or 0 / 0
        adam_without_decay(**fields)
    else:
        decay = 0.0 if decoupled else float(weight_decay)
        shrink = float(1 - lr[0] * weight_decay) if decoupled else 1.0
        adam(**fields, decay=decay, shrink=shrink)


@float32_only(reference_optim.update_rmsprop)
def update_rmsprop(
    w: Array,
    dw: Array,
    square: Array,
    mean: Array | None,
    velocity: Array | None,
    lr: Array,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None:
    """Drop-in for reference_optim.update_rmsprop: one pass."""
    fields: dict[str, Any] = dict(
        w=w, dw=dw, square=square, lr=float(lr[0]), alpha=float(alpha), rest=1.0 - alpha,
        eps=float(eps), decay=float(weight_decay),
    )  # fmt: skip
    if mean is not None:
        fields["mean"] = mean
    if velocity is not None:
        fields |= {"velocity": velocity, "momentum": float(momentum)}
    updates = {  # by (centred, momentum)
        (False, False): rmsprop,
        (False, True): rmsprop_momentum,
        (True, False): rmsprop_centred,
        (True, True): rmsprop_centred_momentum,
    }
    updates[mean is not None, velocity is not None](**fields)


@float32_only(reference_optim.update_adagrad)
def update_adagrad(
    w: Array,
    dw: Array,
    total: Array,
    lr: Array,
    step: Array,
    lr_decay: float,
    weight_decay: float,
    eps: float,
) -> None:
    """Drop-in for reference_optim.update_adagrad: one pass."""
    rate = float(lr[0] / (1 + (step[0] - 1) * lr_decay))
    adagrad(w=w, dw=dw, total=total, rate=rate, eps=float(eps), decay=float(weight_decay))


@float32_only(reference_optim.update_adadelta)
def update_adadelta(
    w: Array,
    dw: Array,
    square: Array,
    delta: Array,
    lr: Array,
    rho: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Drop-in for reference_optim.update_adadelta: one pass."""
    adadelta(
        w=w, dw=dw, square=square, delta=delta, lr=float(lr[0]), rho=float(rho), rest=1.0 - rho,
        eps=float(eps), decay=float(weight_decay),
    )  # fmt: skip
