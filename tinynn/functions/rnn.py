"""Recurrent layers over whole sequences (T, N, C): T steps of N samples.

The input's part of every step, W x[t] + b, is one matrix product over all steps; the recurrence is
a kernel. A cell is a sequence of one step.
"""

from __future__ import annotations

from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array, current_backend
from tinynn.functions.linear import linear
from tinynn.functions.math import add, as_tensor
from tinynn.functions.shape import getitem
from tinynn.kernels.reference import namespace
from tinynn.tensor import Tensor


class Recurrence(Function):
    """What the three have in common: dw, a sum over all steps, is one matrix product."""

    def weight_grad(self, i: int, du: Array, y: Array, h: Array) -> Array | None:
        """du (T, N, G), states y (T, N, H), first state h (N, H) -> dw (G, H), of input i; None if
        nobody needs it."""
        if not self.needs[i]:
            return None
        before = namespace(y).concatenate([h[None], y[:-1]]).reshape(-1, y.shape[2])
        return self.kernels.matmul(du.reshape(-1, du.shape[2]).T, before, self.grad_storage(i))


class RNN(Recurrence):
    """h[t] = tanh(x[t] + h[t-1] w^T), or relu, for all t."""

    def __init__(self, nonlinearity: str):
        self.nonlinearity = nonlinearity

    def forward(self, x: Array, h: Array, w: Array) -> Array:
        y = self.kernels.rnn(x, h, w, self.nonlinearity)
        self.save(y, h, w)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        y, h, w = self.saved
        dx, dh = self.kernels.rnn_grad(dy, y, w, self.nonlinearity)
        return dx, dh, self.weight_grad(2, dx, y, h)


class LSTM(Recurrence):
    """Long short-term memory; all h, then all c: (2, T, N, H)."""

    def forward(self, x: Array, h: Array, c: Array, w: Array) -> Array:
        y, gates = self.kernels.lstm(x, h, c, w)
        self.save(y, gates, h, c, w)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        y, gates, h, c, w = self.saved
        dx, dh, dc = self.kernels.lstm_grad(dy, y, gates, c, w)
        return dx, dh, dc, self.weight_grad(3, dx, y[0], h)


class GRU(Recurrence):
    """The gated recurrent unit."""

    def forward(self, x: Array, h: Array, w: Array, b: Array) -> Array:
        y, gates = self.kernels.gru(x, h, w, b)
        self.save(y, gates, h, w)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        y, gates, h, w = self.saved
        dx, du, dh = self.kernels.gru_grad(dy, y, gates, h, w)
        db = self.kernels.column_sum(du, self.grad_storage(3)) if self.needs[3] else None
        return dx, dh, self.weight_grad(2, du, y, h), db


def check_recurrent(name: str, gates: int, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor):
    """Raise ValueError, with all shapes, unless they are those of a layer of `gates` gates."""
    if x.ndim == 3 and w_hh.ndim == 2:
        hidden = w_hh.shape[1]
        if (
            h.shape == (x.shape[1], hidden)
            and w_ih.shape == (gates * hidden, x.shape[2])
            and w_hh.shape == (gates * hidden, hidden)
            and len(x)
        ):
            return
    raise ValueError(
        f"{name}: input (T, N, I), states (N, H), weight_ih ({gates} H, I) and weight_hh "
        f"({gates} H, H) are needed with T > 0, not {x.shape}, {h.shape}, {w_ih.shape} and "
        f"{w_hh.shape}"
    )


def rnn(
    input: Any,
    hx: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    nonlinearity: str = "tanh",
) -> Tensor:
    """h[t] = tanh(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh): every h of one layer in one direction.

    input (T, N, I), hx (N, H), weight_ih (H, I), weight_hh (H, H), biases (H,) -> (T, N, H).
    `nonlinearity`: "tanh" or "relu". Source: Elman 1990.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"rnn: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")
    x, h, w_ih, w_hh = (as_tensor(t) for t in (input, hx, weight_ih, weight_hh))
    check_recurrent("rnn", 1, x, h, w_ih, w_hh)
    return RNN(nonlinearity)(linear(x, w_ih, both(bias_ih, bias_hh)), h, w_hh)


def lstm(
    input: Any,
    hx: tuple[Any, Any],
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
) -> tuple[Tensor, Tensor]:
    """Every h and every c of one layer of long short-term memory; equations at `kernels.lstm`.

    input (T, N, I), hx = (h, c) of (N, H), weight_ih (4 H, I), weight_hh (4 H, H), biases (4 H,),
    gates in the order i, f, g, o -> (T, N, H) twice.
    """
    x, h, c, w_ih, w_hh = (as_tensor(t) for t in (input, *hx, weight_ih, weight_hh))
    check_recurrent("lstm", 4, x, h, w_ih, w_hh)
    check_recurrent("lstm", 4, x, c, w_ih, w_hh)
    states = LSTM()(linear(x, w_ih, both(bias_ih, bias_hh)), h, c, w_hh)
    return getitem(states, 0), getitem(states, 1)


def gru(
    input: Any,
    hx: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
) -> Tensor:
    """Every h of one layer of gated recurrent units; equations at `kernels.gru`.

    input (T, N, I), hx (N, H), weight_ih (3 H, I), weight_hh (3 H, H), biases (3 H,), gates in the
    order r, z, n -> (T, N, H).
    """
    x, h, w_ih, w_hh = (as_tensor(t) for t in (input, hx, weight_ih, weight_hh))
    check_recurrent("gru", 3, x, h, w_ih, w_hh)
    if bias_hh is None:
        bias_hh = current_backend().xp.zeros(len(w_hh), w_hh.dtype)
    return GRU()(linear(x, w_ih, bias_ih), h, w_hh, as_tensor(bias_hh))


def both(bias_ih: Any, bias_hh: Any) -> Tensor | None:
    """The sum of the biases that are given."""
    given = [as_tensor(b) for b in (bias_ih, bias_hh) if b is not None]
    return add(*given) if len(given) == 2 else given[0] if given else None
