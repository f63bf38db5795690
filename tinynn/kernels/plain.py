"""Drop-ins in plain numba, gathered in a table: what serves where LLVM refuses the code that the
faster ones (`cpu.py`) give it, and an example of what numba alone can do.

Only kernels that are clearly quicker than the reference's are here: those of which NumPy makes many
passes over memory; and products, as BLAS no longer has threads for them (`plain_threads.py`).
Convolution, normalisation and pooling have files of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types, void

from tinynn.kernels import (
    plain_conv,
    plain_norm,
    plain_pool,
    reference,
    reference_optim,
    reference_softmax,
)
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty, empty_like
from tinynn.kernels.plain_norm import add_to_rows
from tinynn.kernels.plain_threads import (
    BOOL,
    INT,
    MATRIX,
    NEW_MATRIX,
    NEW_VECTOR,
    VECTOR,
    array,
    compiled,
    in_parts,
    share_out,
)
from tinynn.kernels.threads import take_threads_from_blas

Array = Any
FEW = 1 << 22  # multiply-adds: a product of fewer is done before another thread is awake
NUMBER = types.float64  # what is computed with one is in float64, and rounded once, at the end
LABELS = array(types.int64, 1)

# ---------------------------------------------------------------------------------------------
# ReLU, backward: forward NumPy takes one pass too
# ---------------------------------------------------------------------------------------------


@compiled(void(VECTOR, VECTOR, NEW_VECTOR))
def rectify_grad(dy, y, dx):
    for i in range(len(dy)):
        dx[i] = dy[i] if y[i] > 0 else np.float32(0)


@float32_only(reference.relu_grad)
def relu_grad(dy: Array, y: Array) -> Array:
    """Drop-in for reference.relu_grad."""
    dx = empty_like(dy)
    share_out(rectify_grad, [dy.reshape(-1), y.reshape(-1), dx.reshape(-1)])
    return dx


# ---------------------------------------------------------------------------------------------
# Products are BLAS's, of parts of the rows or columns
# ---------------------------------------------------------------------------------------------


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.matmul: matrices in parts, one for each thread."""
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype or a.size * b.shape[1] < FEW:
        return reference.matmul(a, b, out)
    (m, _), (_, n) = a.shape, b.shape
    c = empty((m, n), a.dtype) if out is None else out
    if m >= n:
        in_parts(m, lambda lo, hi: np.matmul(a[lo:hi], b, out=c[lo:hi]), parts=1)
    else:
        in_parts(n, lambda lo, hi: np.matmul(a, b[:, lo:hi], out=c[:, lo:hi]), parts=1)
    return c


@float32_only(reference.linear)
def linear(x: Array, w: Array, bias: Array | None, relu: bool) -> Array:
    """Drop-in for reference.linear: bias and ReLU in one pass."""
    y = matmul(x, w.T)
    if bias is not None or relu:
        share_out(add_to_rows, [y], np.zeros(len(w), np.float32) if bias is None else bias, relu)
    return y


linear_grad = reference.linear_grad_of(relu_grad, matmul, plain_norm.column_sum)


# ---------------------------------------------------------------------------------------------
# The loss: in float64, as there is little of it
# ---------------------------------------------------------------------------------------------


@compiled(void(MATRIX, LABELS, INT, NUMBER, NEW_MATRIX))
def losses_of(logits, labels, ignore_index, smoothing, results):
    m, classes = logits.shape
    losses, tops, totals = results[0], results[1], results[2]
    for i in range(m):
        row, top = logits[i], logits[i, 0]
        for k in range(classes):
            top = top if row[k] <= top else row[k]  # NaN is taken
        total, below = 0.0, 0.0
        for k in range(classes):
            total += math.exp(np.float64(row[k]) - top)
            below += np.float64(row[k]) - top
        tops[i], totals[i], losses[i] = top, total, 0
        if labels[i] != ignore_index:
            target = (1 - smoothing) * (np.float64(row[labels[i]]) - top)
            if smoothing > 0:  # 0 (-inf) is NaN
                target += smoothing / classes * below
            losses[i] = math.log(total) - target


