"""When a fast kernel gives way to the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K", bound=Callable[..., Any])
FLOAT32 = np.dtype(np.float32)  # mostly this very object, which is quicker to compare


def float32_only(fallback: Callable[..., Any]) -> Callable[[K], K]:
    """Use the decorated kernel for contiguous float32 arrays and the reference for all others."""

    # Rates and step counts are float64 for every dtype of weights.
    checked = [
        p.annotation.startswith("Array") and p.name not in ("lr", "step")
        for p in inspect.signature(fallback).parameters.values()
    ]

    def decorate(fast: K) -> K:
        @wraps(fast)
        def kernel(*args: Any) -> Any:
            for a, check in zip(args, checked):
                if check and isinstance(a, np.ndarray):
                    fits = a.dtype is FLOAT32 and a.flags.c_contiguous  # nearly always
                    if not (fits or _fits(a)):
                        return fallback(*args)
            return fast(*args)

        return kernel  # type: ignore[return-value]

    return decorate


def _fits(array: np.ndarray) -> bool:
    """Floating-point arrays must be contiguous float32; integer ones (pool taps) are the
    kernel's own business."""
    if array.dtype == FLOAT32:
        return array.flags.c_contiguous
    return array.dtype.kind != "f"
