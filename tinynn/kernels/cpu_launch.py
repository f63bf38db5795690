"""One call from Python fills a job in and runs its kernels: nothing is interpreted in between.

    job.run(kernel, tasks, quick, x=x, y=y, eps=1e-5)
            |                     |
            whom to call          name -> field, in a copy of the job's record; by this table:

    table   PYTHON POOL THREADS FIELDS WORDS | names of the fields | the record, WORDS long

A name is mostly known by its address, since Python keeps the names of arguments but once each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tinynn.kernels import cpu_threads
from tinynn.kernels.cpu_llvm import FLOAT, INT, INT32, function_of_integers, load_int, store_int
from tinynn.kernels.cpu_python import (
    ARRAY,
    AS_INTEGER,
    C_INT,
    CALL,
    COMPARE,
    DATA,
    FLOAT_TYPE,
    ITEMS,
    KEY_ERROR,
    LEAVE,
    NEW_REFERENCE,
    NONE,
    RETURN,
    TYPE_ERROR,
    ask,
    fail,
    failed,
    function_of,
    is_a,
    method,
    python,
)
from tinynn.kernels.cpu_threads import ASKED, CAPACITY, call, call_with_workers, load
from tinynn.kernels.threads import count, get_num_threads

PYTHON, POOL, THREADS, FIELDS, WORDS, NAMES = range(6)  # places; THREADS: at most so many
BLOCK, SHARE_OUT, COUNT, START, USAGE = range(5)  # places in `pool`

usage = "run(kernel, tasks, quick, ..., **fields) takes three for each kernel"


def start_workers() -> None:
    """As many as are wanted besides the caller."""
    cpu_threads.pool.start(get_num_threads() - 1)


pool = np.array(
    [
        cpu_threads.pool.address,
        call_with_workers.address,
        count.buffer_info()[0],
        id(start_workers),
        id(usage),
    ],
    np.int64,
)


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
def place_of(table, name):
    """The place of a field in the record; -1 if there is none of that name."""
    python, fields = load_int(table, PYTHON), load_int(table, FIELDS)
    for field in range(fields):
        if load_int(table, NAMES + field) == name:
            return field
    for field in range(fields):  # a name that a program has put together
        if ask(python, COMPARE, load_int(table, NAMES + field), name) & C_INT == 0:
            return field
    return -1


@njit
def write(table, record, values, keywords):
    """Fill in fields of a record. Are they there, and the values such that they can be?"""
    python = load_int(table, PYTHON)
    for i in range(load_int(keywords, DATA) if keywords else 0):
        name = load_int(keywords, ITEMS + i)
        field = place_of(table, name)
        if field < 0:
            return fail(python, KEY_ERROR, name) != 0
        number = as_field(python, load_int(values, i))
        if failed(python, number):
            return False
        store_int(record, field, number)
    return True


# ---------------------------------------------------------------------------------------------
# What Python calls. See `cpu_python.Method`; `this` array is the table.
# ---------------------------------------------------------------------------------------------


@function_of_integers(4, types.int64)
def fill(this, arguments, positional, keywords, version):
    """fill(**fields): for all runs to come."""
    table = load_int(this, DATA)
    python, record = load_int(table, PYTHON), table + 8 * (NAMES + load_int(table, FIELDS))
    if not write(table, record, arguments + 8 * positional, keywords):
        return 0
    return ask(python, NEW_REFERENCE, load_int(python, NONE), 0)


@function_of_integers(4, types.int64)
def launch(this, arguments, positional, keywords, version):
    """run(kernel, tasks, quick, ..., **fields): see `Job`."""
    table = load_int(this, DATA)
    python, pool = load_int(table, PYTHON), load_int(table, POOL)
    template, words = table + 8 * (NAMES + load_int(table, FIELDS)), load_int(table, WORDS)
    record = stack(words)
    for i in range(words):
        store_int(record, i, load_int(template, i))
    if not write(table, record, arguments + 8 * positional, keywords):
        return 0

    if positional % 3:
        return fail(python, TYPE_ERROR, load_int(pool, USAGE))
    block = load_int(pool, BLOCK)
    threads = min(load_int(load_int(pool, COUNT), 0), load(block, CAPACITY))
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
    if most - 1 > load(block, ASKED) and ask(python, CALL, load_int(pool, START), 0) == 0:
        return 0

    state = 0 if quick else ask(python, LEAVE, 0, 0)  # let other threads of Python run
    for i in range(0, positional, 3):
        kernel, tasks, wanted = load_int(runs, i), load_int(runs, i + 1), load_int(runs, i + 2)
        if wanted > 1:
            call(load_int(pool, SHARE_OUT), block, kernel, record, tasks, wanted)
        elif tasks > 0:
            call(kernel, 0, tasks, 0, record, 0)
    if state:
        ask(python, RETURN, state, 0)
    return ask(python, NEW_REFERENCE, load_int(python, NONE), 0)


FILL, RUN = method("fill", fill), method("run", launch)


def table_of(names: Iterable[str], words: int, threads: int) -> np.ndarray:
    """The table for a record of so many words, which begin with the fields of these names, which
    must live as long as the table."""
    known = [id(name) for name in names]
    head = [python.ctypes.data, pool.ctypes.data, threads, len(known), words]
    return np.array([*head, *known, *[0] * words], np.int64)


def functions_of(table: np.ndarray) -> tuple[Any, Any]:
    """`fill` and `launch` for this table, as functions of Python."""
    return function_of(FILL, table), function_of(RUN, table)
