"""Connectionist temporal classification (CTC): the loss of a labelling nobody has aligned.

A network says at each of T steps which sign it sees, or none: the *blank*. A path, one sign a
step, reads as the labelling that remains when repeats are merged and blanks then dropped:
`_ 7 7 _ 7 1` reads 771. A labelling's probability is the sum over all its paths. They are paths
through 2 S + 1 states, the labels with a blank before, between and behind:

    _  7  _  7  _  1  _         stay, go on by one, or skip a blank between two different labels

Legend: `T` steps, `N` samples, `C` signs, `S` labels (padded, with the blank, to the longest),
`W` = 2 S + 1 states. Everything is the logarithm of a probability, for they are tiny.

Source: Graves, Fernandez, Gomez and Schmidhuber 2006, section 4.1.
"""

from __future__ import annotations

import math

import numpy as np

from tinynn.kernels.reference import Array, kernel, namespace

# Without warnings of a NaN among the inputs, or of -inf + inf where a labelling cannot be read.
QUIET = np.errstate(invalid="ignore")


@kernel
@QUIET
def ctc_loss(
    log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int
) -> tuple[Array, Array]:
    """losses[n] = -log p(labelling n); alpha[t,n,s] = log p(all ways to state s, steps 0..t).

    log_probs (T, N, C), targets (N, S), lengths (N,), integers -> losses (N,), alpha (T, N, W).
    A labelling that no path reads as has probability 0 and loss inf.
    """
    xp = namespace(log_probs)
    states, skips = ctc_states(targets, blank)
    emitted = xp.take_along_axis(log_probs, states[None], axis=2)  # (T, N, W)
    alpha = xp.full(emitted.shape, -math.inf, log_probs.dtype)
    alpha[0, :, :2] = emitted[0, :, :2]
    for t in range(1, len(alpha)):
        stay = alpha[t - 1]
        skip = xp.where(skips, shifted(stay, 2), -math.inf)
        alpha[t] = emitted[t] + xp.logaddexp(xp.logaddexp(stay, shifted(stay, 1)), skip)

    sample, end = xp.arange(len(targets)), 2 * target_lengths  # the last blank's state
    last = alpha[input_lengths - 1, sample]  # (N, W)
    at_label = xp.where(target_lengths > 0, last[sample, xp.maximum(end - 1, 0)], -math.inf)
    losses = -xp.logaddexp(last[sample, end], at_label)
    no_step = xp.where(target_lengths > 0, math.inf, 0)  # reads as the empty labelling
    return xp.where(input_lengths > 0, losses, no_step).astype(log_probs.dtype), alpha


@kernel
@QUIET
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
    """dlog_probs[t,n,c] = -dlosses[n] p(path n is at sign c in step t | it reads as labelling n).

    beta[n,s] = log p(all ways from state s to an end, steps t+1..), backwards in t; so
    exp(alpha + beta + loss) is the probability of state s in step t, given the labelling.
    NaN for a sample of infinite loss.
    """
    xp = namespace(log_probs)
    states, skips = ctc_states(targets, blank)
    emitted = xp.take_along_axis(log_probs, states[None], axis=2)  # (T, N, W)
    place, end = xp.arange(states.shape[1]), 2 * target_lengths[:, None]
    ends = xp.where((place == end) | (place == end - 1), 0.0, -math.inf).astype(log_probs.dtype)
    beta = xp.full(states.shape, -math.inf, log_probs.dtype)
    occupied = xp.empty_like(alpha)  # the probability of each state
    for t in reversed(range(len(alpha))):
        if t + 1 < len(alpha):
            stay = beta + emitted[t + 1]
            skip = shifted(xp.where(skips, stay, -math.inf), -2)
            beta = xp.logaddexp(xp.logaddexp(stay, shifted(stay, -1)), skip)
        beta = xp.where((input_lengths == t + 1)[:, None], ends, beta)
        occupied[t] = xp.exp(alpha[t] + beta + losses[:, None])
    onehot = states[:, :, None] == xp.arange(log_probs.shape[2])  # (N, W, C)
    seen = occupied.transpose(1, 0, 2) @ onehot.astype(alpha.dtype)  # (N, T, C)
    return xp.ascontiguousarray(-(dlosses[:, None, None] * seen).transpose(1, 0, 2))


def ctc_states(targets: Array, blank: int) -> tuple[Array, Array]:
    """(N, S) labels -> the sign of each state (N, W), and whether the way there from two states
    before is open: to a label that differs from the label before it."""
    xp = namespace(targets)
    n, s = targets.shape
    states = xp.full((n, 2 * s + 1), blank, targets.dtype)
    states[:, 1::2] = targets
    skips = xp.zeros(states.shape, bool)
    skips[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    return states, skips


def shifted(x: Array, by: int) -> Array:
    """(N, W): each number moved `by` states on, back if negative; -inf comes in."""
    y = namespace(x).full_like(x, -math.inf)
    if by > 0:
        y[:, by:] = x[:, :-by]
    else:
        y[:, :by] = x[:, -by:]
    return y
