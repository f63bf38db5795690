"""How many threads the kernels may use, ours or BLAS's: only one of the two has several.

BLAS's threads go on spinning for a tenth of a second after each call, and take the processors from
the next kernel. So once our own kernels are in use, BLAS, which does small products and what we
have no kernel for, has one thread.
"""

from __future__ import annotations

import os
import threading
from array import array
from typing import Any

from threadpoolctl import threadpool_limits


class ForkSafeLock:
    """A lock that a forked child finds open: whoever held it at the fork is not there to let go."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self.lock.release()


def usable_cpus() -> int:
    """The processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


count = array("q", [usable_cpus()])  # where compiled code can read it
_blas_alone = True  # until our own kernels are in use


def get_num_threads() -> int:
    """The number of threads a kernel uses."""
    return count[0]


def set_num_threads(n: int) -> None:
    """Let kernels use `n` threads, from 1 to the processors there are.

    Results are bit for bit the same for the same number of threads. Raises ValueError otherwise.
    """
    if not isinstance(n, int) or not 1 <= n <= usable_cpus():
        raise ValueError(f"set_num_threads: {n!r} is not from 1 to {usable_cpus()}, the processors")
    count[0] = n
    limit_blas()


def take_threads_from_blas() -> None:
    """From now on only our own kernels, which ask `get_num_threads` at each call, have several."""
    global _blas_alone
    _blas_alone = False
    limit_blas()


def limit_blas() -> None:
    threadpool_limits(count[0] if _blas_alone else 1, user_api="blas")
