"""One call from Python to compiled code runs a job: nothing is interpreted in between.

A step calls a hundred kernels, and what the interpreter does around each, it does on data that the
kernel before has driven out of the caches. So `launch` is compiled, and is called as functions of
C are (`METH_FASTCALL`), with Python's objects as they are:

    job.run(kernel, tasks, quick, x=x, y=y, eps=1e-5)
            |                     |
            whom to call          name -> field, in a copy of the job's record; by this table:

    table   PYTHON THREADS FIELDS WORDS | names of the fields | the record, WORDS long

A name is known by its address: Python keeps the names of arguments but once each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tinynn.kernels import cpu_threads
from tinynn.kernels.cpu_llvm import (
    FLOAT,
    INT,
    INT32,
    element,
    function_of_integers,
    load_int,
    store_int,
)
from tinynn.kernels.cpu_threads import ASKED, CAPACITY, call, call_with_workers, load
from tinynn.kernels.threads import count, get_num_threads

PYTHON, THREADS, FIELDS, WORDS, NAMES = range(5)  # places in a table; THREADS: at most so many

# Places in Python's objects, in words: an object begins with its type, and what follows ...
DATA = object.__basicsize__ // 8  # ... is an array's address, a float's number, a tuple's length
TYPE, ITEMS = DATA - 1, tuple.__basicsize__ // 8

# ---------------------------------------------------------------------------------------------
# Calls of Python's own functions
# ---------------------------------------------------------------------------------------------

(
    # objects
    NONE, ARRAY, FLOAT_TYPE, KEY_ERROR, TYPE_ERROR, USAGE, START,
    # functions
    IS_SUBTYPE, AS_INTEGER, NEW_REFERENCE, ERROR, SET_ERROR, CALL, LEAVE, RETURN,
    # ours
    COUNT, BLOCK, WORKERS,
) = range(18)  # fmt: skip


def start_workers() -> None:
    """As many as are wanted besides the caller."""
    cpu_threads.pool.start(get_num_threads() - 1)


objects = (
    *(None, np.ndarray, float, KeyError, TypeError),
    "run(kernel, tasks, quick, ..., **fields) takes three for each kernel",
    start_workers,
)
functions = (
    "PyType_IsSubtype PyLong_AsLongLong Py_NewRef PyErr_Occurred PyErr_SetObject"
    " PyObject_CallNoArgs PyEval_SaveThread PyEval_RestoreThread"
)
python = np.array(
    [
        *map(id, objects),
        *(
            ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
            for name in functions.split()
        ),
        *(count.buffer_info()[0], cpu_threads.pool.address, call_with_workers.address),
    ],
    np.int64,
)


@intrinsic
def ask(typing_context, python, place, a, b):
    """What the function at a place answers to a, b: an int64, or an address. (A C function ignores
    arguments that it does not have.)"""

    def generate(context, builder, signature, arguments):
        table, place, *given = arguments
        function = builder.load(element(builder, (table, place), INT))
        kind = ir.FunctionType(INT, [INT] * 2)
        return builder.call(builder.inttoptr(function, kind.as_pointer()), given)

    return types.int64(*[types.int64] * 4), generate


@intrinsic
def stack(typing_context, words):
    """The address of so many int64 that are there until the function returns."""

    def generate(context, builder, signature, arguments):
        return builder.ptrtoint(builder.alloca(INT, arguments[0]), INT)

    return types.int64(types.int64), generate


@intrinsic
def float_bits(typing_context, double):
    """From the bits of a float64 those of the float32 next to it."""

    def generate(context, builder, signature, arguments):
        number = builder.fptrunc(builder.bitcast(arguments[0], ir.DoubleType()), FLOAT)
        return builder.zext(builder.bitcast(number, INT32), INT)

    return types.int64(types.int64), generate


@njit
def is_a(python, value, kind):
    """isinstance(value, kind), for the place of a type."""
    given, wanted = load_int(value, TYPE), load_int(python, kind)
    return given == wanted or (ask(python, IS_SUBTYPE, given, wanted) & 1) == 1  # of C's int


@njit
def as_field(python, value):
    """An object as an int64: an array's address, the bits of a float, an integer, None as 0."""
    if value == load_int(python, NONE):
        return 0
    if is_a(python, value, ARRAY):
        return load_int(value, DATA)
    if is_a(python, value, FLOAT_TYPE):
        return float_bits(load_int(value, DATA))
    return ask(python, AS_INTEGER, value, 0)


