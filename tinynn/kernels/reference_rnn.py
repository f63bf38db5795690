"""Recurrent layers: a whole sequence at once.

T steps, N samples, H hidden units. `x` is the projected input W x[t] + b of every step, one matrix
product made before; h and c are the initial states. The gradients walk the steps backwards:
back-propagation through time.
"""

from __future__ import annotations

from tinynn.kernels.reference import Array, kernel, namespace, sigmoid


@kernel
def rnn(x: Array, h: Array, w: Array, nonlinearity: str) -> Array:
    """h[t] = tanh(x[t] + h[t-1] w^T), or relu. x (T, N, H), h (N, H), w (H, H) -> y (T, N, H)."""
    xp = namespace(x)
    y = xp.empty_like(x)
    for t in range(len(x)):
        a = x[t] + h @ w.T
        h = y[t] = xp.tanh(a) if nonlinearity == "tanh" else xp.maximum(a, 0)
    return y


@kernel
def rnn_grad(dy: Array, y: Array, w: Array, nonlinearity: str) -> tuple[Array, Array]:
    """-> dx (T, N, H), dh (N, H). What reaches h[t] comes from y[t] and from step t + 1."""
    dx = namespace(dy).empty_like(y)
    dh = 0.0
    for t in reversed(range(len(y))):
        slope = 1 - y[t] * y[t] if nonlinearity == "tanh" else y[t] > 0
        dx[t] = (dy[t] + dh) * slope
        dh = dx[t] @ w
    return dx, dh


@kernel
def lstm(x: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array]:
    """Long short-term memory. x (T, N, 4 H), h and c (N, H), w (4 H, H) -> y (2, T, N, H), gates.

    i, f, o = sigmoid and g = tanh of x[t] + h[t-1] w^T, which stand in the order i, f, g, o;
    c[t] = f c[t-1] + i g; h[t] = o tanh(c[t]). y is all h, then all c; gates (T, N, 4 H).
    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    xp = namespace(x)
    y, gates = xp.empty((2, len(x), *h.shape), x.dtype), xp.empty_like(x)
    for t in range(len(x)):
        i, f, g, o = xp.split(x[t] + h @ w.T, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * xp.tanh(c)
        y[0, t], y[1, t] = h, c
        gates[t] = xp.concatenate([i, f, g, o], axis=1)
    return y, gates


@kernel
def lstm_grad(dy: Array, y: Array, gates: Array, c: Array, w: Array) -> tuple[Array, Array, Array]:
    """-> dx (T, N, 4 H), dh (N, H), dc (N, H)."""
    xp = namespace(dy)
    dx, dh, dc = xp.empty_like(gates), 0.0, 0.0
    for t in reversed(range(len(gates))):
        i, f, g, o = xp.split(gates[t], 4, axis=1)
        before, s = y[1, t - 1] if t else c, xp.tanh(y[1, t])
        dh = dy[0, t] + dh
        dc = dy[1, t] + dc + dh * o * (1 - s * s)
        slopes = dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g)
        dx[t] = xp.concatenate([*slopes, dh * s * o * (1 - o)], axis=1)
        dh, dc = dx[t] @ w, dc * f
    return dx, dh, dc


@kernel
def gru(x: Array, h: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Gated recurrent unit. x (T, N, 3 H), h (N, H), w (3 H, H), b (3 H,) -> y (T, N, H), gates.

    With a = x[t] and u = h[t-1] w^T + b, each in three parts: r = sigmoid(a_r + u_r),
    z = sigmoid(a_z + u_z), n = tanh(a_n + r u_n); h[t] = (1 - z) n + z h[t-1].
    gates (T, N, 4 H) are r, z, n and u_n. Source: Cho et al. 2014, with PyTorch's place for r.
    """
    xp = namespace(x)
    (n, hidden), steps = h.shape, len(x)
    y, gates = xp.empty((steps, n, hidden), x.dtype), xp.empty((steps, n, 4 * hidden), x.dtype)
    for t in range(steps):
        (a_r, a_z, a_n), (u_r, u_z, u_n) = (xp.split(v, 3, axis=1) for v in (x[t], h @ w.T + b))
        r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
        n = xp.tanh(a_n + r * u_n)
        h = y[t] = n + z * (h - n)
        gates[t] = xp.concatenate([r, z, n, u_n], axis=1)
    return y, gates


@kernel
def gru_grad(dy: Array, y: Array, gates: Array, h: Array, w: Array) -> tuple[Array, Array, Array]:
    """-> dx (T, N, 3 H), du (T, N, 3 H), dh (N, H)."""
    xp = namespace(dy)
    shape = (*y.shape[:2], 3 * y.shape[2])
    dx, du, dh = xp.empty(shape, dy.dtype), xp.empty(shape, dy.dtype), 0.0
    for t in reversed(range(len(y))):
        r, z, n, u_n = xp.split(gates[t], 4, axis=1)
        dh = dy[t] + dh
        dn = dh * (1 - z) * (1 - n * n)
        dr = dn * u_n * r * (1 - r)
        dz = dh * ((y[t - 1] if t else h) - n) * z * (1 - z)
        dx[t] = xp.concatenate([dr, dz, dn], axis=1)
        du[t] = xp.concatenate([dr, dz, dn * r], axis=1)
        dh = dh * z + du[t] @ w
    return dx, du, dh
