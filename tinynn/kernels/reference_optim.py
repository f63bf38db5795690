"""Optimisers: one update of flat arrays, in place.

`lr` and `step` are arrays of one element, so that a captured training step reads their present
value. Formulas as in PyTorch.
"""

from __future__ import annotations

from tinynn.kernels.reference import Array, kernel, namespace


@kernel
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
    """v <- momentum v + (1 - dampening) g; w <- w - lr v, or with Nesterov w - lr (g + momentum v).

    g = dw + weight_decay w. The first step sets v = g. All arrays (P,). `step` counts from 1.
    """
    g = dw + weight_decay * w if weight_decay else dw
    if velocity is not None:
        first = step[0] == 1
        scale = namespace(w).where(first, 1, 1 - dampening).astype(w.dtype)
        velocity[...] = momentum * velocity + scale * g
        g = g + momentum * velocity if nesterov else velocity
    w -= lr.astype(w.dtype) * g


@kernel
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
    """mean <- b1 mean + (1 - b1) g; square <- b2 square + (1 - b2) g^2;
    w <- w - lr mean/(1 - b1^t) / (sqrt(square/(1 - b2^t)) + eps).

    Weight decay joins g (Adam), or is applied to w itself (`decoupled`, AdamW).
    Sources: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019.
    """
    xp = namespace(w)
    g = dw
    if weight_decay and decoupled:
        w *= (1 - lr * weight_decay).astype(w.dtype)
    elif weight_decay:
        g = dw + weight_decay * w
    mean += (1 - beta1) * (g - mean)
    square[...] = beta2 * square + (1 - beta2) * (g * g)
    step_size = (lr / (1 - beta1**step)).astype(w.dtype)
    root = ((1 - beta2**step) ** 0.5).astype(w.dtype)
    w -= step_size * mean / (xp.sqrt(square) / root + eps)


@kernel
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
    """square <- a square + (1 - a) g^2; w <- w - lr g / (sqrt(square [- mean^2]) + eps).

    `mean` is the running mean of g (centred), `velocity` accumulates the step (momentum).
    Source: Hinton 2012, lecture 6e; Graves 2013 for the centred form.
    """
    g = dw + weight_decay * w if weight_decay else dw
    square[...] = alpha * square + (1 - alpha) * (g * g)
    variance = square
    if mean is not None:
        mean += (1 - alpha) * (g - mean)
        variance = square - mean * mean
    g = g / (namespace(w).sqrt(variance) + eps)
    if velocity is not None:
        velocity[...] = momentum * velocity + g
        g = velocity
    w -= lr.astype(w.dtype) * g


@kernel
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
    """total <- total + g^2; w <- w - lr/(1 + (t - 1) lr_decay) g / (sqrt(total) + eps).

    Source: Duchi et al. 2011.
    """
    g = dw + weight_decay * w if weight_decay else dw
    total += g * g
    rate = (lr / (1 + (step - 1) * lr_decay)).astype(w.dtype)
    w -= rate * g / (namespace(w).sqrt(total) + eps)


@kernel
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
    """square <- r square + (1 - r) g^2; d = sqrt(delta + eps) / sqrt(square + eps) g;
    delta <- r delta + (1 - r) d^2; w <- w - lr d. Source: Zeiler 2012, algorithm 1.
    """
    sqrt = namespace(w).sqrt
    g = dw + weight_decay * w if weight_decay else dw
    square[...] = rho * square + (1 - rho) * (g * g)
    d = sqrt(delta + eps) / sqrt(square + eps) * g
    delta[...] = rho * delta + (1 - rho) * (d * d)
    w -= lr.astype(w.dtype) * d


@kernel
def update_average(average: Array, x: Array, share: float) -> None:
    """average <- average + share (x - average), whatever their shape."""
    average += share * (x - average)
