"""How CUDA kernels are found, compiled and launched, and when the reference does their work.

The array library is asked for everything (`namespace(x).RawModule`), so CuPy is not imported here:
a device array brings it along. The sources stand in `cuda/`, one file a theme.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinynn.kernels.fallback import kinds_taken
from tinynn.kernels.reference import Array, namespace

K = TypeVar("K", bound=Callable[..., Any])
SOURCES = Path(__file__).with_name("cuda")
INCLUDE = re.compile(r'#include "(\w+\.cuh)"')
ERROR = re.compile(r"error\s*:")  # NVRTC's and ptxas'
THREADS = 256  # of a block that works element by element
MOST = 2**31 - 2**16  # elements; the kernels count with 32 bits


@cache
def source(name: str) -> str:
    """`cuda/name.cu` with its headers in place. CuPy keeps compiled kernels by their source, and
    would not see a change in a file that is only included; #line keeps errors' lines right."""
    return "\n".join([*_in_place(SOURCES / f"{name}.cu", set()), ""])


def _in_place(file: Path, included: set[Path]) -> Iterator[str]:
    """A file's lines, in each header's place its own, once."""
    if file in included:
        return
    included.add(file)
    yield f'#line 1 "{file}"'
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if header := INCLUDE.fullmatch(line):
            yield from _in_place(SOURCES / header[1], included)
            yield f'#line {number + 1} "{file}"'
        else:
            yield line.replace("#pragma once", "")


NO_MEMORY = 2  # of CUDA's driver: CUDA_ERROR_OUT_OF_MEMORY
PASSING = {NO_MEMORY, *range(900, 909)}  # and what it refuses while a stream is recorded


class CompileError(RuntimeError):
    """A CUDA source that the run-time compiler refuses, or the driver what comes of it."""


class TooLarge(Exception):
    """A result of more elements than the kernels count."""


_reference_allowed = False


def allow_reference(allowed: bool = True) -> None:
    """Let the reference do the work of kernels that cannot be compiled here, with a warning."""
    global _reference_allowed
    _reference_allowed = allowed


@cache
def kernel(xp: Any, file: str, name: str, options: tuple[str, ...] = ()) -> Any:
    """A kernel of a source file. CompileError names the file and the line."""
    made = module(xp, file, options)
    if isinstance(made, str):  # an error kept would keep the arrays of all whom it stopped
        raise CompileError(made)
    return made.get_function(name)


@cache
def module(xp: Any, file: str, options: tuple[str, ...]) -> Any:
    """All kernels of a source file, compiled now; or what is wrong, so that nobody tries again.

    MemoryError or RuntimeError for what is only wrong at present.
    """
    made = xp.RawModule(code=source(file), options=("-std=c++17", *options), backend="nvrtc")
    try:
        made.compile()
    except (xp.cuda.compiler.CompileException, xp.cuda.driver.CUDADriverError) as error:
        status = getattr(error, "status", None)  # the driver's
        if status in PASSING:
            kind = MemoryError if status == NO_MEMORY else RuntimeError
            raise kind(f"the kernels of {SOURCES / file}.cu cannot be loaded: {error}") from None
        lines = str(error).splitlines() or [""]
        first = next(filter(ERROR.search, lines), lines[0])  # of a log that may be long
        return (
            f"{SOURCES / file}.cu cannot be compiled here: {first.strip()}; update CuPy and "
            "NVIDIA's driver, or let slower kernels do its work by --allow-reference"
        )
    return made


def per_element(
    file: str, name: str, n: int, *arguments: Any, options: tuple[str, ...] = ()
) -> None:
    """Launch a kernel with one thread for each of n elements. The first argument is an array."""
    launch = kernel(namespace(arguments[0]), file, name, options)
    launch((-(-n // THREADS),), (THREADS,), arguments)


def drop_in(fallback: Callable[..., Any]) -> Callable[[K], K]:
    """Use the decorated kernel for contiguous float32 arrays that are not empty, and the reference
    for all others and for results that are too large. Rates and steps are float64 and labels
    integers, whatever the weights are."""

    kinds = kinds_taken(fallback)

    def decorate(fast: K) -> K:
        @wraps(fallback)
        def choose(*args: Any) -> Any:
            if all(map(_fits, args, kinds)):
                try:
                    return fast(*args)
                except TooLarge:
                    pass
                except CompileError as error:
                    if not _reference_allowed:
                        raise
                    warnings.warn(str(error), RuntimeWarning, stacklevel=2)
            return fallback(*args)

        return choose  # type: ignore[return-value]

    return decorate


def _fits(argument: Any, kinds: str) -> bool:
    """Whether the kernels take an argument: what is no array, they do. TypeError for an array of
    the host, of which CuPy would give a kernel the one element for a pointer."""
    if not kinds or not hasattr(argument, "flags"):
        return True
    if isinstance(argument, np.ndarray):
        raise TypeError(
            f"a CUDA kernel is given an array {argument.shape} of the host; take it to the device "
            "by backend.asarray"
        )
    fits = argument.dtype == np.float32 if kinds == "f" else argument.dtype.kind in kinds
    return fits and argument.flags.c_contiguous and 0 < argument.size < MOST


def int32(x: int | bool) -> np.int32:
    """A kernel's `int`."""
    return np.int32(x)


def float32(x: float) -> np.float32:
    """A kernel's `float`."""
    return np.float32(x)


def result(x: Array, shape: tuple[int, ...], dtype: Any = None) -> Array:
    """Memory for a result beside x, of its dtype if no other is given. TooLarge for one that the
    kernels cannot count; what is no larger than an argument needs no such look."""
    if math.prod(shape) >= MOST:
        raise TooLarge
    return namespace(x).empty(shape, dtype or x.dtype)


def like(x: Array) -> Array:
    """Memory for a result in the shape of x."""
    return namespace(x).empty(x.shape, x.dtype)
