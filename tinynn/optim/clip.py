"""Gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

from tinynn.tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together, in place, so that their joint 2-norm is at most `max_norm`.

    Returns the norm before. Source: Pascanu et al. 2013, algorithm 1.
    """
    if max_norm <= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be positive, not {max_norm}")
    params = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in params if p.grad is not None]
    total = sum(float((g.astype("float64") ** 2).sum()) for g in grads) ** 0.5
    if total > max_norm:
        for g in grads:
            g *= g.dtype.type(max_norm / (total + 1e-6))
    return total
