"""What the double of CuPy offers, CuPy has, under the same names and with the same arguments."""

import inspect
import re
from typing import Any

import cupy_double
import pytest
import stream_double

cupy: Any = pytest.importorskip("cupy", reason="CuPy is not installed")

FUNCTIONS = [
    *((name, taken) for taken, names in cupy_double.FUNCTIONS.items() for name in names),
    ("matmul", "out"), ("copyto", "where"), ("nonzero", ""), ("asnumpy", ""), ("empty", "dtype"),
    ("empty_like", "dtype"), ("array", "dtype copy order"), ("asarray", "dtype"),
    ("concatenate", "axis"), ("stack", "axis"), ("get_default_memory_pool", ""),
    ("RawModule", "code options backend"),
]  # fmt: skip
METHODS = [
    *cupy_double.METHODS.items(),
    ("astype", "dtype copy"), ("reshape", "shape"), ("transpose", "axes"),
    ("swapaxes", "axis1 axis2"), ("copy", ""), ("fill", "value"), ("view", "dtype"),
    ("squeeze", "axis"), ("get", ""), ("item", ""), ("tolist", ""),
]  # fmt: skip
CUDA = [
    ("Stream", "non_blocking"), ("Stream.begin_capture", ""), ("Stream.end_capture", ""),
    ("Stream.record", ""), ("Stream.wait_event", "event"), ("Graph.launch", "stream"),
    ("Memory", "size"), ("MemoryPointer", "mem offset"), ("MemoryPool", "allocator"),
    ("MemoryPool.malloc", "size"), ("MemoryPool.free_all_blocks", ""),
    ("MemoryPool.set_limit", "size"), ("MemoryPool.total_bytes", ""),
    ("using_allocator", "allocator"), ("get_current_stream", ""),
]  # fmt: skip


def words(function: Any) -> set[str]:
    """The names in a function's signature; what is compiled has it in its documentation."""
    try:
        text = str(inspect.signature(function))
    except (ValueError, TypeError):
        text = function.__doc__.splitlines()[0]
    return set(re.findall(r"\w+", text))


@pytest.mark.parametrize(("name", "taken"), FUNCTIONS)
def test_a_function_takes_these(name: str, taken: str) -> None:
    assert hasattr(cupy_double, name)
    found = words(getattr(cupy, name))
    assert set(taken.split()) <= found or "kwargs" in found


@pytest.mark.parametrize(("name", "taken"), METHODS)
def test_a_method_takes_these(name: str, taken: str) -> None:
    assert hasattr(cupy_double.ndarray, name)
    assert set(taken.split()) <= words(getattr(cupy.ndarray, name))


@pytest.mark.parametrize(("name", "taken"), CUDA)
def test_a_part_of_cuda_takes_these(name: str, taken: str) -> None:
    ours, theirs = stream_double.cuda, cupy.cuda
    for part in name.split("."):
        ours = getattr(ours, part)
        theirs = getattr(theirs, part)
    assert callable(ours)
    assert set(taken.split()) <= words(theirs)


def test_nothing_else_is_offered() -> None:
    tested = {name for name, _ in FUNCTIONS} | {"ndarray", "add", "random", "cuda", "RawKernel"}
    constants = {"float32", "float64", "int64", "uint8", "newaxis", "inf", "pi"}
    internal = {"allocated", "change", "compute", "doing", "use", "MemoryPool", "StreamError"}
    internal |= {"FUNCTIONS", "METHODS", "PLAIN", "math", "operator", "emulator", "np"}
    internal |= {"annotations", "Any", "Callable", "Iterator", "SimpleNamespace"}
    offered = {name for name in vars(cupy_double) if not name.startswith("_")} - internal
    assert offered == tested | constants
    assert not [name for name in offered if not hasattr(cupy, name)]
    own = {"host", "__slots__", "__weakref__", "__module__", "__doc__"}
    missing = {n for n in vars(cupy_double.ndarray) if not hasattr(cupy.ndarray, n)} - own
    assert not missing


def test_errors_are_of_the_kinds_that_are_caught() -> None:
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
    assert cupy.cuda.runtime.CUDARuntimeError(stream_double.NO_MEMORY).status == 2
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(cupy.cuda.driver.CUDADriverError, RuntimeError)
    assert issubclass(cupy.cuda.compiler.CompileException, Exception)


def test_kernels_and_arrays_are_used_as_they_can_be() -> None:
    assert "shared_mem" in cupy.RawKernel.__call__.__doc__
    assert {"name"} <= words(cupy.RawModule.get_function)
    assert hasattr(cupy.RawKernel, "max_dynamic_shared_size_bytes")
    assert words(cupy.add.at) >= {"a", "indices", "b"}
    assert hasattr(cupy.cuda.MemoryPointer, "ptr")
    assert hasattr(cupy.cuda.Device, "id")
    assert words(cupy.cuda.runtime.getDeviceProperties) >= {"device"}
    assert cupy.ndarray.__module__.partition(".")[0] == "cupy"  # see reference.namespace
    assert not hasattr(cupy.ndarray, "__hash__") or cupy.ndarray.__hash__ is None
    assert callable(cupy.random.default_rng)
