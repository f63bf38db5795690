"""How many threads the kernels may use: one number for numba's loops and for BLAS."""

from __future__ import annotations

import os
import sys

from threadpoolctl import threadpool_limits


def usable_cpus() -> int:
    """The processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_count = usable_cpus()


def get_num_threads() -> int:
    """The number of threads a kernel uses."""
    return _count


def set_num_threads(n: int) -> None:
    """Let kernels (numba and BLAS) use `n` threads, from 1 to the processors there are.

    Results are bit for bit the same for the same number of threads. Raises ValueError otherwise.
    """
    global _count
    if not isinstance(n, int) or not 1 <= n <= usable_cpus():
        raise ValueError(f"set_num_threads: {n!r} is not from 1 to {usable_cpus()}, the processors")
    _count = n
    apply_num_threads()


def apply_num_threads() -> None:
    """Tell the libraries that are loaded; numba's kernels call this when they are first loaded."""
    threadpool_limits(_count, user_api="blas")
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(_count, numba.config.NUMBA_NUM_THREADS))
