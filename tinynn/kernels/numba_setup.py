"""How the numba kernels are compiled, and when they give way to the reference."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numba
import numpy as np

K = TypeVar("K", bound=Callable[..., Any])

# The first of these that is installed runs the parallel loops. TBB comes last: it takes up to
# 390 microseconds a loop where OpenMP takes 6, and a training step has 150 loops.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "workqueue", "tbb"]

# A thread that waits for the others sleeps instead of spinning. Where another program has one of
# the cores, a spinning thread takes the time of the very thread it waits for: steps become six
# times as long. OpenMP reads this when the first parallel loop loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def parallel(function: K) -> K:
    """Compile a loop kernel for all threads, cached on disk.

    Reassociation lets sums use vector registers; NaN and infinity keep their meaning.
    """
    relaxed = {"reassoc", "contract", "nsz", "arcp"}
    return numba.njit(parallel=True, cache=True, fastmath=relaxed, error_model="numpy")(function)


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
