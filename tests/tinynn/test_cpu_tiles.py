"""Which tile a machine gets, and what all kernels compute with those of other machines."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import pytest

import tinynn
from tinynn.kernels import cpu_llvm
from tinynn.kernels.cpu_llvm import AVX2, AVX512, NEON, SSE, Tile, fitting_tile, host_tile
from tinynn.kernels.cpu_microkernel import microkernel


def test_the_kernels_tile_is_the_host_s() -> None:
    table = microkernel().table
    assert tuple(table[:3]) == (host_tile().rows, host_tile().width, host_tile().lanes)


@pytest.fixture
def other_machine() -> Iterator[None]:
    """What is known of this one is forgotten, and what was found of another one afterwards."""
    for function in (host_tile, fitting_tile):
        function.cache_clear()
    yield
    for function in (host_tile, fitting_tile):
        function.cache_clear()


@pytest.mark.parametrize(
    ("features", "machine", "tile"),
    [
        ("sse2 avx avx2 fma avx512f", "x86_64", AVX512),
        ("sse2 avx avx2 fma", "AMD64", AVX2),
        ("sse2 avx avx2", "x86_64", SSE),  # its products would be two instructions each
        ("sse2 avx fma", "x86_64", SSE),
        ("sse2", "x86_64", SSE),
        ("neon", "arm64", NEON),
        ("neon", "aarch64", NEON),
        ("", "ARM64", NEON),  # Windows writes it large; LLVM may know no features
        ("", "riscv64", SSE),
    ],
)
def test_the_tile_follows_the_machine(
    features: str, machine: str, tile: Tile, other_machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ["sse2", "avx", "avx2", "fma", "avx512f", "neon"]
    has = {name: name in features.split() for name in known}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: has)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert host_tile() == tile
    assert fitting_tile(tile.width) == tile
    assert fitting_tile(tile.width // 2) == tile.half()


EVERY_KERNEL = """
import sys
from tinynn.kernels import cpu_llvm

tile = getattr(cpu_llvm, sys.argv[1])
cpu_llvm.host_tile = lambda: tile  # before the kernels import it

import numpy as np
import kernel_cases
import test_drop_ins
from tinynn.gradcheck_cases import Draw
from tinynn.kernels.cpu_microkernel import microkernel

backend = test_drop_ins.get_backend("numpy")
assert microkernel().tile == tile
names = [name for backend_name, name in (p.values for p in test_drop_ins.DROP_INS)
         if backend_name == "numpy"]
assert len(names) > 40
for name in names:
    for seed in range(16):
        draw = Draw(np.random.default_rng(seed))
        arguments = kernel_cases.CASES[name].make(draw)
        try:
            test_drop_ins.check_drop_in(backend, name, "float32", arguments, draw)
        except Exception as error:
            error.add_note(f"{name}, seed {seed}")
            raise
"""


@pytest.mark.parametrize("name", ["SSE", "AVX2", "NEON"])
def test_every_kernel_is_right_with_the_tile_of_another_machine(name: str) -> None:
    """In a process of its own, which knows no other. LLVM splits or joins vectors as it must."""
    if getattr(cpu_llvm, name) == host_tile():
        pytest.skip("this machine's own: see test_drop_ins.py")
    path = [Path(__file__).parent, Path(tinynn.__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-W", "error", "-c", EVERY_KERNEL, name]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
