"""Every CUDA source compiles for the GPUs it is written for, and no register is spilled."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinynn.kernels.cuda_launch import SOURCES, source

NVCC = shutil.which("nvcc")
CONVOLUTIONS = [(f"-DPRECISION={p}", "-DVECTOR=4") for p in (0, 1, 2)] + [
    ("-DPRECISION=1", "-DVECTOR=1")
]


def builds() -> list[tuple[str, tuple[str, ...]]]:
    """Source files, and the options each is compiled with."""
    names = sorted(path.stem for path in SOURCES.glob("*.cu"))
    return [(n, o) for n in names for o in (CONVOLUTIONS if n == "conv" else [()])]


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(("name", "options"), builds())
def test_no_register_is_spilled(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    # -ftz=true: what CuPy gives NVRTC.
    command = ["nvcc", "-std=c++17", "-ftz=true", "-fatbin", "-Xptxas=-v", "--threads=2"]
    command += [f"-gencode=arch=compute_{n},code=sm_{n}" for n in (80, 90)]
    command += [*options, "-o", str(tmp_path / "fatbin"), str(SOURCES / f"{name}.cu")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    spilled = re.findall(r"(\d+) bytes spill stores", finished.stderr)
    kernels = (SOURCES / f"{name}.cu").read_text("utf-8").count("__global__")
    assert finished.stderr.count("Compiling entry function") == 2 * kernels, finished.stderr
    assert set(spilled) == {"0"}, finished.stderr


def find_nvrtc() -> Path | None:
    """NVIDIA's run-time compiler, from its wheel or a CUDA toolkit."""
    places = [Path(p, "nvidia") for p in sys.path] + [Path("/usr/local/cuda")]
    found = (library for place in places for library in place.glob("**/libnvrtc.so.1*"))
    return next(found, None)


NVRTC = find_nvrtc()


@pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed")
@pytest.mark.parametrize(("name", "options"), builds())
def test_the_run_time_compiler_takes_what_cupy_is_given(
    name: str, options: tuple[str, ...]
) -> None:
    nvrtc = ctypes.CDLL(str(NVRTC))
    program = ctypes.c_void_p()
    code = source(name).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None)
    given = [o.encode() for o in ("-std=c++17", "-ftz=true", "-arch=sm_90", *options)]
    failed = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    log = ctypes.create_string_buffer(1 << 16)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
