"""CUDA drop-ins for recurrences: a whole sequence in one launch.

The products are made in the kernels: cuBLAS, which the reference's are, cannot be recorded. Every
block reads the weights at every step, out of the level-2 cache if they are large.
"""

from __future__ import annotations

from tinynn.kernels import reference_rnn
from tinynn.kernels.cuda_launch import THREADS, drop_in, int32, kernel, like, result
from tinynn.kernels.reference import Array, namespace

MOST_SHARED = 48 << 10  # bytes that a block may have without asking for more


def _fits(rows: int, hidden: int) -> bool:
    """Whether a block has shared memory for so many rows, each a number for every hidden unit."""
    return 4 * rows * hidden <= MOST_SHARED


def _per_sample(
    name: str, rows: int, sizes: tuple[int, ...], arrays: tuple[Array, ...], *options: bool
) -> None:
    """Launch a kernel with one block for each sample, and shared memory for so many rows. `sizes`:
    steps, samples and hidden units."""
    _, samples, hidden = sizes
    launch = kernel(namespace(arrays[0]), "rnn", name)
    given = (*arrays, *map(int32, (*sizes, *options)))
    launch((samples,), (THREADS,), given, shared_mem=4 * rows * hidden)


@drop_in(reference_rnn.rnn)
def rnn(x: Array, h: Array, w: Array, nonlinearity: str) -> Array:
    """Drop-in for reference_rnn.rnn: one block for each sample."""
    if not _fits(2, len(w)):
        return reference_rnn.rnn(x, h, w, nonlinearity)
    y = like(x)
    _per_sample("rnn", 2, y.shape, (x, h, w, y), nonlinearity == "relu")
    return y


@drop_in(reference_rnn.rnn_grad)
def rnn_grad(dy: Array, y: Array, w: Array, nonlinearity: str) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.rnn_grad."""
    if not _fits(2, len(w)):
        return reference_rnn.rnn_grad(dy, y, w, nonlinearity)
    dx, dh = like(y), like(y[0])
    _per_sample("rnn_grad", 2, y.shape, (dy, y, w, dx, dh), nonlinearity == "relu")
    return dx, dh


@drop_in(reference_rnn.lstm)
def lstm(x: Array, h: Array, c: Array, w: Array) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.lstm."""
    if not _fits(3, h.shape[1]):
        return reference_rnn.lstm(x, h, c, w)
    y, gates = result(x, (2, len(x), *h.shape)), like(x)
    _per_sample("lstm", 3, y.shape[1:], (x, h, c, w, y, gates))
    return y, gates


@drop_in(reference_rnn.lstm_grad)
def lstm_grad(dy: Array, y: Array, gates: Array, c: Array, w: Array) -> tuple[Array, Array, Array]:
    """Drop-in for reference_rnn.lstm_grad."""
    if not _fits(6, c.shape[1]):
        return reference_rnn.lstm_grad(dy, y, gates, c, w)
    dx, dh, dc = like(gates), like(c), like(c)
    _per_sample("lstm_grad", 6, y.shape[1:], (dy, y, gates, c, w, dx, dh, dc))
    return dx, dh, dc


@drop_in(reference_rnn.gru)
def gru(x: Array, h: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.gru."""
    if not _fits(2, h.shape[1]):
        return reference_rnn.gru(x, h, w, b)
    (n, hidden), steps = h.shape, len(x)
    y, gates = result(x, (steps, n, hidden)), result(x, (steps, n, 4 * hidden))
    _per_sample("gru", 2, y.shape, (x, h, w, b, y, gates))
    return y, gates


@drop_in(reference_rnn.gru_grad)
def gru_grad(dy: Array, y: Array, gates: Array, h: Array, w: Array) -> tuple[Array, Array, Array]:
    """Drop-in for reference_rnn.gru_grad."""
    if not _fits(4, h.shape[1]):
        return reference_rnn.gru_grad(dy, y, gates, h, w)
    shape = *y.shape[:2], 3 * y.shape[2]
    dx, du = (result(y, shape) for _ in range(2))
    dh = like(h)
    _per_sample("gru_grad", 4, y.shape, (dy, y, gates, h, w, dx, du, dh))
    return dx, du, dh
