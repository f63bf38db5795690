"""`Job.run` and the checks before a kernel: what compiled code makes of Python's objects."""

from __future__ import annotations

import inspect
import math
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numba import carray

from tinynn.kernels.cpu_check import with_compiled_checks
from tinynn.kernels.cpu_llvm import load_int, store_int
from tinynn.kernels.cpu_parallel import Job, job_type, kernel
from tinynn.kernels.fallback import float32_only

Array = Any

FIELDS = job_type("a b c results")


@kernel(FIELDS)
def copy(lo, hi, thread, job_pointer):
    """Task i: results[i] = the i-th field."""
    job = carray(job_pointer, 1)[0]
    for task in range(lo, hi):
        value = job.a if task == 0 else job.b if task == 1 else job.c
        store_int(job.results, task, value)


@kernel(FIELDS)
def double(lo, hi, thread, job_pointer):
    """Task i: results[i] *= 2."""
    job = carray(job_pointer, 1)[0]
    for task in range(lo, hi):
        store_int(job.results, task, 2 * load_int(job.results, task))


def fields(**values: Any) -> list[int]:
    """What the kernel finds in the fields a, b, c."""
    results = np.zeros(3, np.int64)
    Job(FIELDS, c=7).run(copy, 3, True, results=results, **values)
    return results.tolist()


def bits(number: float) -> int:
    return int(np.float32(number).view(np.uint32))


def test_fields_keep_what_the_job_was_made_with() -> None:
    assert fields() == [0, 0, 7]
    assert fields(a=1, c=-1) == [1, 0, -1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        (True, 1),
        (np.int64(-5), -5),
        (2**62, 2**62),
        (0.1, bits(0.1)),
        (-0.0, bits(-0.0)),
        (np.float64(1.5), bits(1.5)),
        (math.inf, bits(math.inf)),
    ],
    ids=str,
)
def test_objects_become_integers(value: Any, expected: int) -> None:
    assert fields(b=value) == [0, expected, 7]
    assert Job(FIELDS, b=value).record[1] == expected
    assert Job(FIELDS).bind(b=value).record[1] == expected


def test_names_may_be_put_together() -> None:
    assert fields(**{"".join(["", letter]): i for i, letter in enumerate("abc", 1)}) == [1, 2, 3]
    wide = job_type("of_rows of_columns")
    job = Job(wide, **{f"of_{name}": 5 for name in ("rows", "columns")})
    assert job.record[:2].tolist() == [5, 5]


def test_a_float_that_is_too_large_becomes_infinity() -> None:
    assert fields(a=1e300, b=-1e300) == [bits(math.inf), bits(-math.inf), 7]


def test_arrays_become_their_addresses() -> None:
    array = np.arange(6.0)
    other = array[2:].view(np.recarray)
    assert fields(a=array, b=other) == [array.ctypes.data, array.ctypes.data + 16, 7]


def test_several_kernels_one_after_the_other() -> None:
    results = np.zeros(3, np.int64)
    Job(FIELDS, a=1, b=2).run(
        copy, 3, True,
        double, 3, False,
        double, 0, False,
        double, 2, True,
        c=3, results=results,
    )  # fmt: skip
    assert results.tolist() == [4, 8, 6]


@pytest.mark.parametrize(
    ("arguments", "wrong", "error"),
    [
        ((copy, 3, True), {"d": 1}, KeyError),
        ((copy, 3, True), {"a": "text"}, TypeError),
        ((copy, 3, True), {"a": 2**64}, OverflowError),
        ((copy, 3), {}, TypeError),
        ((copy, 3, True, copy), {}, TypeError),
        (("copy", 3, True), {}, TypeError),
        ((copy, 3.5, True), {}, TypeError),
    ],
    ids=str,
)
def test_a_wrong_call_raises_and_runs_nothing(
    arguments: Any, wrong: dict[str, Any], error: type[Exception]
) -> None:
    results = np.full(3, -1)
    with pytest.raises(error):
        Job(FIELDS).run(*arguments, results=results, **wrong)
    assert (results == -1).all()


