"""What the commands print and save, and how they fail. Nothing here is about how fast."""

import argparse
import importlib.util
import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import compare, end_to_end, scaling
from benchmarks.compare import Engine, EngineError, Timing
from benchmarks.engines import tinynn_step
from benchmarks.scaling import exponent, fixed_part
from benchmarks.works import WORKS
from hwr.errors import UserError
from hwr.statistics import describe_accuracy
from tinynn.kernels.threads import usable_cpus

ONCE = ("--rounds", 1, "--steps", 1, "--threads", 1)
MACHINE = ("date", "python", "processor", "cores", "load", "tinynn", "numpy", "numba", "torch")


def test_a_step_without_torch(bench: Callable[..., Any], nothing_installed: None) -> None:
    result = bench("step", "mlp", *ONCE, "--seed", 3)
    assert result.code == 0
    assert "PyTorch is not installed" in result.out
    assert "pip install '.[bench]'" in result.out
    assert "no picture: matplotlib is not installed" in result.out
    assert all(key in result.saved["machine"] for key in MACHINE)
    assert result.saved["settings"]["threads"] == [1]
    assert result.saved["settings"]["seed"] == 3
    assert result.saved["command"].startswith("python -m benchmarks.step mlp")
    (row,) = result.saved["results"]
    # 784-512-512-10, batch 128: three products a layer, but no gradient of the images.
    assert row["multiply_adds"] == 128 * (2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10)
    assert row["floor"] == row["multiply_adds"] / row["sgemm_multiply_adds_per_s"]
    (ours,) = row["timings"]
    assert ours["memory_format"] == "NHWC"
    assert row["ratio"] is None


@pytest.mark.torch
def test_a_step_beside_torch(bench: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    result = bench("step", "mlp", *ONCE)
    (row,) = result.saved["results"]
    ours, *theirs = row["timings"]
    assert [t["memory_format"] for t in theirs] == ["contiguous", "channels_last"]
    assert {t["engine"] for t in theirs} == {"PyTorch"}
    assert theirs[0]["facts"]["flags"]["version"]
    assert row["ratio"] == ours["median"] / min(t["median"] for t in theirs)
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "results.png").exists() == drawn


def test_the_rate_of_warps(bench: Callable[..., Any], nothing_installed: None) -> None:
    result = bench("augment", "shift", "--rounds", 2, "--steps", 1)
    (row,) = result.saved["results"]
    assert row["augment"] == "shift"
    assert 0 < row["lowest"] <= row["median"] <= row["highest"]
    assert f"{row['median']:,.0f} images/s" in result.out


def test_kernels_without_torch(bench: Callable[..., Any], nothing_installed: None) -> None:
    result = bench("kernels", "linear_grad", "sigmoid", "--works", "mlp", *ONCE)
    assert result.code == 0
    rows = result.saved["results"]
    assert {row["kernel"] for row in rows} == {"linear_grad", "sigmoid"}
    assert sum(row["calls"] for row in rows if row["kernel"] == "linear_grad") == 4
    rate = result.saved["sgemm_multiply_adds_per_s"]
    assert all(row["floor"] >= row["multiply_adds"] / rate for row in rows)
    assert result.saved["copied_bytes_per_s"]


def test_scaling(bench: Callable[..., Any], nothing_installed: None) -> None:
    result = bench("scaling", "depth", "--most", 2, *ONCE)
    (row,) = result.saved["results"]
    assert (row["series"], row["sizes"], row["expected"]) == ("depth", [2], 1.0)
    assert row["measured"] is None  # one size has no slope
    assert "2 " in result.out


def test_an_exponent_is_a_slope_of_logarithms() -> None:
    assert exponent([16, 32, 64], [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert exponent([1, 2], [8.0, 4.0]) == pytest.approx(-1)


def test_a_fixed_part_is_told_from_what_grows() -> None:
    sizes = [32, 64, 128, 256]
    times = [0.015 + 0.0005 * size for size in sizes]
    assert fixed_part(sizes, times, 1.0) == pytest.approx((0.015, 0.0005))
    assert exponent(sizes, times) < 0.9  # although the time is linear in the size
    assert fixed_part(sizes[:2], times[:2], 1.0) is None


def test_sizes_that_the_cache_holds_are_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "calls_of", lambda *_: [])
    width = replace(scaling.SERIES["threads"], expected=2, fitted_from=32)
    timings = [Timing("tinynn", "NHWC", s, s, s, 0.0, {}) for s in (0.15, 0.2, 0.8, 3.2)]
    row = scaling.as_row("threads", width, [16, 32, 64, 128], timings)
    assert row["fitted"] == [32, 64, 128]
    assert row["measured"] == pytest.approx(2)
    assert "measured 2.00 from 32 on, of the last two sizes 2.00" in scaling.table(row)
    assert scaling.as_row("threads", width, [16], timings[:1])["measured"] is None


def test_absent_peers_are_named(bench: Callable[..., Any], nothing_installed: None) -> None:
    result = bench("peers", "mlp", *ONCE)
    assert result.code == 0
    for package in ("dezero", "autograd", "smallpebble"):
        assert f"pip install {package}" in result.out
    (row,) = result.saved["results"]
    assert [t["engine"] for t in row["timings"]] == ["tinynn", "tinynn (reference)"]
    assert result.saved["absent"].keys() == {"DeZero", "autograd", "SmallPebble"}


def test_a_turn_begins_with_steps_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    requests = [(lambda: (lambda: steps.append("taken"), {}), ()), 5]
    answers: list[Any] = []

    def receive() -> Any:
        if not requests:
            raise EOFError
        return requests.pop(0)

    looks = itertools.count()  # at a clock that has gone on by a second at each
    monkeypatch.setattr(compare, "time", SimpleNamespace(perf_counter=lambda: next(looks)))
    monkeypatch.setattr(compare, "WARM_S", 4)
    monkeypatch.setattr(compare.signal, "signal", lambda *_: None)
    compare.serve(cast(Any, SimpleNamespace(recv=receive, send=answers.append)))
    (times, _) = answers[-1]
    assert len(times) == 5
    assert len(steps) == compare.WARM_UP + 4 + 5


def test_an_engine_that_fails_says_why() -> None:
    with Engine() as engine:
        with pytest.raises(EngineError, match="unknown backend 'nonsense'"):
            engine.make((tinynn_step, (WORKS["mlp"], 1, "nonsense", 0)))
        with pytest.raises(EngineError, match="ended with code 3"):
            engine.make((os._exit, (3,)))


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("step", ["mpl"], "did you mean 'mlp'?"),
        ("kernels", ["conv3d"], "did you mean 'conv2d'?"),
        ("kernels", ["--explain", "resnet81"], "did you mean 'resnet18'?"),
        ("scaling", ["breadth"], "unknown series 'breadth'"),
        ("augment", ["afine"], "did you mean 'affine'?"),
        ("peers", ["resnet"], "unknown work 'resnet'"),
        ("end_to_end", ["--recipes", "fats"], "did you mean 'fast'?"),
        ("step", ["--threads", usable_cpus() + 1], f"more than the {usable_cpus()} processors"),
        ("step", ["--rounds", 0], "0 is less than 1"),
        ("step", ["--backend", "numpi"], "did you mean 'numpy'?"),
        ("step", ["--output", "/dev/null/results.json"], "cannot write"),
    ],
)
def test_mistakes_exit_with_2(
    bench: Callable[..., Any], command: str, words: list[Any], message: str
) -> None:
    result = bench(command, *words)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


