"""Arithmetic on large arrays of one shape. Drop-ins for the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cpu_loops import elementwise
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty_like

Array = Any
SMALL = 1 << 14  # elements; fewer NumPy adds before a job is started


@elementwise("y")
def add_loop(a, b):
    return a + b


@float32_only(reference.add)
def add(a: Array, b: Array) -> Array:
    """Drop-in for reference.add: large arrays of one shape on all threads."""
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    if not arrays or a.shape != b.shape or a.dtype != b.dtype or a.size < SMALL:
        return reference.add(a, b)
    y = empty_like(a)
    add_loop(a=a, b=b, y=y)
    return y
