"""Compiled kernels over several threads, cheap to compile and quick to start.

A kernel is a serial function `kernel(lo, hi, thread, job)`: it does tasks lo..hi-1 of a job, a
record of addresses and sizes. `cpu_launch` fills the record in, and the threads of `cpu_threads`
share the tasks out and call the kernel by its address. (With `prange` inside each kernel, numba
takes four times as long to compile it.)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from tinynn.kernels.cpu_launch import WORDS, functions_of, table_of
from tinynn.kernels.cpu_llvm import INT, version
from tinynn.kernels.cpu_python import DATA, word
from tinynn.kernels.memory import zeros

ANY = 1 << 32  # threads: as many as there are

# ---------------------------------------------------------------------------------------------
# Jobs and kernels
# ---------------------------------------------------------------------------------------------


def job_type(fields: str) -> np.dtype:
    """A record of int64 `fields`: addresses, sizes, and bits of floats.

    It is part of a kernel's signature, and so is `version`, as in `function_of_integers`.
    """
    names = [*fields.split(), f"version_{version()}"]
    return np.dtype([(name, np.int64) for name in names])


class Job:
    """A record for kernels: sizes as they are, arrays by their address (and kept alive), None as 0.

    What depends on shapes only is filled in once, and kept; `run` adds the arrays of a call.
    `threads`: the most that may do it, where memory is shared out among so many: the number of
    threads for kernels may be set anew at any time. `flags`: so many zeros, for the kernel to mark
    what it has done, follow the fields in every copy.

    run(kernel, tasks, quick, ..., **fields): with these fields, in a copy of the record, do all
    tasks of one kernel, and then of the next: on all threads, or on this one if they are `quick`,
    since to wake another takes some microseconds.
    """

    __slots__ = ("kept", "names", "record", "run", "table", "write")

    def __init__(self, kind: np.dtype, threads: int = ANY, flags: int = 0, **fields: Any):
        self.names = [sys.intern(name) for name in kind.names or ()]
        self.kept: list[dict[str, Any]] = []
        self.begin(table_of(self.names, len(self.names) + flags, threads))
        self.fill(**fields)

    def begin(self, table: np.ndarray) -> None:
        """Have this table, at whose end the record is."""
        self.table, self.record = table, table[-int(table[WORDS]) :]
        self.write, self.run = functions_of(table)

    def fill(self, **fields: Any) -> None:
        """Fill in some more fields."""
        self.kept.append(fields)
        self.write(**fields)

    def bind(self, **fields: Any) -> Job:
        """A copy with some more fields. (Keep this job while the copy is used.)"""
        copy = Job.__new__(Job)
        copy.names, copy.kept = self.names, []
        copy.begin(self.table.copy())
        copy.fill(**fields)
        return copy

    @property
    def address(self) -> int:
        """For kernels that are given this job by another's."""
        return address(self.record)


def address(array: np.ndarray) -> int:
    """Where its elements begin. (`.ctypes` takes 2 us.)"""
    return word(array, DATA)


class Kernel(int):
    """A compiled kernel: its address."""

    compiled: Any  # the owner of the code


def kernel(job: np.dtype) -> Callable[[Callable[..., None]], Kernel]:
    """Compile `kernel(lo, hi, thread, job)`; inside, `carray(job, 1)[0]` is the record."""
    pointer = types.CPointer(numba.from_dtype(job))
    signature = types.void(types.int64, types.int64, types.int64, pointer)
    compiled = numba.cfunc(signature, cache=True, error_model="numpy")

    def compile_kernel(function: Callable[..., None]) -> Kernel:
        code = compiled(function)
        kernel = Kernel(code.address)
        kernel.compiled = code
        return kernel

    return compile_kernel


@intrinsic
def flags(typing_context, job):
    """In a kernel, the address of the flags (int64) that follow the fields of a job."""

    def generate(context, builder, signature, arguments):
        return builder.ptrtoint(builder.gep(arguments[0], [INT(1)]), INT)

    return types.int64(job), generate


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
