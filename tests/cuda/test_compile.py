"""Every CUDA source compiles for the GPUs it is written for, and no register is spilled."""

import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tinynn.kernels.cuda_conv import FLOAT32, TF32, TILES, definitions
from tinynn.kernels.cuda_launch import SOURCES, source

Finished = subprocess.CompletedProcess[str]
NVCC = shutil.which("nvcc")
CONVOLUTIONS = [definitions(tile, 4) for tiles in TILES.values() for tile in tiles]
CONVOLUTIONS += [definitions(tile, 1) for tile in (*TILES[FLOAT32], *TILES[TF32])]


def builds() -> list[tuple[str, tuple[str, ...]]]:
    """Source files, and the options each is compiled with."""
    names = sorted(path.stem for path in SOURCES.glob("*.cu"))
    return [(n, o) for n in names for o in (CONVOLUTIONS if n == "conv" else [()])]


def compile_for_gpus(name: str, options: tuple[str, ...], folder: Path) -> Finished:
    """What nvcc says of a source file. One pass to PTX, which either GPU's assembler then takes."""
    command = ["nvcc", "-std=c++17", "-fatbin", "-Xptxas=-v", *options]
    command += ["-ftz=true", "-gencode=arch=compute_80,code=[sm_80,sm_90]"]  # ftz: as CuPy does
    command += ["-o", str(folder / "-".join([name, *options])), str(SOURCES / f"{name}.cu")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Any, Future[Finished]]]:
    """All sources, compiled two at a time."""
    folder = tmp_path_factory.mktemp("fatbins")
    with ThreadPoolExecutor(2) as pool:
        yield {build: pool.submit(compile_for_gpus, *build, folder) for build in builds()}


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("build", builds(), ids=lambda build: " ".join([build[0], *build[1]]))
def test_no_register_is_spilled(build: Any, finished: dict[Any, Future[Finished]]) -> None:
    name, log = build[0], finished[build].result().stderr
    assert finished[build].result().returncode == 0, log
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    kernels = (SOURCES / f"{name}.cu").read_text("utf-8").count("__global__")
    assert log.count("Compiling entry function") == 2 * kernels, log
    assert set(spilled) == {"0"}, log


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.cu")), ids=lambda path: path.stem)
def test_a_source_s_lines_keep_their_file_and_number(path: Path) -> None:
    file, number, included = Path(), 0, []
    for line in source(path.stem).splitlines():
        if place := re.fullmatch(r'#line (\d+) "(.*)"', line):
            number, file = int(place[1]), Path(place[2])
            included += [file] if number == 1 else []
        else:
            assert file.read_text("utf-8").splitlines()[number - 1] in (line, "#pragma once")
            number += 1
    assert (file, number - 1) == (path, len(path.read_text("utf-8").splitlines()))
    assert sorted(included) == sorted(set(included))
    assert SOURCES / "device.cuh" in included


def find_nvrtc() -> Path | None:
    """NVIDIA's run-time compiler, from its wheel or a CUDA toolkit."""
    places = [Path(p, "nvidia") for p in sys.path] + [Path("/usr/local/cuda")]
    found = (library for place in places for library in place.glob("**/libnvrtc.so.1*"))
    return next(found, None)


NVRTC = find_nvrtc()


@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("gpu", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("name", "options"), builds())
def test_the_run_time_compiler_takes_what_cupy_is_given(
    name: str, options: tuple[str, ...], gpu: str
) -> None:
    nvrtc = ctypes.CDLL(str(NVRTC))
    program = ctypes.c_void_p()
    code = source(name).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None)
    cupys = "-ftz=true", f"-arch={gpu}", "--device-as-default-execution-space"
    given = [o.encode() for o in ("-std=c++17", *cupys, *options)]
    failed = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    log = ctypes.create_string_buffer(1 << 16)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