@compiled(void(VECTOR, MATRIX, LABELS, VECTOR, VECTOR, INT, NUMBER, NEW_MATRIX))
def losses_grad(dlosses, logits, labels, tops, totals, ignore_index, smoothing, dlogits):
    m, classes = logits.shape
    for i in range(m):
        counts = labels[i] != ignore_index
        for k in range(classes):
            p = math.exp(np.float64(logits[i, k]) - tops[i]) / totals[i]
            target = smoothing / classes + (1 - smoothing) * (k == labels[i])
            dlogits[i, k] = dlosses[i] * (p - target) if counts else 0.0


@float32_only(reference_softmax.label_cross_entropy)
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_softmax.label_cross_entropy."""
    results = np.empty((3, len(logits)), np.float32)
    labels = np.ascontiguousarray(labels, np.int64)
    losses_of(logits, labels, ignore_index, label_smoothing, results)
    return results[0], results[1], results[2]


@float32_only(reference_softmax.label_cross_entropy_grad)
def label_cross_entropy_grad(
    dlosses: Array,
    logits: Array,
    labels: Array,
    top: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """Drop-in for reference_softmax.label_cross_entropy_grad."""
    dlogits = empty_like(logits)
    labels = np.ascontiguousarray(labels, np.int64)
    losses_grad(dlosses, logits, labels, top, total, ignore_index, label_smoothing, dlogits)
    return dlogits


# ---------------------------------------------------------------------------------------------
# Optimisers
# ---------------------------------------------------------------------------------------------


@compiled(
    *(
        void(NEW_VECTOR, VECTOR, velocity, *[NUMBER] * 4, BOOL)
        for velocity in (NEW_VECTOR, types.none)
    )
)
def sgd(w, dw, velocity, lr, momentum, scale, decay, nesterov):
    for i in range(len(w)):
        g = dw[i] + decay * w[i]
        if velocity is not None:
            v = momentum * velocity[i] + scale * g
            velocity[i] = v
            g = g + momentum * v if nesterov else v
        w[i] -= lr * g


@compiled(void(NEW_VECTOR, VECTOR, NEW_VECTOR, NEW_VECTOR, *[NUMBER] * 8))
def adam(w, dw, mean, square, rest1, beta2, rest2, rate, root, eps, decay, shrink):
    for i in range(len(w)):
        g = dw[i] + decay * w[i]
        m = mean[i] + rest1 * (g - mean[i])
        s = beta2 * square[i] + rest2 * (g * g)
        mean[i], square[i] = m, s
        w[i] = shrink * w[i] - rate * m / (np.sqrt(s) * root + eps)


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
    scale = 1.0 if step[0] == 1 else 1.0 - dampening
    numbers = float(lr[0]), momentum, scale, weight_decay, nesterov
    share_out(sgd, [w, dw, velocity], *numbers)


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
    """Drop-in for reference_optim.update_adam: one pass."""
    rate, root = lr[0] / (1 - beta1 ** step[0]), (1 - beta2 ** step[0]) ** -0.5
    decay, shrink = (0.0, 1 - lr[0] * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = 1 - beta1, beta2, 1 - beta2, rate, root, eps, decay, shrink
    share_out(adam, [w, dw, mean, square], *numbers)


KERNELS: dict[str, Any] = {
    "conv2d": plain_conv.conv2d,
    "conv2d_batch_norm": plain_conv.conv2d_batch_norm,
    "conv2d_input_grad": plain_conv.conv2d_input_grad,
    "conv2d_weight_grad": plain_conv.conv2d_weight_grad,
    "matmul": matmul,
    "linear": linear,
    "linear_grad": linear_grad,
    "add_bias": plain_norm.add_bias,
    "column_sum": plain_norm.column_sum,
    "max_pool2d": plain_pool.max_pool2d,
    "max_pool2d_grad": plain_pool.max_pool2d_grad,
    "avg_pool2d": plain_pool.avg_pool2d,
    "avg_pool2d_grad": plain_pool.avg_pool2d_grad,
    "global_avg_pool2d": plain_pool.global_avg_pool2d,
    "batch_norm": plain_norm.batch_norm,
    "batch_norm_grad": plain_norm.batch_norm_grad,
    "batch_norm_inference": plain_norm.batch_norm_inference,
    "batch_norm_inference_grad": plain_norm.batch_norm_inference_grad,
    "relu_grad": relu_grad,
    "label_cross_entropy": label_cross_entropy,
    "label_cross_entropy_grad": label_cross_entropy_grad,
    "update_sgd": update_sgd,
    "update_adam": update_adam,
}

take_threads_from_blas()
