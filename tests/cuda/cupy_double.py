"""A double of CuPy over NumPy: an array library for tests that is as strict as a GPU's.

Its arrays are wrappers, no NumPy arrays: whatever this file does not offer, CuPy does not either,
or the engine does not use. As in CuPy (14)

- an array never turns into a NumPy array unasked, nor mixes with one: TypeError
- reductions and elements are arrays of no axis, not numbers
- `empty` holds anything: NaN here
- `RawModule` compiles CUDA C; here the emulator runs its kernels on the CPU

and where CuPy would wait for the device in silence, the double raises when it is told to:
`forbid("waiting")`. Streams and graphs stand in `stream_double.py`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import emulator
import numpy as np
from stream_double import MemoryPool, StreamError, allocated, change, compute, cuda, doing, use

__all__ = ["cuda"]

PLAIN = bool, int, float, np.generic, np.dtype, str, type  # numbers and names of types
float32, float64, int64, uint8 = np.float32, np.float64, np.int64, np.uint8
newaxis, inf, pi = None, math.inf, math.pi

# -- arrays --------------------------------------------------------------------------------------


def _host(x: Any) -> Any:
    """What an operand wraps. Numbers as they are; TypeError for an array of the host."""
    if isinstance(x, ndarray):
        return x.host
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: it is on the host")
    if isinstance(x, (list, tuple)):
        return type(x)(map(_host, x))
    if isinstance(x, slice):
        return slice(*(None if i is None else operator.index(i) for i in (x.start, x.stop, x.step)))
    if x is None or x is Ellipsis or isinstance(x, PLAIN):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _wrap(result: Any) -> Any:
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(np.asarray(result))
    return type(result)(map(_wrap, result)) if isinstance(result, (list, tuple)) else result


def _compute(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """NumPy's function of what wrapped arrays hold."""
    return compute(_wrap, function, *map(_host, args), **options)


def _read(array: ndarray, what: str) -> None:
    """The host waits for an array."""
    doing("waiting", what)
    use(array.host)


class ndarray:  # noqa: N801  # its name in CuPy
    """An array of the device. `host` is what it wraps: for this file and the tests alone."""

    __slots__ = ("__weakref__", "host")
    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with it to it, and it refuses
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray):
        self.host = host

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    # what needs no look at the values
    shape = property(lambda self: self.host.shape)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    strides = property(lambda self: self.host.strides)
    dtype = property(lambda self: self.host.dtype)
    flags = property(lambda self: self.host.flags)
    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
    T = property(lambda self: ndarray(self.host.T))

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    # what waits for the device
    def get(self) -> np.ndarray:
        """A copy on the host."""
        _read(self, "get()")
        return self.host.copy()

    def item(self) -> Any:
        """The one element, on the host."""
        _read(self, "item()")
        return self.host.item()

    def tolist(self) -> Any:
        """The elements, on the host."""
        _read(self, "tolist()")
        return self.host.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __repr__(self) -> str:
        _read(self, "repr()")
        return f"device{self.host!r}"

    # elements
    def __getitem__(self, index: Any) -> ndarray:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(p, ndarray) and p.dtype.kind == "b" for p in parts):
            doing("waiting", "a mask as an index")
        if any(isinstance(p, list) for p in parts):
            doing("copying", "a list as an index")
        if isinstance(self.host[_host(index)], np.generic):  # a view of no axis, not a number
            index = (*parts, Ellipsis)
        return _compute(operator.getitem, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, ndarray) and index.dtype.kind == "b":
            doing("waiting", "a mask as an index")  # CuPy counts what it holds
        change(operator.setitem, self.host, _host(index), _host(value))

    # methods that are the same in NumPy
    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return _compute(np.ndarray.astype, self, dtype, copy=copy)

    def reshape(self, *shape: Any) -> ndarray:
        return _compute(np.ndarray.reshape, self, *shape)

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray(self.host.transpose(*axes))

    def swapaxes(self, a: int, b: int) -> ndarray:
        return ndarray(self.host.swapaxes(a, b))

    def copy(self) -> ndarray:
        return _compute(np.ndarray.copy, self)

    def fill(self, value: Any) -> None:
        change(np.ndarray.fill, self.host, _host(value))

    def view(self, dtype: Any) -> ndarray:
        return ndarray(self.host.view(dtype))

    def squeeze(self, axis: Any = None) -> ndarray:
        return ndarray(self.host.squeeze(axis))

    def __matmul__(self, other: Any) -> ndarray:
        return matmul(self, other)

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()


def _check_keywords(name: str, given: Any, taken: str) -> None:
    """NumPy's functions take more than CuPy's."""
    if extra := set(given) - set(taken.split()):
        raise TypeError(f"{name}() got an unexpected keyword argument {extra.pop()!r}")


def _method(name: str, taken: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        _check_keywords(name, kwargs, taken)
        return _compute(getattr(np.ndarray, name), self, *args, **kwargs)

    return method


METHODS = {  # and the keywords that CuPy takes; not initial= nor where=
    "sum": "axis dtype keepdims", "mean": "axis dtype keepdims", "var": "axis dtype keepdims",
    "max": "axis keepdims", "min": "axis keepdims", "argmax": "axis keepdims",
    "any": "axis keepdims", "all": "axis keepdims", "cumsum": "axis", "clip": "",
}  # fmt: skip
for _name, _taken in METHODS.items():
    setattr(ndarray, _name, _method(_name, _taken))


def _operator(name: str) -> Callable[..., Any]:
    def binary(self: ndarray, *others: Any) -> Any:
        if others and not isinstance(
            others[0], (ndarray, np.ndarray, bool, int, float, np.generic)
        ):
            return NotImplemented
        function = getattr(np.ndarray, name)
        if name.startswith("__i") and name != "__invert__":
            change(function, self.host, *map(_host, others))
            return self
        return _compute(function, self, *others)

    return binary


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    for _prefix in ("", "r", "i"):
        setattr(ndarray, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))

