"""Compiles CUDA C as C++ and launches its kernels on the CPU: the Python side of `emulator.h`."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("emulator.h")
COMPILERS = "g++", "clang++"
TRAPS = "alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero"
FLAGS = [
    "-std=c++17", "-O1", "-shared", "-fPIC", "-w", "-x", "c++", f"-I{HEADER.parent}",
    "-fvisibility=hidden", "-fno-gnu-unique",  # each library has its own threads and kernels
    "-U_FORTIFY_SOURCE",  # which would take the jump from fiber to fiber for an attack
    f"-fsanitize={TRAPS}", "-fsanitize-undefined-trap-on-error",
]  # fmt: skip
MOST_THREADS, MOST_SHARED, MOST_SHARED_ASKED = 1024, 48 << 10, 227 << 10
PAGE, NO_ACCESS = mmap.PAGESIZE, 0
LIBRARIES = tempfile.TemporaryDirectory(prefix="tinynn-emulated-")  # of this run of the tests

_compilers = ThreadPoolExecutor(2)
_libraries = itertools.count()
_seeds = itertools.count()  # each launch has another schedule; a run of tests repeats itself


class KernelError(RuntimeError):
    """A kernel did what a GPU does not define, or was launched with arguments it does not take."""


def compiler() -> str | None:
    """The C++ compiler found here."""
    return next(filter(shutil.which, COMPILERS), None)


def compile_source(code: str, options: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of all `extern "C" __global__` kernels in CUDA C source."""
    return begin_compilation(code, options).result()


@cache
def begin_compilation(code: str, options: tuple[str, ...] = ()) -> Future[ctypes.CDLL]:
    """The same, made in another thread: two compilers run side by side."""
    return _compilers.submit(_compile, code, options)


def _compile(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    names = re.findall(
        r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)', code
    )
    entries = "\n".join(f'static int enter_{n} = emulator::enter<{n}>("{n}", {n});' for n in names)
    command = [compiler() or COMPILERS[0], *FLAGS, *options]
    library = f"{LIBRARIES.name}/{next(_libraries)}.so"
    finished = subprocess.run(
        [*command, "-o", library, "-"], input=code + entries, capture_output=True, text=True
    )
    if finished.returncode:
        raise KernelError(f"{' '.join(command)}:\n{finished.stderr}")
    loaded = ctypes.CDLL(library)
    loaded.emulated_parameters.restype = loaded.emulated_launch.restype = ctypes.c_char_p
    return loaded


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


@contextmanager
def guarded(array: np.ndarray, before: bool) -> Iterator[int]:
    """The address of a copy of an array next to a page that must not be touched: `before` it, or
    behind its end. The copy is written back."""
    size = -(-(array.nbytes + 16) // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)  # kept alive until the end
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + size):
        _libc.mprotect(page, PAGE, NO_ACCESS)
    # Arrays of a GPU begin on 256 bytes; behind the end the guard can only come to within those 16
    # that vector accesses need.
    ahead = array.ctypes.data % 16  # views begin anywhere
    offset = ahead if before else (size - array.nbytes - ahead) // 16 * 16 + ahead
    ctypes.memset(start + PAGE, 0xFF, size)
    copy = np.ctypeslib.as_array(
        ctypes.cast(start + PAGE + offset, ctypes.POINTER(ctypes.c_uint8)), (array.nbytes,)
    )
    copy[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    try:
        yield start + PAGE + offset
        tail = size - offset - array.nbytes
        if ctypes.string_at(start + PAGE + offset + array.nbytes, tail) != b"\xff" * tail:
            raise KernelError("a write behind the end of an array")
        if array.flags.writeable:
            array.reshape(-1).view(np.uint8)[:] = copy
    finally:
        del copy
        for page in (start, start + PAGE + size):
            _libc.mprotect(page, PAGE, mmap.PROT_READ | mmap.PROT_WRITE)


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    shared: int = 0,
    seed: int | None = None,
) -> None:
    """Run a kernel over NumPy arrays (its pointers) and NumPy numbers (the rest).

    KernelError for a launch that a GPU refuses, arguments of other types than the kernel's, and
    for what `emulator.h` lists.
    """
    seed = next(_seeds) if seed is None else seed
    check(library, kernel, grid, block, arguments, shared)
    pointers = (ctypes.c_void_p * len(arguments))()
    with ExitStack() as stack:
        copies: dict[int, int] = {}  # an array given twice stays one array
        values = []
        for a in arguments:
            if isinstance(a, np.ndarray):
                if a.ctypes.data not in copies:
                    copy = guarded(a, before=bool(seed & 1))
                    copies[a.ctypes.data] = stack.enter_context(copy)
                a = np.uint64(copies[a.ctypes.data])
            values.append(np.array(a))
        for i, value in enumerate(values):
            pointers[i] = value.ctypes.data
        problem = library.emulated_launch(
            kernel.encode(), (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block),
            ctypes.c_size_t(shared), pointers, ctypes.c_uint(seed),
        )  # fmt: skip
        if problem:
            raise KernelError(f"{kernel}: {problem.decode()}")


def check(
    library: ctypes.CDLL,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    shared: int,
) -> None:
    """KernelError for arguments of other types than the kernel's, or a size that no GPU takes."""
    expected = library.emulated_parameters(kernel.encode()).decode().split()
    given = [a.dtype.name + ("*" if isinstance(a, np.ndarray) else "") for a in arguments]
    if expected != given:
        raise KernelError(f"{kernel} takes {expected}, it was given {given}")
    threads = block[0] * block[1] * block[2]
    fits = (
        1 <= threads <= MOST_THREADS
        and min(grid) >= 1
        and grid[0] < 2**31
        and max(grid[1:]) < 2**16
        and shared <= MOST_SHARED_ASKED
    )
    if not fits:
        raise KernelError(
            f"{kernel}: no GPU takes a grid {tuple(grid)} of blocks {tuple(block)} with {shared} "
            "bytes of shared memory"
        )
