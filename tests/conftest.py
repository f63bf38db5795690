"""What all tests share: the backend they run under, and how hypothesis draws."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import cupy_double
import emulator
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tinynn.backend
from tinynn.backend import Backend, get_backend, use_backend
from tinynn.gradcheck_cases import Draw
from tinynn.kernels import cuda
from tinynn.kernels.precision import set_float32_matmul_precision

# The same examples on every run, and no deadline: the first call of a kernel compiles it.
# `pytest --hypothesis-profile=dev` looks further and differently each time.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=20,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,  # `backend` is the same for each example
        hypothesis.HealthCheck.too_slow,  # on a busy machine
    ],
)
hypothesis.settings.register_profile(
    "dev", hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=200
)
hypothesis.settings.load_profile("ci")


def load_double() -> Backend:
    """The reference kernels over an array library as strict as CuPy."""
    return get_backend("reference").override("double", xp=cupy_double)


def load_emulated() -> Backend:
    """The same with the CUDA kernels, which the emulator compiles as C++ and runs on the CPU."""
    if emulator.compiler() is None:
        raise ImportError("no C++ compiler (g++ or clang++) to emulate CUDA kernels with")
    return get_backend("double").override("emulated", **cuda.KERNELS)


def load_plain() -> Backend:
    """What serves where LLVM does not take the numpy backend's kernels."""
    from tinynn.kernels import plain  # compiled when it is imported

    return get_backend("reference").override("plain", **plain.KERNELS)


tinynn.backend._LOADERS |= {"plain": load_plain, "double": load_double, "emulated": load_emulated}
set_float32_matmul_precision("highest")  # what tolerances are for
BACKENDS: list[Any] = ["reference", "numpy", "plain", "double", "emulated"]
DEVICES: list[Any] = ["emulated"]  # that compute by the CUDA kernels
if importlib.util.find_spec("cupy"):
    for found in (BACKENDS, DEVICES):
        found.append(pytest.param("cupy", marks=pytest.mark.gpu))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The name of each backend with CUDA kernels, if it can be had here."""
    try:
        get_backend(request.param)
    except ImportError as error:  # no compiler, no GPU
        pytest.skip(str(error))
    return request.param


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend in turn, current during the test."""
    try:
        get_backend(request.param)
    except ImportError as error:  # CuPy without a GPU, no compiler
        pytest.skip(str(error))
    with use_backend(request.param) as backend:
        yield backend


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests of many numbers out where an emulator would compute them."""
    items[:] = [
        item
        for item in items
        if not (item.get_closest_marker("many_numbers") and "emulated" in parameters_of(item))
    ]


def parameters_of(item: pytest.Item) -> list[Any]:
    """What a test is parametrised with."""
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


class HypothesisDraw(Draw):
    """Draws sizes and options through hypothesis, so that a failing case is shrunk."""

    def __init__(self, data: st.DataObject):
        super().__init__(np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed")))
        self.data = data

    def integer(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]


@pytest.fixture
def poison_scratch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives modules scratch memory full of NaN: a kernel that reads what it has not written is
    found out."""

    def scratch(name: str, count: int) -> np.ndarray:
        memory = np.full(count + 16, np.nan, np.float32)
        return memory[-memory.ctypes.data // 4 % 16 :]

    def poison(*modules: ModuleType) -> None:
        for module in modules:
            monkeypatch.setattr(module, "scratch", scratch)

    return poison


@pytest.fixture(scope="session")
def drawing() -> Callable[[st.DataObject], Draw]:
    """Makes a hypothesis-driven `Draw` out of `data`."""
    return HypothesisDraw
