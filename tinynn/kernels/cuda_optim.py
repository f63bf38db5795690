"""CUDA drop-ins for the optimisers: one launch updates all weights of a group."""

from __future__ import annotations

import numpy as np

from tinynn.kernels import reference_optim
from tinynn.kernels.cuda_launch import drop_in, float32, int32, per_element
from tinynn.kernels.reference import Array

FILE = "optim"


@drop_in(reference_optim.update_sgd)
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
    """Drop-in for reference_optim.update_sgd."""
    has_velocity = velocity is not None
    per_element(
        FILE, "update_sgd", w.size, w, dw, velocity if has_velocity else w, lr, step,
        int32(w.size), float32(momentum), float32(dampening), float32(weight_decay),
        int32(nesterov), int32(has_velocity),
    )  # fmt: skip


@drop_in(reference_optim.update_adam)
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
    """Drop-in for reference_optim.update_adam."""
    per_element(
        FILE, "update_adam", w.size, w, dw, mean, square, lr, step, int32(w.size),
        np.float64(beta1), np.float64(beta2), float32(eps), np.float64(weight_decay),
        int32(decoupled),
    )  # fmt: skip


@drop_in(reference_optim.update_rmsprop)
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
    """Drop-in for reference_optim.update_rmsprop."""
    per_element(
        FILE, "update_rmsprop", w.size, w, dw, square, w if mean is None else mean,
        w if velocity is None else velocity, lr, int32(w.size), float32(alpha),
        float32(1 - alpha), float32(eps), float32(weight_decay), float32(momentum),
        int32(mean is not None), int32(velocity is not None),
    )  # fmt: skip


@drop_in(reference_optim.update_adagrad)
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
    """Drop-in for reference_optim.update_adagrad."""
    per_element(
        FILE, "update_adagrad", w.size, w, dw, total, lr, step, int32(w.size),
        np.float64(lr_decay), float32(weight_decay), float32(eps),
    )  # fmt: skip


@drop_in(reference_optim.update_adadelta)
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
    """Drop-in for reference_optim.update_adadelta."""
    per_element(
        FILE, "update_adadelta", w.size, w, dw, square, delta, lr, int32(w.size), float32(rho),
        float32(1 - rho), float32(eps), float32(weight_decay),
    )  # fmt: skip


@drop_in(reference_optim.update_average)
def update_average(average: Array, x: Array, share: float) -> None:
    """Drop-in for reference_optim.update_average."""
    per_element(FILE, "update_average", x.size, average, x, int32(x.size), float32(share))
