"""CUDA drop-ins for the plain recurrence: a whole sequence in one launch.

LSTM and GRU run through the reference, whose products are cuBLAS's: a step with one of them is not
recorded.
"""

from __future__ import annotations

from tinynn.kernels import reference_rnn
from tinynn.kernels.cuda_launch import THREADS, drop_in, int32, kernel, like
from tinynn.kernels.reference import Array, namespace

FILE = "rnn"
MOST_HIDDEN = 6000  # twice as many numbers fill a block's shared memory


@drop_in(reference_rnn.rnn)
def rnn(x: Array, h: Array, w: Array, nonlinearity: str) -> Array:
    """Drop-in for reference_rnn.rnn: one block for each sample."""
    if len(w) > MOST_HIDDEN:
        return reference_rnn.rnn(x, h, w, nonlinearity)
    y = like(x)
    _per_sample("rnn", x, h, w, y, nonlinearity)
    return y


@drop_in(reference_rnn.rnn_grad)
def rnn_grad(dy: Array, y: Array, w: Array, nonlinearity: str) -> tuple[Array, Array]:
    """Drop-in for reference_rnn.rnn_grad."""
    if len(w) > MOST_HIDDEN:
        return reference_rnn.rnn_grad(dy, y, w, nonlinearity)
    dx, dh = like(y), like(y[0])
    _per_sample("rnn_grad", dy, y, w, dx, dh, nonlinearity)
    return dx, dh


def _per_sample(name: str, sequence: Array, *arguments: object) -> None:
    """Launch a kernel with one block for each sample. The last argument is the nonlinearity."""
    *arrays, nonlinearity = arguments
    sizes = map(int32, (*sequence.shape, nonlinearity == "relu"))
    launch = kernel(namespace(sequence), FILE, name)
    shared = 2 * 4 * sequence.shape[2]
    launch((sequence.shape[1],), (THREADS,), (sequence, *arrays, *sizes), shared_mem=shared)