@pytest.mark.parametrize(
    ("wrong", "error"), [({"d": 1}, KeyError), ({"a": "text"}, TypeError)], ids=str
)
def test_a_job_is_not_made_of_wrong_fields(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Job(FIELDS, **wrong)


def test_a_field_of_minus_one_is_no_error() -> None:
    assert fields(a=-1, b=-1, c=-1) == [-1, -1, -1]


def test_references_are_neither_lost_nor_kept() -> None:
    """The same array launched a hundred thousand times, beside other threads of Python."""
    array, results = np.zeros(4, np.float32), np.zeros(3, np.int64)
    job, ready = Job(FIELDS), threading.Barrier(3)

    def launch() -> None:
        ready.wait()
        for i in range(30_000):
            assert job.run(copy, 3, i % 2 == 0, a=array, b=None, results=results) is None

    threads = [threading.Thread(target=launch) for _ in range(3)]
    before = sys.getrefcount(array)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.getrefcount(array) == before
    assert results.tolist() == [array.ctypes.data, 0, 0]


# -- checks before a kernel ----------------------------------------------------------------------


def in_numpy(x: Array, labels: Array, smoothing: float, out: Array | None = None) -> tuple:
    return "in numpy", x, labels, smoothing, out


@float32_only(in_numpy)
def compiled(x: Array, labels: Array, smoothing: float, out: Array | None = None) -> tuple:
    """For float32."""
    if smoothing < 0:
        raise ValueError("smoothing")
    return "compiled", x, labels, smoothing, out


checked = with_compiled_checks(compiled)
NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)
ARRAYS = {
    "float32": NUMBERS,
    "transposed": NUMBERS.T,
    "a column": NUMBERS[:, 1],
    "a row": NUMBERS[1],
    "of another class": NUMBERS.view(np.recarray),
    "big endian": NUMBERS.astype(">f4"),
    "no element": NUMBERS[:0],
    "a number": np.float32(1),
    "no axis": NUMBERS[0, 0, ...],
    "a list": [1.0],
    "none": None,
    **{f"of {name}": NUMBERS.astype(name) for name in ("f8", "f2", "i8", "i4", "u1", "?", "O")},
    "integers, apart": NUMBERS.astype("i8").T,
}


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_compiled_checks_find_what_python_finds(value: Any, place: int) -> None:
    arguments: list[Any] = [NUMBERS, np.arange(3), 0.5, NUMBERS.copy()]
    if place != 2:
        arguments[place] = value
    results = checked(*arguments)
    assert all(a is b for a, b in zip(results, compiled(*arguments), strict=True))
    assert all(a is b for a, b in zip(results[1:], arguments, strict=True))


def test_both_functions_are_reached() -> None:
    integers = np.arange(3)
    assert checked(NUMBERS, integers, 0.5)[0] == "compiled"
    assert checked(NUMBERS, integers.astype(np.uint8), 0.5, NUMBERS)[0] == "compiled"
    assert checked(NUMBERS, integers, 0.5, NUMBERS.T)[0] == "in numpy"
    assert checked(NUMBERS.astype(float), integers, 0.5)[0] == "in numpy"


def test_errors_pass_the_checks() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        checked(NUMBERS, None, -1)
    for function in (checked, compiled):
        with pytest.raises(TypeError, match="missing"):
            function(NUMBERS)
        with pytest.raises(TypeError, match="positional"):
            function(*[NUMBERS] * 5)
        with pytest.raises(TypeError, match="unexpected keyword"):
            function(NUMBERS, None, 0.5, residual=NUMBERS)


def test_a_checked_kernel_is_documented() -> None:
    assert checked.__name__ == "compiled"
    assert checked.__doc__ == "For float32."
    parameters = inspect.signature(checked).parameters.values()
    assert [p.name for p in parameters] == ["x", "labels", "smoothing", "out"]
    assert [p.default for p in parameters] == [*[inspect.Parameter.empty] * 3, None]
