"""Compiled kernels over several threads, cheap to compile and quick to start.

A kernel is a serial function `kernel(lo, hi, thread, job)`: it does tasks lo..hi-1 of a job, a
record of addresses and sizes. The threads of `cpu_threads` share the tasks out and call the kernel
by its address. (With `prange` inside each kernel, numba takes four times as long to compile it.)
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from ctypes import c_float, c_int32, c_int64
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from tinynn.kernels import cpu_threads
from tinynn.kernels.cpu_llvm import INT, version
from tinynn.kernels.memory import zeros
from tinynn.kernels.threads import get_num_threads

# ---------------------------------------------------------------------------------------------
# Jobs and kernels
# ---------------------------------------------------------------------------------------------


def job_type(fields: str) -> np.dtype:
    """A record of int64 `fields`: addresses, sizes, and bits of floats; see `write`.

    It is part of a kernel's signature, and so is `version`, as in `function_of_integers`.
    """
    names = [*fields.split(), f"version_{version()}"]
    return np.dtype([(name, np.int64) for name in names])


class Job:
    """A record for kernels: sizes as they are, arrays by their address (and kept alive), None as 0.

    What depends on shapes only is filled in once, and kept; `bind` adds the arrays of a call.
    `threads`: the most that may do it, where memory is shared out among so many: the number of
    threads for kernels may be set anew at any time. `flags`: so many zeros, for the kernel to mark
    what it has done, follow the fields in every copy.
    """

    __slots__ = ("kept", "places", "record", "threads")

    def __init__(self, kind: np.dtype, threads: int | None = None, flags: int = 0, **fields: Any):
        self.threads = threads
        self.places = {name: i for i, name in enumerate(kind.names or ())}
        # quicker to fill than an ndarray
        self.record = array("q", bytes(kind.itemsize + 8 * flags))
        self.kept: list[dict[str, Any]] = []
        self.fill(**fields)

    def fill(self, **fields: Any) -> None:
        """Fill in some more fields."""
        self.kept.append(fields)
        write(fields, self.record, self.places)

    def bind(self, **fields: Any) -> Job:
        """A copy with some more fields. (Keep this job while the copy is used.)"""
        copy = Job.__new__(Job)
        copy.places, copy.record, copy.kept = self.places, self.record[:], [fields]
        copy.threads = self.threads
        write(fields, copy.record, copy.places)
        return copy

    @property
    def address(self) -> int:
        return self.record.buffer_info()[0]


def write(fields: dict[str, Any], record: array[int], places: dict[str, int]) -> None:
    """Fill in fields of a record. (Called so often that it calls little itself.)"""
    for name, value in fields.items():
        if isinstance(value, ndarray):
            value = int_at(id(value) + HEADER).value  # `address`, but for the call
        elif value is None:
            value = 0
        elif isinstance(value, float):
            value = float_bits(value)
        record[places[name]] = value


@lru_cache(maxsize=256)
def float_bits(value: float) -> int:
    """The bits of a float32. (Too large a number becomes infinity.)"""
    return c_int32.from_buffer(c_float(value)).value


def address(array: np.ndarray) -> int:
    """Where its elements begin: the first field of NumPy's C structure, after Python's own."""
    return int_at(id(array) + HEADER).value  # .ctypes takes 2 us


ndarray = np.ndarray
HEADER, int_at = object.__basicsize__, c_int64.from_address


def kernel(job: np.dtype) -> Callable[[Callable[..., None]], Any]:
    """Compile `kernel(lo, hi, thread, job)`; inside, `carray(job, 1)[0]` is the record."""
    pointer = types.CPointer(numba.from_dtype(job))
    signature = types.void(types.int64, types.int64, types.int64, pointer)
    return numba.cfunc(signature, cache=True, error_model="numpy")


@intrinsic
def flags(typing_context, job):
    """In a kernel, the address of the flags (int64) that follow the fields of a job."""

    def generate(context, builder, signature, arguments):
        return builder.ptrtoint(builder.gep(arguments[0], [INT(1)]), INT)

    return types.int64(job), generate


def run(kernel: Any, job: Job, tasks: int, *, quick: bool = False) -> None:
    """Do all `tasks` of a job: on all threads, or on this one if they are `quick`: waking another
    thread takes some microseconds."""
    threads = 1 if quick else min(job.threads or get_num_threads(), tasks)
    if threads > 1:
        cpu_threads.pool.run(kernel.address, job.address, tasks, threads)
    elif tasks:
        kernel.ctypes(0, tasks, 0, job.address)


# ---------------------------------------------------------------------------------------------
# Scratch memory
# ---------------------------------------------------------------------------------------------

_scratch = threading.local()  # two Python threads may convolve at the same time


def scratch(name: str, count: int) -> np.ndarray:
    """At least `count` floats, kept for the next call of that name: fresh memory is slow.

    Starts on a cache line. Contents: whatever the last user left.
    """
    kept = vars(_scratch)
    if name not in kept or kept[name].size < count:
        kept[name] = zeros((count,))
    return kept[name]


def release_scratch() -> None:
    """Give the calling thread's scratch memory back."""
    vars(_scratch).clear()
