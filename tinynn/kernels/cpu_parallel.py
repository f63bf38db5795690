"""Compiled kernels over several threads, cheap to compile and quick to start.

A kernel is a serial function `kernel(lo, hi, thread, job)`: it does tasks lo..hi-1 of a job, a
record of addresses and sizes. One driver, compiled once, hands each thread an equal range of the
tasks and calls the kernel by its address. (With `prange` inside each kernel, numba takes four
times as long to compile it.)
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from ctypes import addressof, c_char
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from tinynn.kernels import numba_setup  # noqa: F401 (chooses OpenMP before the first parallel call)
from tinynn.kernels.threads import get_num_threads

# ---------------------------------------------------------------------------------------------
# Jobs and kernels
# ---------------------------------------------------------------------------------------------


def job_type(fields: str) -> np.dtype:
    """A record of int64 `fields` (addresses, sizes).

    numba keeps compiled kernels on disk and compiles anew when their own file changes, but does
    not see a change in what they call from other files. The record is part of a kernel's
    signature, so a field named after the text of those files makes it see.
    """
    return np.dtype([(name, np.int64) for name in [*fields.split(), _version()]])


@cache
def _version() -> str:
    files = [Path(__file__).with_name(f"cpu_{name}.py") for name in ("parallel", "microkernel")]
    return "version_" + hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


class Job:
    """A record for kernels: sizes as they are, arrays by their address (and kept alive).

    What depends on shapes only is filled in once, and kept; `bind` adds the arrays of a call.
    """

    def __init__(self, kind: np.dtype, record: np.ndarray | None = None, **fields: Any):
        self.kind = kind
        names = kind.names or ()
        self.record = np.zeros(len(names), np.int64) if record is None else record
        self.arrays = [value for value in fields.values() if isinstance(value, np.ndarray)]
        for name, value in fields.items():
            self.record[names.index(name)] = _number(value)

    def bind(self, **fields: Any) -> Job:
        """A copy with some more fields. (Keep this job while the copy is used.)"""
        return Job(self.kind, self.record.copy(), **fields)

    @property
    def address(self) -> int:
        return _number(self.record)


def _number(value: Any) -> int:
    if not isinstance(value, np.ndarray):
        return value
    if value.size and value.flags.c_contiguous and value.flags.writeable:
        buffer: Any = value
        return addressof(c_char.from_buffer(buffer))  # three times as fast as .ctypes
    return value.ctypes.data


def kernel(job: np.dtype) -> Callable[[Callable[..., None]], Any]:
    """Compile `kernel(lo, hi, thread, job)`; inside, `carray(job, 1)[0]` is the record."""
    pointer = types.CPointer(numba.from_dtype(job))
    signature = types.void(types.int64, types.int64, types.int64, pointer)
    return numba.cfunc(signature, cache=True, error_model="numpy")


@intrinsic
def call_kernel(typing_context, kernel, lo, hi, thread, job):
    """kernel(lo, hi, thread, job), for its address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def run(kernel: Any, job: Job, tasks: int, *, quick: bool = False) -> None:
    """Do all `tasks` of a job: on all threads, or on this one if they are `quick` (some 0.1 ms:
    starting and joining threads costs about 10 us, and far more while others want the cores)."""
    threads = 1 if quick else min(get_num_threads(), tasks)
    if threads > 1:
        _run(kernel.address, job.address, tasks, threads)
    elif tasks:
        kernel.ctypes(0, tasks, 0, job.address)


@njit(types.void(*[types.int64] * 4), parallel=True, nogil=True, cache=True)
def _run(kernel, job, tasks, threads):
    for thread in prange(threads):
        call_kernel(kernel, tasks * thread // threads, tasks * (thread + 1) // threads, thread, job)


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
        memory = np.zeros(count + 16, np.float32)
        kept[name] = memory[-memory.ctypes.data // 4 % 16 :]
    return kept[name]


def release_scratch() -> None:
    """Give the calling thread's scratch memory back."""
    vars(_scratch).clear()
