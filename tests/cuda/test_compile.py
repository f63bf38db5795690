"""Every CUDA source compiles for the GPUs it is written for, and no register is spilled."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tinynn.kernels.cuda_launch import SOURCES

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
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("name", "options"), builds())
def test_no_register_is_spilled(
    name: str, options: tuple[str, ...], architecture: str, tmp_path: Path
) -> None:
    # -ftz=true: what CuPy gives NVRTC.
    command = ["nvcc", "-std=c++17", f"-arch={architecture}", "-ftz=true", "-cubin", "-Xptxas=-v"]
    command += [*options, "-o", str(tmp_path / "cubin"), str(SOURCES / f"{name}.cu")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    spilled = re.findall(r"(\d+) bytes spill stores", finished.stderr)
    assert spilled, finished.stderr
    assert set(spilled) == {"0"}, finished.stderr
