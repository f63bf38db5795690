"""Every command's picture can be drawn, with PyTorch's figures and without."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts
from benchmarks.compare import Timing
from tinynn.kernels import reference

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def timings(count: int) -> list[Timing]:
    return [
        Timing(f"engine {i}", "NHWC", 0.01 * i, 0.009 * i, 0.02 * i, 100.0, {})
        for i in range(1, 1 + count)
    ]


def rows(command: str, count: int) -> list[dict[str, Any]]:
    """Two rows of results, each with so many timings."""
    ratio = 0.5 if count > 1 else None
    step = {"work": "mlp", "threads": 1, "floor": 0.004, "timings": timings(count)}
    call = {"kernel": "conv2d", "multiply_adds": 10**8, "bytes": 10**6, "floor": 0.005,
            "ratio": ratio, "over_floor": 2.0, "timings": timings(count)}  # fmt: skip
    sizes = list(range(1, 1 + count))
    series = {"series": "batch", "what": "a network", "sizes": sizes, "expected": 1.0,
              "fitted": sizes[1:], "measured": ratio, "timings": timings(count)}  # fmt: skip
    network = {"work": "mlp", "batch": 128, "timings": timings(count)}
    trained = [{"seconds": 3.0, "accuracy": 99.0}] * count
    run = {"recipe": "fast", "engine": "PyTorch", "runs": trained}
    failed = {**run, "engine": "tinynn, cold", "runs": [{"seconds": None, "accuracy": None}]}
    made = {
        "step": [step, {**step, "threads": 2}],
        "kernels": [
            call,
            *({**call, "kernel": name} for name in reference.KERNELS),
            {**call, "kernel": "relu", "multiply_adds": 0},
        ],
        "scaling": [series, series],
        "peers": [network, network],
        "end_to_end": [run, failed],
        "augment": [{"augment": "affine", "median": 2e5, "lowest": 1e5, "highest": 3e5}],
    }
    made["gpu_step"] = made["peers"]
    return made[command]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "command", ["step", "gpu_step", "kernels", "scaling", "peers", "end_to_end", "augment"]
)
def test_pictures(command: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    charts.picture(path, getattr(charts, command), rows(command, count))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_kernels_without_products(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    charts.picture(path, charts.kernels, rows("kernels", 3)[-1:])
    assert path.exists()
