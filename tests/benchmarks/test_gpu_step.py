"""The benchmark on a GPU, as far as it goes without one: its steps, its table, its excuses."""

import importlib.util
from collections.abc import Callable
from typing import Any

import emulator
import pytest

from benchmarks import gpu_engines, gpu_step
from benchmarks.compare import Timing
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


def timing(engine: str, seconds: float) -> Timing:
    facts = {"device_mib": 10.0, "flags": {"version": "1"}}
    return Timing(engine, "NHWC", seconds, seconds, seconds, 0.0, facts)


def test_ratios_are_over_the_better_of_pytorch_s_formats() -> None:
    names = "tinynn, captured, TF32", "PyTorch, eager, TF32", "PyTorch, eager, TF32"
    timings = [timing(name, s) for name, s in zip(names, (0.001, 0.004, 0.002))]
    ratios = gpu_step.ratios(timings)
    assert ratios == {"tinynn, captured, TF32 / PyTorch, eager, TF32": 0.5}
    row = {"work": "tiny", "batch": 4, "timings": timings, "ratios": ratios, "failed": {"a": "b"}}
    shown = "\n".join(gpu_step.lines(row))
    assert "1.000 ms" in shown
    assert "version 1" in shown
    assert "a failed: b" in shown


@pytest.mark.skipif(bool(importlib.util.find_spec("cupy")), reason="CuPy is installed")
def test_without_cupy_it_says_what_to_install(bench: Callable[..., Any]) -> None:
    result = bench("step", "--backend", "cupy")
    assert result.code == 2
    assert "backend 'cupy' needs CuPy: pip install '.[cuda13]'" in result.err
