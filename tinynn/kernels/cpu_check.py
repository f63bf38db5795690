"""The checks of `fallback.float32_only`, compiled: a step makes them anew before each kernel."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from tinynn.kernels.cpu_llvm import function_of_integers, load_int
from tinynn.kernels.cpu_python import (
    ARRAY,
    CONTIGUOUS,
    DATA,
    DTYPE,
    FLAGS,
    FLOAT32,
    KIND,
    VECTORCALL,
    function_of,
    is_a,
    method,
    pass_on,
    python,
)

PYTHON, FAST, SLOW, COUNT, PARAMETERS = range(5)  # places in a table
ANYTHING, FLOATS, INTEGERS = range(3)  # what an array for a parameter may hold
SIGNED, UNSIGNED = map(ord, "iu")


@function_of_integers(4, types.int64)
def check(this, arguments, positional, keywords, version):
    """Call the fast function if all arrays are as it wants them for certain; if not, the slow one,
    which looks closer. See `cpu_python.Method`."""
    table = load_int(this, DATA)
    python, function = load_int(table, PYTHON), load_int(table, FAST)
    for i in range(min(positional, load_int(table, COUNT))):
        value, wanted = load_int(arguments, i), load_int(table, PARAMETERS + i)
        if wanted != ANYTHING and is_a(python, value, ARRAY):
            dtype = load_int(value, DTYPE)
            if dtype == load_int(python, FLOAT32):
                fits = load_int(value, FLAGS) & CONTIGUOUS != 0
            else:
                kind = load_int(dtype, KIND) & 255
                fits = wanted == INTEGERS and kind in (SIGNED, UNSIGNED)
            if not fits:
                function = load_int(table, SLOW)
    return pass_on(python, VECTORCALL, function, arguments, positional, keywords)


_kept: list[Any] = []  # what compiled code knows by address


def with_compiled_checks(kernel: Callable[..., Any]) -> Any:
    """A kernel that `float32_only` has decorated, or any other as it is."""
    if not hasattr(kernel, "kinds"):
        return kernel
    parameters = [
        p.replace(annotation=p.empty) for p in inspect.signature(kernel).parameters.values()
    ]
    head = f"{kernel.__name__}{inspect.Signature(parameters)}"
    checked = method(kernel.__name__, check, f"{head}\n--\n\n{kernel.__doc__}")
    _kept.append((kernel, checked))
    wanted = [{"": ANYTHING, "f": FLOATS, "iu": INTEGERS}[kinds] for kinds in kernel.kinds]
    functions = id(kernel.__wrapped__), id(kernel)  # type: ignore[attr-defined]
    table = [python.ctypes.data, *functions, len(wanted), *wanted]
    return function_of(checked, np.array(table, np.int64))
