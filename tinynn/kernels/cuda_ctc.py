"""CUDA drop-ins for the CTC loss: one launch forward, one backward, however many the steps."""

from __future__ import annotations

import numpy as np

from tinynn.kernels import reference_ctc
from tinynn.kernels.cuda_launch import drop_in, int32, kernel, like, result
from tinynn.kernels.reference import Array, namespace

FILE = "ctc"
MOST_STATES = 2000  # of a sample; three numbers for each fill a block's shared memory


@drop_in(reference_ctc.ctc_loss)
def ctc_loss(
    log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int
) -> tuple[Array, Array]:
    """Drop-in for reference_ctc.ctc_loss."""
    (t, n, _), states = log_probs.shape, 2 * targets.shape[1] + 1
    if states > MOST_STATES:
        return reference_ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank)
    losses, alpha = result(log_probs, (n,)), result(log_probs, (t, n, states))
    labelling = _integers(targets, input_lengths, target_lengths)
    _per_sample("ctc_loss", log_probs, (log_probs, *labelling, losses, alpha), targets, blank)
    return losses, alpha


@drop_in(reference_ctc.ctc_loss_grad)
def ctc_loss_grad(
    dlosses: Array,
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int,
    losses: Array,
    alpha: Array,
) -> Array:
    """Drop-in for reference_ctc.ctc_loss_grad."""
    if alpha.shape[2] > MOST_STATES:
        return reference_ctc.ctc_loss_grad(
            dlosses, log_probs, targets, input_lengths, target_lengths, blank, losses, alpha
        )
    dx, labelling = like(log_probs), _integers(targets, input_lengths, target_lengths)
    arrays = dlosses, log_probs, *labelling, losses, alpha, dx
    _per_sample("ctc_loss_grad", log_probs, arrays, targets, blank)
    return dx


def _integers(*arrays: Array) -> list[Array]:
    """The arrays in int64."""
    return [array.astype(np.int64, copy=False) for array in arrays]


def _per_sample(
    name: str, log_probs: Array, arrays: tuple[Array, ...], targets: Array, blank: int
) -> None:
    """Launch a kernel with one block for each sample and, up to a limit, one thread for a state."""
    labels = targets.shape[1]
    states = 2 * labels + 1
    threads = min(256, -(-states // 32) * 32)
    sizes = map(int32, (*log_probs.shape, labels, blank))
    launch = kernel(namespace(log_probs), FILE, name)
    launch((log_probs.shape[1],), (threads,), (*arrays, *sizes), shared_mem=3 * 8 * states)
