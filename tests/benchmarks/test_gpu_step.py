"""The benchmark on a GPU, as far as it goes without one: its steps, its table, its excuses."""

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import emulator
import pytest

from benchmarks import gpu_engines, gpu_step
from benchmarks.compare import EngineError, Timing, take_turns
from benchmarks.works import WORKS, Work

TINY = Work(name="tiny", model="mlp", batch=4, options={"width": 4}, optimizer="sgd")


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
@pytest.mark.parametrize("captured", [False, True])
def test_our_step_is_captured_if_it_should_be(
    captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_engines, "PRECISIONS", {"TF32": "highest"})  # built anyway
    monkeypatch.setattr(gpu_engines, "BURST", 4)  # three of them before the recording
    step, facts = gpu_engines.tinynn_step(TINY, "emulated", "TF32", captured, 0)
    step()
    assert facts["captured"] == captured
    assert facts["flags"]["float32_matmul_precision"] == "highest"


@pytest.mark.torch
@pytest.mark.parametrize("precision", ["TF32", "bf16"])
def test_pytorch_s_step(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(gpu_engines, "BURST", 1)
    step, facts = gpu_engines.torch_step(WORKS["mlp"], precision, "eager", True, 0, device="cpu")
    step()
    assert facts["engine"] == f"PyTorch, eager, {precision}"
    assert facts["flags"]["cudnn.allow_tf32"]


def test_times_are_those_of_one_update_and_failures_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_step, "take_turns", lambda engines, *turns: [timing("tinynn", 2.0)])
    engines = [(int, ("no step",))]
    (timed,), failed = gpu_step.measure("tiny", engines, 1, 1)
    assert timed.median == 2 / gpu_engines.BURST
    assert list(failed) == ["int ()"]


def test_a_step_that_cannot_be_recorded_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_engines, "PRECISIONS", {"TF32": "highest"})
    monkeypatch.setattr(gpu_engines, "BURST", 4)
    with pytest.raises(RuntimeWarning, match=r"cannot be recorded.*matmul"):  # it is cuBLAS's
        gpu_engines.tinynn_step(TINY, "double", "TF32", True, 0)


class Turns:
    """In place of an engine's process: it takes steps until it fails."""

    def __init__(self, name: str, turns: int):
        self.facts, self.turns = {"engine": name, "memory_format": "NHWC"}, turns

    def take(self, count: int) -> tuple[list[float], float]:
        self.turns -= 1
        if self.turns < 0:
            raise EngineError("its process ended")
        return [1.0] * count, 0.0


def test_an_engine_that_fails_later_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.compare.PAUSE_S", 0.0)
    engines: list[Any] = [Turns("sound", 9), Turns("broken", 1)]
    failed: dict[Any, str] = {}
    (timed,) = take_turns(engines, 3, 2, failed=failed)
    assert timed.engine == "sound"
    assert failed == {engines[1]: "its process ended"}
    with pytest.raises(EngineError, match="its process ended"):
        take_turns([Turns("broken", 1)], 3, 2)  # type: ignore[list-item]


@pytest.mark.parametrize(("timed", "code"), [(0, 1), (1, 0)])
def test_each_work_is_saved_when_it_is_timed(
    timed: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    report: Any = SimpleNamespace(save=lambda rows, draw, **more: saved.append(list(rows)))
    found = [timing("tinynn, eager, TF32", 1.0)][:timed], {"torch_step": "no room"}
    monkeypatch.setattr(gpu_step, "measure", lambda *given: found)
    args = SimpleNamespace(backend="double", seed=0, rounds=1, steps=1)
    assert gpu_step.run(args, ["mlp", "resnet18-7x7"], report, True) == code
    assert [[row["work"] for row in rows] for rows in saved] == [["mlp"], ["mlp", "resnet18-7x7"]]


def test_on_a_gpu_pytorch_s_optimisers_are_its_fused_ones(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_step, "run", lambda *given: 0)
    assert "torch_optimizers fused;" in bench("step", "--backend", "emulated").out


def timing(engine: str, seconds: float) -> Timing:
    facts = {"captured": True, "device_mib": 10.0, "flags": {"version": "1"}}
    return Timing(engine, "NHWC", seconds, seconds, seconds, 0.0, facts)


def test_ratios_are_over_the_better_of_pytorch_s_formats() -> None:
    names = "tinynn, captured, TF32", "PyTorch, eager, TF32", "PyTorch, eager, TF32"
    timings = [timing(name, s) for name, s in zip(names, (0.001, 0.004, 0.002))]
    ratios = gpu_step.ratios(timings)
    assert ratios == {"tinynn, captured, TF32 / PyTorch, eager, TF32": 0.5}
    row = {"work": "tiny", "batch": 4, "timings": timings, "ratios": ratios, "failed": {"a": "b"}}
    shown = "\n".join(gpu_step.lines(row))
    assert "1.000 ms" in shown
    assert "captured True, version 1" in shown
    assert "a failed: b" in shown


@pytest.mark.skipif(bool(importlib.util.find_spec("cupy")), reason="CuPy is installed")
def test_without_cupy_it_says_what_to_install(bench: Callable[..., Any]) -> None:
    result = bench("step", "--backend", "cupy")
    assert result.code == 2
    assert "backend 'cupy' needs CuPy: pip install '.[cuda13]'" in result.err
