"""Loops in plain numba, and Python threads that do their parts side by side.

    @compiled(void(READ, WRITE))                   machine code that lets go of Python's lock
    def double(x, y): ...

    share_out(double, [x, y])                      double(x[lo:hi], y[lo:hi]) in several threads

NumPy and BLAS let go of the lock too, so a part may also be patches and then their product. That is
why numba's own `prange` is not used: it does loops alone, and products would be left to the threads
of BLAS. Those and OpenMP's go on spinning after their work, and each kind takes the processors from
the other. OpenMP's also wait for whichever is late; a process that has used them cannot fork; and
without OpenMP only one thread may call a `prange`, which takes several times as long to compile.
The price is some 50 microseconds to wake a thread: small loops stay with the caller.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numba import config, njit, types

from tinynn.kernels.threads import get_num_threads, usable_cpus

if config.DISABLE_JIT:  # a loop in Python takes a thousand times as long as NumPy's
    raise RuntimeError("NUMBA_DISABLE_JIT is set")

SMALL = 1 << 16  # elements: a loop of fewer is done before another thread is awake
PARTS = 4  # of the work for each thread, so that one who is late does fewer

INT, BOOL, FLOAT = types.int64, types.boolean, types.float32
PAIR = types.UniTuple(INT, 2)


def array(dtype: Any, ndim: int, write: bool = False) -> Any:
    """numba's type for contiguous arrays, wherever they start, to read or also to write."""
    return types.Array(dtype, ndim, "C", readonly=not write, aligned=False)


VECTOR, MATRIX, IMAGES = (array(FLOAT, ndim) for ndim in (1, 2, 4))
NEW_VECTOR, NEW_MATRIX, NEW_IMAGES = (array(FLOAT, ndim, write=True) for ndim in (1, 2, 4))


def compiled(*signatures: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop for arguments of these types, when its file is imported: what numba cannot
    compile here is known at once."""
    options: Any = {"error_model": "numpy", "fastmath": {"contract"}}  # a b + c in one rounding
    return njit(list(signatures), nogil=True, cache=True, **options)


def in_parts(
    size: int, function: Callable[[int, int], Any], parallel: bool = True, parts: int = PARTS
) -> None:
    """function(lo, hi) for so many parts a thread of 0 to size - 1, side by side; unless `parallel`
    all in one call.

    The caller works as well, and waits only for parts that another thread has begun.
    """
    threads = get_num_threads() if parallel else 1
    number = min(size, 1 if threads == 1 else threads * parts)
    todo = deque((size * i // number, size * (i + 1) // number) for i in range(number))

    def work() -> None:
        while True:
            try:
                lo, hi = todo.popleft()
            except IndexError:
                return
            function(lo, hi)

    helpers = [submit(work) for _ in range(min(threads, number) - 1)]
    work()
    for helper in helpers:
        if helper is not None and not helper.cancel():
            helper.result()


def share_out(loop: Any, arrays: Sequence[Any], *others: Any) -> None:
    """loop(*arrays, *others), cut along the arrays' first axis. None stays None."""

    def part(lo: int, hi: int) -> None:
        loop(*(None if a is None else a[lo:hi] for a in arrays), *others)

    in_parts(len(arrays[0]), part, arrays[0].size >= SMALL)


def submit(work: Callable[[], None]) -> Future[None] | None:
    """None while Python ends: then the caller does all."""
    try:
        return _pool.submit(work)
    except RuntimeError:
        return None


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, usable_cpus() - 1), "tinynn")


def _renew() -> None:
    global _pool
    _pool = _new_pool()


_pool = _new_pool()
if hasattr(os, "register_at_fork"):  # a child has the pool, but none of its threads
    os.register_at_fork(after_in_child=_renew)