FAST = {"recipe": "fast", "engine": "PyTorch", "memory_format": "contiguous", "target": 99.3}


def test_a_run_lasts_until_its_accuracy_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trained.py").write_text(
        f"print('loss 1')\nprint('test accuracy {describe_accuracy(9931, 10_000)}')\n"
    )
    (tmp_path / "broken.py").write_text("raise SystemExit(5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    row = end_to_end.timed(FAST, ["trained"], [3], tmp_path, {})
    (run,) = row["runs"]
    assert (run["seed"], run["accuracy"], run["exit_code"]) == (3, 99.31, 0)
    assert run["seconds"] > 0
    assert end_to_end.line(row).endswith("test accuracy 99.31 %; 99.3 % reached")
    row = end_to_end.timed(FAST, ["broken"], [3], tmp_path, {})
    assert (row["runs"][0]["accuracy"], row["runs"][0]["exit_code"]) == (None, 5)
    assert "ended with code 5" in end_to_end.line(row)


def test_the_first_epoch_that_validates_as_well_is_told() -> None:
    ours = "epoch {}/3: training loss 0.1, accuracy 99.90 %; validation loss 0.0213, accuracy {} %"
    theirs = "epoch {}: validation accuracy {} %"
    for text in (ours, theirs):
        told = [(float(n), text.format(n, a)) for n, a in ((1, "99.10"), (2, "99.40"), (3, "99.2"))]
        run = end_to_end.figures([*told, (4.0, "test accuracy 99.25 % (9925 of 10,000)")])
        assert (run["seconds"], run["accuracy"]) == (4.0, 99.25)
        assert [epoch["validation_accuracy"] for epoch in run["epochs"]] == [99.1, 99.4, 99.2]
        assert end_to_end.validated(run, 99.3) == 2.0
        assert end_to_end.validated(run, 99.5) is None
        line = end_to_end.line({**FAST, "runs": [{**run, "seed": 0, "exit_code": 0}]})
        assert line.endswith("99.3 % not reached; of the held-out images after 2.0 s")


@pytest.mark.slow
def test_a_start_lasts_until_the_first_step_is_done(tmp_path: Path) -> None:
    words = ["--work", "mlp"]
    row = end_to_end.start("tinynn, warm", "tinynn", words, 2, 2.0, tmp_path, {})
    assert (row["engine"], row["limit_s"], len(row["seconds"])) == ("tinynn, warm", 2.0, 2)
    assert "the aim of 2 s" in end_to_end.start_line(row)
    with pytest.raises(UserError, match="ended with code 2"):
        end_to_end.start("tinynn", "tinynn", ["--work", "mpl"], 1, None, tmp_path, {})


@pytest.mark.torch
def test_the_better_format_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    args = argparse.Namespace(device="cpu", threads=1, seed=0)
    best, seconds = end_to_end.better_format("fast", args)
    assert seconds.keys() == {"contiguous", "channels_last"}
    assert seconds[best] == min(seconds.values())
    assert f"{best} is trained" in capsys.readouterr().out


def test_several_seeds_are_one_line() -> None:
    runs = [
        {"seed": i, "seconds": 10.0 * i, "accuracy": accuracy, "exit_code": 0, "epochs": []}
        for i, accuracy in enumerate((99.2, 99.3, 99.4))
    ]
    row = {"recipe": "fast", "engine": "PyTorch", "memory_format": "", "target": 99.3, "runs": runs}
    text = end_to_end.line(row)
    assert "10.0 s" in text
    assert "99.30 % (99.20 to 99.40); 99.3 % reached by 2 of 3 seeds, in 15.0 s" in text
