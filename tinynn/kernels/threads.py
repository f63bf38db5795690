"""How many threads the kernels may use: one number for ours and for BLAS."""

from __future__ import annotations

import os

from threadpoolctl import threadpool_limits


def usable_cpus() -> int:
    """The processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_count = usable_cpus()


def get_num_threads() -> int:
    """The number of threads a kernel uses."""
    return _count


def set_num_threads(n: int) -> None:
    """Let kernels (our own and BLAS) use `n` threads, from 1 to the processors there are.

    Results are bit for bit the same for the same number of threads. Raises ValueError otherwise.
    """
    global _count
    if not isinstance(n, int) or not 1 <= n <= usable_cpus():
        raise ValueError(f"set_num_threads: {n!r} is not from 1 to {usable_cpus()}, the processors")
    _count = n
    apply_num_threads()


def apply_num_threads() -> None:
    """Tell BLAS, which the reference kernels use; ours ask `get_num_threads` at each call."""
    threadpool_limits(_count, user_api="blas")
