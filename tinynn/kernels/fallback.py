"""When a fast kernel gives way to the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K", bound=Callable[..., Any])


def float32_only(fallback: Callable[..., Any]) -> Callable[[K], K]:
    """Use the decorated kernel for contiguous float32 arrays and the reference for all others."""

    # Rates and step counts are float64 for every dtype of weights.
    numbers = [name in ("lr", "step") for name in inspect.signature(fallback).parameters]

    def decorate(fast: K) -> K:
        @wraps(fast)
        def kernel(*args: Any) -> Any:
            if all(n or _fits(a) for n, a in zip(numbers, args) if isinstance(a, np.ndarray)):
                return fast(*args)
            return fallback(*args)

        return kernel  # type: ignore[return-value]

    return decorate


def _fits(array: np.ndarray) -> bool:
    """Floating-point arrays must be contiguous float32; integer ones (pool taps) are the
    kernel's own business."""
    if array.dtype.kind != "f":
        return True
    return array.dtype == np.float32 and array.flags.c_contiguous
