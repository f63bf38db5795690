"""Drop-in recurrences for float32 on the CPU, and their gradients: what their cells compute at each
step of the walk in `cpu_rnn_walk`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import cpu_matmul, reference_rnn
from tinynn.kernels.cpu_activation import (
    hyperbolic,
    logistic,
    relu_grad_loop,
    relu_loop,
    tanh_grad_loop,
    tanh_loop,
)
from tinynn.kernels.cpu_rnn_walk import cells, walk_through
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty, empty_like

Array = Any
SMALL = 1 << 16  # multiplications: fewer NumPy has done before a walk has begun
ACTIVATIONS = {"tanh": (tanh_loop, tanh_grad_loop), "relu": (relu_loop, relu_grad_loop)}

# ---------------------------------------------------------------------------------------------
# Formulas. `before` is the state of the step before, `sums` what reaches a step from the next.
# ---------------------------------------------------------------------------------------------


@cells("i f g o c h")
def lstm_cell(i, f, g, o, before):
    i, f, g, o = logistic(i), logistic(f), hyperbolic(g), logistic(o)
    c = f * before + i * g
    return i, f, g, o, c, o * hyperbolic(c)


@cells("di df dg do dc_before")
def lstm_cell_grad(i, f, g, o, c, before, dy, dy_c, sums, dc):
    s = hyperbolic(c)
    dh = dy + sums
    dc = dy_c + dc + dh * o * (1 - s * s)
    slopes = dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g)
    return *slopes, dh * s * o * (1 - o), dc * f


@cells("r z n u h")
def gru_cell(a_r, a_z, a_n, u_r, u_z, u_n, b_r, b_z, b_n, before):
    r, z, u = logistic(a_r + u_r + b_r), logistic(a_z + u_z + b_z), u_n + b_n
    n = hyperbolic(a_n + r * u)
    return r, z, n, u, n + z * (before - n)


@cells("dr dz dn du_r du_z du_n dh_before")
def gru_cell_grad(r, z, n, u, before, dy, sums):
    dh = dy + sums
    dn = dh * (1 - z) * (1 - n * n)
    dr = dn * u * r * (1 - r)
    dz = dh * (before - n) * z * (1 - z)
    return dr, dz, dn, dr, dz, dn * r, dh * z


def gates_of(names: str, array: Array, hidden: int) -> dict[str, Array]:
    """(..., G hidden) -> G views (..., hidden), under these names."""
    return {name: array[..., i * hidden : (i + 1) * hidden] for i, name in enumerate(names.split())}


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------


@float32_only(reference_rnn.rnn)
def rnn(x: Array, h: Array, w: Array, nonlinearity: str) -> Array:
    """Drop-in for reference_rnn.rnn."""
    if x.size * len(w) <= SMALL:
        return reference_rnn.rnn(x, h, w, nonlinearity)
    y, (loop, _) = empty_like(x), ACTIVATIONS[nonlinearity]
    np.add(x[0], cpu_matmul.matmul(h, w.T), out=y[0])
    walk_through(y, y, x, w, loop, [loop.job.bind(x=y, y=y)], unit=len(w))
    return y


@float32_only(reference_rnn.rnn_grad)
def rnn_grad(dy: Array, y: Array, w: Array, nonlinearity: str) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.rnn_grad."""
    if y.size * len(w) <= SMALL:
        return reference_rnn.rnn_grad(dy, y, w, nonlinearity)
    dx, (_, loop) = empty_like(y), ACTIVATIONS[nonlinearity]
    dx[-1] = dy[-1]
    jobs = [loop.job.bind(dy=dx, y=y, dx=dx)]
    walk_through(dx, dx, dy, w, loop, jobs, unit=len(w), backward=True)
    return dx, cpu_matmul.matmul(dx[0], w)


@float32_only(reference_rnn.lstm)
def lstm(x: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.lstm."""
    hidden = h.shape[1]
    if x.size * hidden <= SMALL:
        return reference_rnn.lstm(x, h, c, w)
    y, gates = empty((2, len(x), *h.shape)), empty_like(x)
    np.add(x[0], cpu_matmul.matmul(h, w.T), out=gates[0])
    views = gates_of("i f g o", gates, hidden)
    jobs = lstm_cell.of_steps(hidden, c, y[1], **views, c=y[1], h=y[0])
    walk_through(y[0], gates, x, w, lstm_cell, jobs)
    return y, gates


@float32_only(reference_rnn.lstm_grad)
def lstm_grad(dy: Array, y: Array, gates: Array, c: Array, w: Array) -> tuple[Array, Array, Array]:
    """Drop-in for reference_rnn.lstm_grad."""
    steps, n, hidden = y.shape[1:]
    if gates.size * hidden <= SMALL:
        return reference_rnn.lstm_grad(dy, y, gates, c, w)
    dx, sums, dc = empty_like(gates), empty((steps, n, hidden)), empty((steps + 1, n, hidden))
    sums[-1] = dc[-1] = 0
    views = gates_of("i f g o", gates, hidden) | gates_of("di df dg do", dx, hidden)
    jobs = lstm_cell_grad.of_steps(
        hidden, c, y[1], **views, c=y[1], dy=dy[0], dy_c=dy[1], sums=sums, dc=dc[1:],
        dc_before=dc[:-1],
    )  # fmt: skip
    walk_through(dx, sums, None, w, lstm_cell_grad, jobs, backward=True)
    return dx, cpu_matmul.matmul(dx[0], w), dc[0].copy()


@float32_only(reference_rnn.gru)
def gru(x: Array, h: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.gru: the products are where a gate, one further on, will be."""
    steps, (n, hidden) = len(x), h.shape
    if x.size * hidden <= SMALL:
        return reference_rnn.gru(x, h, w, b)
    y, gates = empty((steps, n, hidden)), empty((steps, n, 4 * hidden))
    products = gates[..., hidden:]
    products[0] = cpu_matmul.matmul(h, w.T)
    views = gates_of("a_r a_z a_n", x, hidden) | gates_of("u_r u_z u_n", products, hidden)
    views |= gates_of("b_r b_z b_n", b, hidden) | gates_of("r z n u", gates, hidden)
    jobs = gru_cell.of_steps(hidden, h, y, **views, h=y)
    walk_through(y, products, None, w, gru_cell, jobs)
    return y, gates


@float32_only(reference_rnn.gru_grad)
def gru_grad(dy: Array, y: Array, gates: Array, h: Array, w: Array) -> tuple[Array, Array, Array]:
    """Drop-in for reference_rnn.gru_grad."""
    steps, n, hidden = y.shape
    if gates.size * hidden <= SMALL:
        return reference_rnn.gru_grad(dy, y, gates, h, w)
    dx, du = empty((steps, n, 3 * hidden)), empty((steps, n, 3 * hidden))
    dh = empty((steps + 1, n, hidden))
    dh[-1] = 0
    views = gates_of("r z n u", gates, hidden) | gates_of("dr dz dn", dx, hidden)
    views |= gates_of("du_r du_z du_n", du, hidden)
    sums = dh[1:]
    jobs = gru_cell_grad.of_steps(hidden, h, y, **views, dy=dy, sums=sums, dh_before=dh[:-1])
    walk_through(du, sums, sums, w, gru_cell_grad, jobs, backward=True)
    return dx, du, dh[0] + cpu_matmul.matmul(du[0], w)
