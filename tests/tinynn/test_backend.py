"""The table of kernels: its names, its overrides and their checks."""

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinynn as tn
import tinynn.backend
from tinynn.kernels import reference


def test_the_first_backend_named_is_the_default() -> None:
    assert tn.backend_names()[0] == tn.current_backend().name == "numpy"


def test_a_backend_is_loaded_once() -> None:
    assert tn.get_backend("reference") is tn.get_backend("reference")


def test_every_backend_has_the_kernels_of_the_reference() -> None:
    assert list(tn.get_backend("numpy").kernels) == list(reference.KERNELS)


def test_an_unknown_backend_comes_with_a_suggestion() -> None:
    message = r"unknown backend 'nunpy'; did you mean 'numpy'\? Known: numpy, reference, cupy"
    with pytest.raises(ValueError, match=message):
        tn.get_backend("nunpy")
    with pytest.raises(ValueError, match=r"unknown backend 'xyz'; Known: numpy"):
        tn.get_backend("xyz")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_an_absent_backend_names_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install '\.\[cuda13\]'.*--backend numpy"):
        tn.get_backend("cupy")
    assert tn.current_backend().name == "numpy"


def test_override_replaces_kernels_and_leaves_the_original_alone() -> None:
    def relu(x: Any) -> Any:
        return np.maximum(x, 0) + 1

    original = tn.get_backend("reference")
    changed = original.override("changed", relu=relu)
    with tn.use_backend(changed):
        assert tn.Tensor([-1.0]).relu().item() == 1
    with tn.use_backend(original):
        assert tn.Tensor([-1.0]).relu().item() == 0
    assert changed.name == "changed"
    assert changed.xp is np
    assert changed.tanh is original.tanh


def test_override_of_an_unknown_kernel_raises_at_once() -> None:
    with pytest.raises(TypeError, match=r"no kernel 'conv2'; did you mean 'conv2d'\?"):
        tn.get_backend("reference").override("mine", conv2=lambda x, w: x)


@pytest.mark.parametrize(
    "kernel",
    [
        lambda x: x,
        lambda dy, y, extra: dy,
        lambda y, dy: dy,
        lambda dy, output: dy,
    ],
)
def test_override_with_another_signature_raises_at_once(kernel: Any) -> None:
    message = r"kernel relu_grad takes .*the reference takes \['dy', 'y'\]"
    with pytest.raises(TypeError, match=message):
        tn.get_backend("reference").override("mine", relu_grad=kernel)


def test_an_unknown_kernel_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no kernel 'conv3d'"):
        _ = tn.get_backend("reference").conv3d


def test_arrays_go_to_a_backend_and_come_back(backend: tn.Backend) -> None:
    array = np.arange(6, dtype="float32").reshape(2, 3)
    there = backend.asarray(array)
    assert backend.owns(there)
    back = backend.to_numpy(there)
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, array)
    back[0, 0] = 99  # a copy: nothing else changes
    assert backend.to_numpy(there)[0, 0] == 0


def test_a_backend_introduces_itself() -> None:
    assert repr(tn.get_backend("reference")).startswith("Backend('reference', ")


def a_cupy(
    count: Any = lambda: 1,
    version: Any = lambda: (12, 9),
    major: int = 9,
    ones: Any = lambda *given: None,
) -> SimpleNamespace:
    """What `_load_cupy` asks of CuPy."""
    runtime = SimpleNamespace(
        getDeviceCount=count,
        getDeviceProperties={0: {"name": b"Tesla T4", "major": major, "minor": 5}}.get,
        CUDARuntimeError=RuntimeError,
    )
    device, nvrtc = lambda: SimpleNamespace(id=0), SimpleNamespace(getVersion=version)
    compiler = SimpleNamespace(CompileException=ArithmeticError)
    cuda = SimpleNamespace(runtime=runtime, Device=device, nvrtc=nvrtc, compiler=compiler)
    return SimpleNamespace(__version__="14.2.0", cuda=cuda, ones=ones)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("cudaErrorInsufficientDriver", r"no driver that fits it \(.*Driver\); install or update"),
        ("cudaErrorNoDevice", r"driver, which finds no GPU \(.*NoDevice\); plug one in"),
    ],
)
def test_cupy_without_a_driver_or_a_gpu_says_which(
    error: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        raise RuntimeError(error)

    monkeypatch.setitem(sys.modules, "cupy", a_cupy(count))
    with pytest.raises(ImportError, match=rf"CuPy 14\.2\.0 and .*{told}.*backend numpy"):
        tinynn.backend._load_cupy()


def test_cupy_without_a_compiler_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def version() -> None:
        raise RuntimeError('Failure finding "libnvrtc.so.13"')

    monkeypatch.setitem(sys.modules, "cupy", a_cupy(version=version))
    with pytest.raises(ImportError, match=r"not NVRTC.*libnvrtc.*pip install '\.\[cuda13\]'"):
        tinynn.backend._load_cupy()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Failed to find CUDA headers"), MemoryError("Out of memory"), ArithmeticError()],
)
def test_a_gpu_that_runs_nothing_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ones(*given: Any) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "cupy", a_cupy(ones=ones))
    told = rf"the GPU Tesla T4, where not even a first kernel runs \({error}\).*--backend numpy"
    with pytest.raises(ImportError, match=told):
        tinynn.backend._load_cupy()


def test_a_gpu_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"the GPU Tesla T4, of compute capability 7\.5; its kernels need 8\.0.*--backend numpy"
    monkeypatch.setitem(sys.modules, "cupy", a_cupy(major=7))
    with pytest.raises(ImportError, match=told):
        tinynn.backend._load_cupy()
    monkeypatch.setitem(sys.modules, "cupy", a_cupy(major=10))
    assert tinynn.backend._load_cupy().name == "cupy"
