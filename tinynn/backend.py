"""Backends: a name, an array library and one kernel for each entry of the reference table.

    reference                                  every kernel in plain array code
    numpy = reference.override("numpy", ...)   the same with numba drop-ins; the default.
                                               Where LLVM does not take their code, plainer ones

There is no backend branch inside any operation: `use_backend` picks the table, and each node of
the graph remembers the one it was made with.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from tinynn.kernels import (  # noqa: F401  # fill the table
    memory,
    reference,
    reference_ctc,
    reference_images,
    reference_norm,
    reference_optim,
    reference_pool,
    reference_rnn,
    reference_softmax,
)
from tinynn.kernels.threads import ForkSafeLock

Array = Any
CAPABILITY = 8  # of a GPU that the CUDA kernels are for: asynchronous copies, TF32 and bf16


class Backend:
    """A table of kernels over one array library; kernels are attributes: `backend.conv2d(...)`.

    has_device    whether its arrays lie on a GPU, which works while the host goes on
    """

    def __init__(self, name: str, xp: ModuleType, kernels: Mapping[str, Callable[..., Any]]):
        self.name = name
        self.xp = xp
        self.has_device = hasattr(xp, "cuda")
        self.kernels = dict(kernels)
        vars(self).update(self.kernels)  # found at once: `__getattr__` comes after all else

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"backend has no kernel {name!r}")

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, {len(self.kernels)} kernels over {self.xp.__name__})"

    def override(
        self, name: str, *, xp: ModuleType | None = None, **kernels: Callable[..., Any]
    ) -> Backend:
        """A new backend with some kernels replaced by drop-ins of the same signature.

        Raises TypeError for a kernel the table does not have, or one whose parameters differ.
        """
        for key, function in kernels.items():
            if key not in self.kernels:
                near = difflib.get_close_matches(key, self.kernels, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"override {name!r}: there is no kernel {key!r}{hint}")
            expected = list(inspect.signature(self.kernels[key]).parameters)
            given = list(inspect.signature(function).parameters)
            if expected != given:
                raise TypeError(
                    f"override {name!r}: kernel {key} takes {given}, "
                    f"the reference takes {expected}; a drop-in has the same parameters"
                )
        return Backend(name, xp or self.xp, {**self.kernels, **kernels})

    @property
    def device(self) -> str | None:
        """The name of the GPU that its arrays lie on; None where they lie in the CPU's memory."""
        if not self.has_device:
            return None
        cuda = self.xp.cuda
        return cuda.runtime.getDeviceProperties(cuda.Device().id)["name"].decode()

    @property
    def device_bytes(self) -> int:
        """The most memory that arrays have taken of a GPU so far, to within what lies idle between
        them and without what recorded steps keep; 0 where they lie in the CPU's memory."""
        return self.xp.get_default_memory_pool().total_bytes() if self.has_device else 0

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """`values` as an array of this backend. Copies only where it must."""
        return self.xp.asarray(values, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Zeros that start on a cache line, as GPU arrays do anyway."""
        return self.xp.zeros(shape, dtype) if self.has_device else memory.zeros(shape, dtype)

    def split(self, flat: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """Views of a flat array, one behind the other, in these shapes.

        Whoever keeps a NumPy view, or any view of that, counts among the view's references; of
        GPU arrays only who keeps the view itself does.
        """
        whole = flat if self.has_device else flat.view(memory.Part)
        ends = itertools.accumulate(math.prod(shape) for shape in shapes)
        parts = [
            whole[end - math.prod(shape) : end].reshape(shape) for shape, end in zip(shapes, ends)
        ]
        return parts if self.has_device else [part.view(np.ndarray) for part in parts]

    def to_numpy(self, array: Array) -> np.ndarray:
        """A NumPy copy of an array of this backend."""
        get = getattr(array, "get", None)  # device arrays are fetched by name, never by accident
        return get() if get is not None else np.array(array)

    def at_hand(self, values: Any) -> np.ndarray | None:
        """`values` as a NumPy array, to look at; None for an array that lies on a device, since
        the host would wait there for all that is still to be computed."""
        return None if self.has_device and self.owns(values) else np.asarray(values)

    def generator(self, seed: int | None = None) -> Any:
        """A random generator of this backend's array library."""
        return self.xp.random.default_rng(seed)

    def owns(self, array: Array) -> bool:
        """Whether `array` is of this backend's array library."""
        return isinstance(array, self.xp.ndarray)


def _load_reference() -> Backend:
    return Backend("reference", np, reference.KERNELS)


def _load_numpy() -> Backend:
    try:
        kernels = _cpu_kernels()
    except Exception as error:  # of numba or LLVM, which may not know this machine
        kernels, names = _plain_kernels()
        warnings.warn(
            f"tinynn: the CPU kernels cannot be compiled here ({type(error).__name__}: {error}); "
            f"{names} do their work, more slowly",
            RuntimeWarning,
            stacklevel=2,
        )
    return get_backend("reference").override("numpy", **kernels)


def _cpu_kernels() -> dict[str, Any]:
    from tinynn.kernels.cpu_microkernel import begin_compilation  # numba: only when first used

    begin_compilation()
    from tinynn.kernels import cpu

    return cpu.KERNELS


def _plain_kernels() -> tuple[dict[str, Any], str]:
    """What serves in their place, and its name."""
    try:
        from tinynn.kernels import plain  # which numba compiles now
    except Exception:  # it may be numba that does not work here
        return {}, "the reference kernels, in NumPy,"
    return plain.KERNELS, "kernels in plain numba"


def _load_cupy() -> Backend:
    try:
        import cupy
    except ImportError as error:
        found = "" if getattr(error, "name", None) == "cupy" else f"; the one here fails: {error}"
        raise ImportError(
            "backend 'cupy' needs CuPy: pip install '.[cuda13]' (CUDA 13) or '.[cuda12]', or "
            f"choose --backend numpy{found}"
        ) from None
    runtime = cupy.cuda.runtime
    try:
        runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        no_device = "NoDevice" in str(error)
        lacks = "NVIDIA's driver, which finds no GPU" if no_device else "no driver that fits it"
        fix = "plug one in or make it visible" if no_device else "install or update NVIDIA's driver"
        raise ImportError(
            f"backend 'cupy' finds CuPy {cupy.__version__} and {lacks} ({error}); {fix}, or choose "
            "--backend numpy"
        ) from None
    gpu = runtime.getDeviceProperties(cupy.cuda.Device().id)
    if gpu["major"] < CAPABILITY:
        raise ImportError(
            f"backend 'cupy' finds the GPU {gpu['name'].decode()}, of compute capability "
            f"{gpu['major']}.{gpu['minor']}; its kernels need {CAPABILITY}.0, which GPUs have from "
            "the generation Ampere on: choose --backend numpy"
        )
    try:
        cupy.cuda.nvrtc.getVersion()
    except RuntimeError as error:  # the library is looked for when it is first used
        raise ImportError(
            f"backend 'cupy' finds CuPy {cupy.__version__} and not NVRTC, which compiles its "
            f"kernels ({str(error).splitlines()[0]}); pip install '.[cuda13]' brings it, or "
            "'.[cuda12]' for CUDA 12; or choose --backend numpy"
        ) from None
    try:
        cupy.ones(1, np.float32)  # takes memory, and has a kernel compiled and run
    except (RuntimeError, MemoryError, cupy.cuda.compiler.CompileException) as error:
        first, *_ = str(error).strip().splitlines() or [""]
        raise ImportError(
            f"backend 'cupy' finds CuPy {cupy.__version__} and the GPU {gpu['name'].decode()}, "
            f"where not even a first kernel runs ({first}): another "
            "program may have it, CUDA's headers may be missing, which pip install '.[cuda13]' or "
            "'.[cuda12]' brings, or CuPy may be older than the GPU; or choose --backend numpy"
        ) from None
    from tinynn.kernels import cuda

    return get_backend("reference").override("cupy", xp=cupy, **cuda.KERNELS)


_LOADERS = {"numpy": _load_numpy, "reference": _load_reference, "cupy": _load_cupy}


def backend_names() -> list[str]:
    """The names `get_backend` knows, the default first."""
    return list(_LOADERS)


_loaded: dict[str, Backend] = {}
_loading = ForkSafeLock()


def get_backend(name: str) -> Backend:
    """The backend of that name, loaded on first use.

    Raises ValueError for an unknown name and ImportError, naming what to install, for one whose
    array library is absent: there is no silent fallback.
    """
    if name not in _loaded:
        if name not in _LOADERS:
            near = difflib.get_close_matches(name, _LOADERS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown backend {name!r}; {hint}Known: {', '.join(_LOADERS)}")
        with _loading:  # by one thread, for all
            if name not in _loaded:
                _loaded[name] = _LOADERS[name]()
    return _loaded[name]


_current: ContextVar[Backend | None] = ContextVar("tinynn_backend", default=None)


def current_backend() -> Backend:
    """The backend new nodes are made with."""
    return _current.get() or get_backend("numpy")


@contextmanager
def use_backend(backend: str | Backend) -> Iterator[Backend]:
    """Within the block (or the decorated function), make tensors and graph nodes with this backend.

    >>> with use_backend("reference") as backend:
    ...     backend.name
    'reference'
    """
    token = _current.set(get_backend(backend) if isinstance(backend, str) else backend)
    try:
        yield current_backend()
    finally:
        _current.reset(token)
