"""Python's objects as compiled code sees them, and compiled functions as Python calls them.

A kernel of some microseconds cannot wait for the interpreter, which finds its own data driven out
of the caches by the kernel before. So what surrounds each kernel, `cpu_launch` and `cpu_check`, is
compiled too, and works on Python's objects by their addresses:

    array      ... | type | data | ...        float   ... | type | number
    function   called as functions of C are, with the addresses of its arguments (`METH_FASTCALL`)

Layouts are those of CPython and NumPy, which have kept them for years; this module does not load
where they are others, and the backend takes plainer kernels then.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tinynn.kernels.cpu_llvm import INT, element, load_int

# Places of what an object holds, in words: behind its type its data, which is the address of an
# array's elements, a float's number, the length of a tuple.
DATA = object.__basicsize__ // 8
TYPE, ITEMS = DATA - 1, tuple.__basicsize__ // 8
DTYPE, FLAGS = DATA + 5, DATA + 6  # of an array: its second half, after sizes and steps
KIND = DATA + 1  # of a dtype: a letter
CONTIGUOUS = 1  # the flag
C_INT = (1 << 32) - 1  # the bits of what a C function returns as an int


def word(thing: object, place: int) -> int:
    """What lies there, as an int64."""
    return int64_at(id(thing) + 8 * place).value


def as_expected() -> bool:
    """Whether objects are laid out so here."""
    array, names, number = np.ones(4, np.float32), ("a", "b"), np.float64(1.5)
    return (
        word(array, TYPE) == id(np.ndarray)
        and word(array, DATA) == array.ctypes.data
        and word(array, DTYPE) == id(array.dtype)
        and word(array, FLAGS) & CONTIGUOUS != word(array[::2], FLAGS) & CONTIGUOUS
        and word(array.dtype, KIND) & 255 == ord("f")
        and [word(names, place) for place in (DATA, ITEMS + 1)] == [2, id("b")]
        and word(float(number), DATA) == number.view(np.int64)
    )


int64_at = ctypes.c_int64.from_address
if not as_expected():
    raise RuntimeError("this Python's objects, or NumPy's, are laid out in another way")

# ---------------------------------------------------------------------------------------------
# Calling Python's functions
# ---------------------------------------------------------------------------------------------

(
    # objects
    NONE, ARRAY, FLOAT_TYPE, FLOAT32, KEY_ERROR, TYPE_ERROR,
    # functions
    IS_SUBTYPE, COMPARE, AS_INTEGER, NEW_REFERENCE, ERROR, SET_ERROR,
    CALL, VECTORCALL, LEAVE, RETURN,
) = range(16)  # fmt: skip

objects = None, np.ndarray, float, np.dtype(np.float32), KeyError, TypeError
functions = (
    "PyType_IsSubtype PyUnicode_Compare PyLong_AsLongLong Py_NewRef PyErr_Occurred PyErr_SetObject"
    " PyObject_CallNoArgs PyObject_Vectorcall PyEval_SaveThread PyEval_RestoreThread"
)
python = np.array(
    [
        *map(id, objects),
        *(
            ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
            for name in functions.split()
        ),
    ],
    np.int64,
)


def answer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Code that calls the function at a place of `python`."""
    table, place, *given = arguments
    function = builder.load(element(builder, (table, place), INT))
    kind = ir.FunctionType(INT, [INT] * len(given))
    return builder.call(builder.inttoptr(function, kind.as_pointer()), given)


@intrinsic
def ask(typing_context, python, place, a, b):
    """What the function at a place answers to a, b: an int64, or an address. (A C function ignores
    arguments that it does not have.)"""
    return types.int64(*[types.int64] * 4), answer


@intrinsic
def pass_on(typing_context, python, place, function, arguments, positional, keywords):
    """The same, with the arguments that a compiled function was given."""
    return types.int64(*[types.int64] * 6), answer


@njit
def is_a(python, value, kind):
    """isinstance(value, kind), for the place of a type."""
    given, wanted = load_int(value, TYPE), load_int(python, kind)
    return given == wanted or ask(python, IS_SUBTYPE, given, wanted) & C_INT != 0


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
# Being called
# ---------------------------------------------------------------------------------------------


class Method(ctypes.Structure):
    """PyMethodDef: how Python is told of a function of C.

    `function(this, arguments, positional, keywords)`: addresses of an object, of the arguments and
    of the tuple that names the last of them, or 0; and how many come before those.
    """

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


FASTCALL_WITH_KEYWORDS = 0x80 | 0x02
new_function = ctypes.pythonapi.PyCFunction_NewEx
new_function.restype = ctypes.py_object
new_function.argtypes = ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p


def method(name: str, function: Any, documentation: str | None = None) -> Method:
    """Of a `function_of_integers`. It must live as long as what is made of it."""
    text = documentation and documentation.encode()
    return Method(name.encode(), function.address, FASTCALL_WITH_KEYWORDS, text)


def function_of(method: Method, this: np.ndarray) -> Any:
    """A function of Python, which keeps its array `this` alive."""
    return new_function(ctypes.addressof(method), this, None)
