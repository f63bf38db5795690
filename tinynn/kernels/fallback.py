"""When a fast kernel gives way to the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K", bound=Callable[..., Any])
FLOAT32 = np.dtype(np.float32)  # mostly this very object, which is quicker to compare

# Parameters that are not float32: float64 for every dtype of weights; and integers of any size.
RATES = "lr", "step"
INTEGERS = (
    "labels", "targets", "input_lengths", "target_lengths", "tap", "bits", "images", "chosen",
    "batches",
)  # fmt: skip


def float32_only(fallback: Callable[..., Any]) -> Callable[[K], K]:
    """Use the decorated kernel for contiguous float32 arrays and the reference for all others."""

    checked = kinds_taken(fallback)

    def decorate(fast: K) -> K:
        @wraps(fast)
        def kernel(*args: Any) -> Any:
            for a, kinds in zip(args, checked):
                if kinds and isinstance(a, np.ndarray):
                    fits = a.dtype is FLOAT32 and a.flags.c_contiguous  # nearly always
                    if not (fits or _fits(a, kinds)):
                        return fallback(*args)
            return fast(*args)

        kernel.kinds = checked  # type: ignore[attr-defined]
        return kernel  # type: ignore[return-value]

    return decorate


def kinds_taken(kernel: Callable[..., Any]) -> list[str]:
    """For each parameter of a kernel the kinds of numbers that its array may hold, by the letters
    of `dtype.kind`; none if it may hold any, or is no array."""
    return [
        "" if p.name in RATES or not p.annotation.startswith("Array")
        else "iu" if p.name in INTEGERS
        else "f"
        for p in inspect.signature(kernel).parameters.values()
    ]  # fmt: skip


def _fits(array: np.ndarray, kinds: str) -> bool:
    """Numbers must be contiguous float32; integers are the kernel's own business."""
    if array.dtype == FLOAT32:
        return array.flags.c_contiguous
    return kinds == "iu" and array.dtype.kind in kinds