# -- functions -----------------------------------------------------------------------------------


def _same(function: Callable[..., Any], taken: str = "", kind: str = "") -> Callable[..., Any]:
    """NumPy's function over wrapped arrays."""

    def lifted(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        _check_keywords(function.__name__, kwargs, taken)
        if kind:
            doing(kind, function.__name__)
        if out is not None:
            change(function, *map(_host, args), out=out.host, **kwargs)
            return out
        return _compute(function, *args, **kwargs)

    return lifted


FUNCTIONS = {  # by the keywords that CuPy takes
    "": (
        "exp", "log", "sqrt", "tanh", "sign", "logaddexp", "maximum", "minimum", "isnan", "isinf",
        "isfinite", "where", "clip", "abs", "ascontiguousarray", "broadcast_to", "outer",
        "count_nonzero",
    ),
    "dtype": ("arange", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like"),
    "axis": ("split", "expand_dims", "take_along_axis"),
    "axis dtype keepdims": ("sum", "mean"),
    "axis keepdims": ("argmax",),
    "constant_values": ("pad",),
}  # fmt: skip
for _taken, _names in FUNCTIONS.items():
    for _name in _names:
        globals()[_name] = _same(getattr(np, _name), _taken)


def _join(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of many arrays one kernel of CuPy's reads a list of pointers, made on the host."""

    def lifted(arrays: Any, *args: Any, **kwargs: Any) -> Any:
        if len(arrays) > 8:
            doing("copying", f"{function.__name__} of {len(arrays)} arrays")
        return _compute(function, arrays, *args, **kwargs)

    return lifted


concatenate, stack = _join(np.concatenate), _join(np.stack)
matmul = _same(np.matmul, kind="libraries")
nonzero = _same(np.nonzero, kind="waiting")
add = SimpleNamespace(at=lambda a, index, b: change(np.add.at, a.host, _host(index), _host(b)))


def copyto(to: ndarray, values: Any, **options: Any) -> None:
    """Write values into an array."""
    change(np.copyto, to.host, _host(values), **{k: _host(v) for k, v in options.items()})


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Memory as it was left: NaN, or numbers that are as unlikely."""
    a = np.empty(shape, dtype)
    a.reshape(-1).view(np.uint8)[:] = 0xFF
    return allocated(ndarray(a))


def empty_like(a: ndarray, dtype: Any = None) -> ndarray:
    """`empty` in the shape of another array."""
    return empty(a.shape, dtype or a.dtype)


def array(values: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
    """An array of the device; anything of the host is copied to it."""
    if isinstance(values, ndarray):
        return _compute(np.array, values, dtype, copy=copy or None, order=order)
    doing("copying", "array()")
    made = ndarray(np.array(values, dtype, order=order))
    use(made.host)
    return made


def asarray(values: Any, dtype: Any = None) -> ndarray:
    """As `array`, and what is an array of that dtype already as it is."""
    if isinstance(values, ndarray) and (dtype is None or values.dtype == dtype):
        return values
    return array(values, dtype, copy=False)


def asnumpy(a: ndarray) -> np.ndarray:
    """A copy on the host."""
    return a.get()


class _Generator:
    """Random numbers of the device."""

    def __init__(self, seed: Any):
        self._generator = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        draw = getattr(self._generator, name)
        return lambda *args, **kwargs: _wrap(draw(*args, **kwargs))


random = SimpleNamespace(default_rng=_Generator)
get_default_memory_pool = MemoryPool

# -- kernels -------------------------------------------------------------------------------------


class RawModule:
    """CUDA C source, compiled when it is first used."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        assert backend == "nvrtc"
        self.code = code
        self.options = tuple(o for o in options if o.startswith("-D"))

    def compile(self) -> None:
        """Compile now. CompileException for what is no C++."""
        try:
            emulator.compile_source(self.code, self.options)
        except emulator.KernelError as error:
            raise cuda.compiler.CompileException(str(error).partition("\n")[2]) from None

    def get_function(self, name: str) -> RawKernel:
        """A kernel by its name."""
        return RawKernel(self, name)


class RawKernel:
    """A kernel: `kernel(grid, block, arguments, shared_mem=bytes)`."""

    def __init__(self, module: RawModule, name: str):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = emulator.MOST_SHARED
        self.preferred_shared_memory_carveout = -1  # percent; the driver decides

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0
    ) -> None:
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise StreamError(
                f"{self.name}: {shared_mem} bytes of shared memory were not asked for"
            )
        given = []
        for a in args:
            if not isinstance(a, (ndarray, np.generic)):
                raise TypeError(f"{self.name}: a kernel takes no {type(a)} of known size")
            if isinstance(a, ndarray) and not a.flags.c_contiguous:
                raise TypeError(f"{self.name}: an array of strides {a.strides} is no plain pointer")
            given.append(_host(a))
        library = emulator.compile_source(self.module.code, self.module.options)
        ones = (1, 1, 1)
        launch = library, self.name, (*grid, *ones)[:3], (*block, *ones)[:3], given, shared_mem
        emulator.check(*launch)  # now, if it is recorded to be launched later
        change(emulator.launch, *launch)
