"""Kernels are compiled on the first run of all, which says so, and are ready for the next."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.ccallback import CFunc

from tinynn import backend
from tinynn.kernels import cpu_llvm, cpu_microkernel, plain
from tinynn.kernels.cpu_parallel import Kernel
from tinynn.kernels.threads import usable_cpus

PROGRAM = """
import numpy as np, tinynn as tn
from tinynn import functional as F
rng = np.random.default_rng(0)
x = tn.Tensor(rng.normal(size=(4, 9, 9, 16)).astype("float32"))
w = tn.Tensor(rng.normal(size=(32, 3, 3, 16)).astype("float32"), requires_grad=True)
F.relu(F.conv2d(x, w)).sum().backward()
print(float(np.abs(w.grad).sum()))
"""


def run(**environment: str) -> tuple[float, str]:
    """What the program prints, and its standard error."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONWARNINGS": "error", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout), result.stderr


def test_only_the_first_run_compiles_and_it_says_so(tmp_path: Path) -> None:
    first, said = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert said.startswith("tinynn: compiling the CPU kernels")
    assert said.count("\n") == 1
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second, said = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert said == ""
    assert second == first
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_a_change_in_any_kernel_s_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code on disk is of one version: it is in the names of object files, and in the signature of
    every function that numba keeps."""
    files = list(Path(cpu_llvm.__file__).parent.glob("cpu_*.py"))
    values = [
        value.compiled if isinstance(value, Kernel) else value
        for file in files
        for value in vars(importlib.import_module(f"tinynn.kernels.{file.stem}")).values()
    ]
    signatures = [str(value._sig) for value in values if isinstance(value, CFunc)]
    assert len(signatures) > 20
    assert all(cpu_llvm.version() in signature for signature in signatures)
    tile = cpu_llvm.host_tile()
    before = cpu_llvm.object_file(cpu_microkernel.emit_microkernel, tile)
    for file in files:
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(cpu_llvm, "__file__", str(tmp_path / "cpu_llvm.py"))
    version = cpu_llvm.version.__wrapped__
    assert version() == cpu_llvm.version()
    with (tmp_path / "cpu_loops.py").open("a") as changed:
        changed.write("# changed")
    assert version() != cpu_llvm.version()
    monkeypatch.setattr(cpu_llvm, "version", version)
    assert cpu_llvm.object_file(cpu_microkernel.emit_microkernel, tile) != before


BLAS = """
import sys, numpy, threadpoolctl, tinynn as tn
from tinynn import functional as F
tn.set_num_threads(tn.kernels.threads.usable_cpus())
with tn.use_backend(sys.argv[1]):
    F.relu(tn.Tensor([1.0]))
pools = threadpoolctl.threadpool_info()
print(max(pool["num_threads"] for pool in pools if pool["user_api"] == "blas"))
"""


@pytest.mark.parametrize("name", ["numpy", "reference"])
def test_only_one_of_blas_and_our_kernels_has_several_threads(name: str) -> None:
    command = [sys.executable, "-c", BLAS, name]
    threads = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert threads == (1 if name == "numpy" else usable_cpus())


def test_without_a_compiler_the_reference_kernels_serve() -> None:
    answer, said = run(NUMBA_DISABLE_JIT="1", PYTHONWARNINGS="default")
    assert "NUMBA_DISABLE_JIT is set" in said
    assert "the reference kernels" in said
    np.testing.assert_allclose(answer, run()[0], rtol=1e-6)


def fail(*_: object) -> None:
    raise RuntimeError("no such target")


def test_a_machine_that_llvm_does_not_know_is_served_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynn.kernels.cpu_microkernel.microkernel", fail)
    load = backend._LOADERS["numpy"]
    with pytest.warns(RuntimeWarning, match="no such target.*plain numba"):
        kernels = load().kernels
    assert kernels == {**backend.get_backend("reference").kernels, **plain.KERNELS}


def test_and_one_that_numba_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynn.kernels.cpu_microkernel.microkernel", fail)
    monkeypatch.delattr("tinynn.kernels.plain")
    monkeypatch.setitem(sys.modules, "tinynn.kernels.plain", None)  # its import fails
    load = backend._LOADERS["numpy"]
    with pytest.warns(RuntimeWarning, match="no such target.*reference"):
        kernels = load().kernels
    assert kernels == backend.get_backend("reference").kernels


REFUSED = """
import sys
import llvmlite.binding as llvm

parse = llvm.parse_assembly

def parse_others(text, context=None):
    "LLVM takes what numba writes, and not what tinynn does."
    if sys._getframe(1).f_globals["__name__"].startswith("tinynn."):
        raise RuntimeError("refused")
    return parse(text, context)

llvm.parse_assembly = parse_others
import numpy as np, hwr.models, tinynn as tn
from tinynn import functional as F

rng = np.random.default_rng(0)
images = rng.normal(size=(32, 28, 28, 1)).astype("float32")
labels = rng.integers(0, 10, 32)

def losses(name):
    with tn.use_backend(name):
        model = hwr.models.create("resnet18", seed=0, width=8)
        optimizer = tn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for _ in range(4):
            loss = F.cross_entropy(model(tn.Tensor(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()

first, *_, last = served = list(losses("numpy"))
assert last < 0.9 * first
np.testing.assert_allclose(served, list(losses("reference")), rtol=1e-3)
from tinynn.kernels import plain
assert tn.get_backend("numpy").conv2d is plain.KERNELS["conv2d"]
"""


def test_a_network_learns_where_llvm_refuses_our_code() -> None:
    command = [sys.executable, "-W", "default", "-c", REFUSED]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "RuntimeError: refused); kernels in plain numba do their work" in finished.stderr
