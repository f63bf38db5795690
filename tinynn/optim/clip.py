"""Gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

from tinynn.kernels.reference import namespace
from tinynn.tensor import Tensor


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together, in place, so that their joint 2-norm is at most `max_norm`.

    Returns the norm before, of no axis: a GPU is not waited for. Source: Pascanu et al. 2013,
    algorithm 1.
    """
    if max_norm <= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be positive, not {max_norm}")
    params = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return Tensor(0.0)
    xp = namespace(grads[0])
    total = sum((g.astype("float64") ** 2).sum() for g in grads) ** 0.5
    scale = xp.where(total > max_norm, max_norm / (total + 1e-6), 1.0)
    for g in grads:
        g *= scale.astype(g.dtype)
    return Tensor(xp.asarray(total))