@njit
def failed(python, number):
    """Whether what became an integer is none: -1 may be one."""
    return number == -1 and ask(python, ERROR, 0, 0) != 0


@njit
def fail(python, kind, what):
    """Raise an error; Python does when 0 is returned."""
    ask(python, SET_ERROR, load_int(python, kind), what)
    return 0


# ---------------------------------------------------------------------------------------------
# The launch
# ---------------------------------------------------------------------------------------------


@function_of_integers(4, types.int64)
def launch(this, arguments, positional, keywords, version):
    """`Job.run`, as C sees it: `this` array is the table, and `keywords` names the last of the
    arguments."""
    table = load_int(this, DATA)
    python, fields, words = load_int(table, PYTHON), load_int(table, FIELDS), load_int(table, WORDS)
    template, record = table + 8 * (NAMES + fields), stack(words)
    for i in range(words):
        store_int(record, i, load_int(template, i))
    for i in range(load_int(keywords, DATA) if keywords else 0):
        name, field = load_int(keywords, ITEMS + i), 0
        while field < fields and load_int(table, NAMES + field) != name:
            field += 1
        if field == fields:
            return fail(python, KEY_ERROR, name)
        number = as_field(python, load_int(arguments, positional + i))
        if failed(python, number):
            return 0
        store_int(record, field, number)

    if positional % 3:
        return fail(python, TYPE_ERROR, load_int(python, USAGE))
    block = load_int(python, BLOCK)
    threads = min(load_int(load_int(python, COUNT), 0), load(block, CAPACITY))
    threads = min(threads, load_int(table, THREADS))
    runs, quick, most = stack(positional), True, 1
    for i in range(0, positional, 3):
        for j in range(3):
            number = ask(python, AS_INTEGER, load_int(arguments, i + j), 0)
            if failed(python, number):
                return 0
            store_int(runs, i + j, number)
        wanted = 1 if load_int(runs, i + 2) else min(threads, load_int(runs, i + 1))
        quick, most = quick and load_int(runs, i + 2) != 0, max(most, wanted)
        store_int(runs, i + 2, wanted)
    if most - 1 > load(block, ASKED) and ask(python, CALL, load_int(python, START), 0) == 0:
        return 0

    state = 0 if quick else ask(python, LEAVE, 0, 0)  # let other threads of Python run
    for i in range(0, positional, 3):
        kernel, tasks, wanted = load_int(runs, i), load_int(runs, i + 1), load_int(runs, i + 2)
        if wanted > 1:
            call(load_int(python, WORKERS), block, kernel, record, tasks, wanted)
        elif tasks > 0:
            call(kernel, 0, tasks, 0, record, 0)
    if state:
        ask(python, RETURN, state, 0)
    return ask(python, NEW_REFERENCE, load_int(python, NONE), 0)


class Method(ctypes.Structure):
    """PyMethodDef: how Python is told of a function of C."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


FASTCALL_WITH_KEYWORDS = 0x80 | 0x02
RUN = Method(b"run", launch.address, FASTCALL_WITH_KEYWORDS, None)

new_function = ctypes.pythonapi.PyCFunction_NewEx
new_function.restype = ctypes.py_object
new_function.argtypes = ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p


def table_of(names: Iterable[str], words: int, threads: int) -> np.ndarray:
    """The table for a record of so many words, which begin with the fields of these names: the
    ones that `sys.intern` knows, which must live as long as the table."""
    known = [id(name) for name in names]
    head = [python.ctypes.data, threads, len(known), words]
    return np.array([*head, *known, *[0] * words], np.int64)


def launcher(table: np.ndarray) -> Any:
    """`launch` for this table, as a function of Python."""
    return new_function(ctypes.addressof(RUN), table, None)
