"""An interrupted run goes on bit for bit: killed at any moment, by Ctrl-C, by SIGTERM."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr import checkpoint, models, train
from tinynn import functional as F
from tinynn import nn, state

Cli = Callable[..., Any]
Spawn = Callable[..., Popen[str]]
InterruptAt = Callable[..., AbstractContextManager[None]]

ONE_THREAD = ["--threads", "1", "--epochs", "2"]
SHORT = ["--validation", "100", "--train-size", "90", "--batch-size", "20", *ONE_THREAD]  # 5 steps
LONG = ["--width", "4", "--validation", "40", "--batch-size", "12", *ONE_THREAD]  # 30 an epoch


class DropoutNet(nn.Module):
    """Every kind of state at once: weights, running statistics, and a generator drawn from."""

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 1,
        generator: np.random.Generator | None = None,
    ):
        self.conv = nn.Conv2d(channels, 3, 5, stride=4, generator=generator)
        self.bn = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5, generator=generator)
        self.fc = nn.Linear(6 * 6 * 3, classes, generator=generator)

    def forward(self, x: Any) -> tn.Tensor:
        x = self.dropout(self.bn(self.conv(x), relu=True))
        return self.fc(F.flatten(x, 1))


@pytest.fixture
def dropout_net() -> Iterator[str]:
    """The name of a registered model with dropout."""
    models.models.register("dropout-net")(DropoutNet)
    yield "dropout-net"
    del models.models._entries["dropout-net"]


class Killed(BaseException):
    """The process is no more."""


class Reaper:
    """Lets a run write so many times and then kills it; what it wrote so far stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.writes, self.limit = 0, 10**9
        for owner, name in (
            (checkpoint, "write_atomic"),
            (checkpoint, "append_line"),
            (state, "write_arrays"),
        ):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, write: Callable[..., None]) -> Callable[..., None]:
        """The function, mortal."""

        def mortal(*args: Any) -> None:
            if self.writes == self.limit:
                raise Killed
            self.writes += 1
            write(*args)

        return mortal


@pytest.fixture
def reaper(monkeypatch: pytest.MonkeyPatch) -> Reaper:
    """Counts the files a run writes and can end it before any of them."""
    return Reaper(monkeypatch)


def history(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines
    ]


def assert_same_run(a: Path, b: Path) -> None:
    """Two run folders agree in every bit of weights, moments, standing and figures."""
    for name in ("last.safetensors", "best.safetensors"):
        arrays, facts = state.read_arrays(a / name)
        others, other_facts = state.read_arrays(b / name)
        assert facts == other_facts
        assert arrays.keys() == others.keys()
        assert [n for n in arrays if arrays[n].tobytes() != others[n].tobytes()] == []
    assert history(a) == history(b)
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())


@pytest.mark.parametrize("save_every", [0, 120])
@pytest.mark.parametrize(
    "model",
    [
        "mlp --width 4",
        "dropout-net",
        "dropout-net --augment elastic --ema-decay 0.8 --patience 1",
    ],
)
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(
    cli: Cli,
    digits: Path,
    reaper: Reaper,
    dropout_net: str,
    model: str,
    save_every: int,
) -> None:
    options = ["--model", *model.split(), *SHORT, "--save-every", save_every, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    moments = reaper.writes
    # config, start, log and last an epoch, test; [10 steps]; best once or twice
    assert moments in ((18, 19) if save_every == 0 else (8, 9))
    for moment in range(moments):
        folder = Path(f"killed-{moment}")
        reaper.writes, reaper.limit = 0, moment
        with pytest.raises(Killed):
            train.main([str(o) for o in (*options, "--output-dir", folder)])
        reaper.limit = 10**9
        run = cli("train", *options, "--output-dir", folder, "--resume", "auto")
        if moment == moments - 1:  # trained to the end: only the last line of the log is missing
            assert run.code == 2
            assert history(folder) == history(Path("whole"))[:-1]
            continue
        assert run.code == 0, run.err
        assert_same_run(folder, Path("whole"))


def test_the_dropout_of_a_resumed_run_is_not_that_of_its_start(
    cli: Cli, digits: Path, dropout_net: str, interrupt_at: InterruptAt
) -> None:
    """The comparison above sees the generator: without it, the bits differ."""
    options = ["--model", dropout_net, *SHORT, "--save-every", 0, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    with interrupt_at(3):
        assert cli("train", *options, "--output-dir", "forgetful").code == 130
    path = Path("forgetful/last.safetensors")
    arrays, facts = state.read_arrays(path)
    facts["generator"] = np.random.default_rng(1).bit_generator.state
    state.write_arrays(path, arrays, facts)
    assert cli("train", "--resume", "forgetful").code == 0
    with pytest.raises(AssertionError):
        assert_same_run(Path("forgetful"), Path("whole"))


@pytest.mark.parametrize("steps", [(1,), (3,), (5,), (6, 8), (10,)])
def test_ctrl_c_ends_the_step_and_saves(
    cli: Cli, digits: Path, interrupt_at: InterruptAt, steps: tuple[int, ...]
) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    before = signal.getsignal(signal.SIGINT)
    with interrupt_at(*steps):  # counted over the first run and those that resume it
        run = cli("train", *options, "--output-dir", "run")
        for step in steps:
            assert run.code == 130
            assert signal.getsignal(signal.SIGINT) is before
            assert run.err == "\nstopping after this step ...\n"
            place = f"step {step} (epoch {(step - 1) // 5 + 1}, batch {(step - 1) % 5 + 1})"
            assert run.out.endswith(
                f"stopped at {place} and saved; go on by\n  python -m hwr.train --resume run\n"
            )
            assert state.read_metadata("run/last.safetensors")["step"] == step
            run = cli("train", "--resume", "run")
            assert f"resuming at {place}\n" in run.out
    assert run.code == 0
    assert_same_run(Path("run"), Path("whole"))


def test_a_second_ctrl_c_ends_it_at_once(cli: Cli, digits: Path, interrupt_at: InterruptAt) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits, "--save-every", 0]
    with interrupt_at(3, 3):
        run = cli("train", *options, "--output-dir", "run")
    assert run.code == 130
    assert run.err.endswith("hwr.train: interrupted\n")
    assert state.read_metadata("run/last.safetensors")["step"] == 2


def wait_for_step(process: Popen[str], folder: Path, step: int) -> None:
    """Wait until the run has saved itself at that step or later."""
    path, deadline = folder / "last.safetensors", time.monotonic() + 120
    while not (path.exists() and state.read_metadata(path)["step"] >= step):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_process_goes_on_bit_for_bit(
    cli: Cli, spawn: Spawn, digits: Path, tmp_path: Path
) -> None:
    options = [*LONG, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    for step in (4, 35):  # twice, in different epochs
        process = spawn("-m", "hwr.train", *options, "--save-every", 0, "--resume", "auto")
        wait_for_step(process, tmp_path / "runs" / "resnet18-7x7-4", step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        standing = state.read_metadata("runs/resnet18-7x7-4/last.safetensors")
        assert step <= standing["step"] < 60
        assert not standing["finished"]
    process = spawn("-m", "hwr.train", *options, "--resume", "auto")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"resuming at step {standing['step']} " in out
    assert_same_run(Path("runs/resnet18-7x7-4"), Path("whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_asked_to_end_saves_first(
    cli: Cli, spawn: Spawn, digits: Path, tmp_path: Path, number: int
) -> None:
    options = [*LONG, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "whole").code == 0
    process = spawn("-m", "hwr.train", *options, "--output-dir", "run", "--save-every", 0)
    wait_for_step(process, tmp_path / "run", 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "\nstopping after this step ...\n"
    assert "saved; go on by\n  python -m hwr.train --resume run\n" in out
    assert cli("train", "--resume", "run").code == 0
    assert_same_run(Path("run"), Path("whole"))


def test_auto_takes_the_run_that_stopped_last(
    cli: Cli, digits: Path, interrupt_at: InterruptAt
) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "runs/finished").code == 0
    with interrupt_at(2, 4):
        for seed, name in enumerate(("one", "two")):
            rest = ("--seed", seed, "--output-dir", f"runs/{name}")
            assert cli("train", *options, *rest).code == 130
    os.utime("runs/two/last.safetensors", (1, 1))
    run = cli("train", "--resume", "auto")
    assert run.code == 0
    assert "folder: runs/one\n" in run.out

    Path("runs/finished/last.safetensors").write_bytes(b"damaged")
    os.utime("runs/finished/last.safetensors", (0, 0))  # older: none of our business
    run = cli("train", "--resume", "auto")
    assert run.code == 0
    assert "folder: runs/two\n" in run.out

    run = cli("train", "--resume", "auto")  # newest of all now: it must not be passed over
    assert run.code == 2
    assert "runs/finished/last.safetensors: not a readable safetensors file" in run.err


def test_auto_with_nothing_to_resume_starts_a_run(cli: Cli, digits: Path) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    for name in ("mlp-4", "mlp-4-2"):
        run = cli("train", *options, "--resume", "auto")
        assert run.code == 0
        assert run.out.startswith("no interrupted run under runs: starting a new one\n")
        assert f"folder: runs/{name}\n" in run.out


def test_a_finished_run_is_not_resumed(cli: Cli, digits: Path) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    assert cli("train", *options, "--output-dir", "run").code == 0
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    for path in ("run", "run/last.safetensors"):
        run = cli("train", "--resume", path)
        assert run.code == 2
        assert run.err == (
            "hwr.train: error: run is finished, epoch 2 was its last; measure it by "
            "python -m hwr.evaluate run\n"
        )
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_options_of_a_resumed_run(
    cli: Cli, digits: Path, interrupt_at: InterruptAt, tmp_path: Path
) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    with interrupt_at(2):
        assert cli("train", *options, "--output-dir", "run").code == 130
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    for flag, typed, own in (
        ("--epochs", "3", "2"),
        ("--lr", "0.5", "0.003"),
        ("--width", "8", "4"),
        ("--stem", "7x7", "None"),
        ("--model", "fast", "mlp"),
        ("--recipe", "fast", "chi2022-resnet18"),
        ("--seed", "7", "0"),
        ("--train-size", "80", "90"),
        ("--limit-batches", "1", "None"),
        ("--data-dir", "other", str(digits)),
    ):
        run = cli("train", "--resume", "run", flag, typed)
        assert run.code == 2
        typed = str(tmp_path / typed) if flag == "--data-dir" else typed
        assert run.err == (
            f"hwr.train: error: {flag} {typed} differs from {own} of the run in run; leave it out "
            "to resume, or start a new run without --resume\n"
        )
    run = cli("train", "--resume", "run", "--output-dir", "elsewhere")
    assert run.code == 2
    assert "--output-dir elsewhere differs from --resume run" in run.err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    assert not Path("elsewhere").exists()

    again = ("--recipe", "chi2022-resnet18", "--output-dir", "run", "--threads", 1)
    run = cli("train", *options, *again, "--resume", "run")  # the same options may be repeated
    assert run.code == 0


def test_what_a_killed_process_was_writing_is_removed(
    cli: Cli, digits: Path, interrupt_at: InterruptAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    names: list[str] = []
    with interrupt_at(2):
        assert cli("train", *options, "--output-dir", "run").code == 130
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda temporary, target: names.append(Path(temporary).name))
        state.write_arrays("run/last.safetensors", {"x": np.zeros(1)})
    assert (Path("run") / names[0]).exists()
    assert cli("train", "--resume", "run").code == 0
    assert not (Path("run") / names[0]).exists()


def test_half_a_line_of_the_log_is_dropped(
    cli: Cli, digits: Path, interrupt_at: InterruptAt
) -> None:
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", digits]
    with interrupt_at(7):
        assert cli("train", *options, "--output-dir", "run").code == 130
    with open("run/metrics.jsonl", "ab") as log:
        log.write(b'{"epoch": 2, "st\xff')
    assert cli("train", "--resume", "run").code == 0
    assert [line.get("epoch") for line in history(Path("run"))] == [1, 2, None]


def test_other_data_are_noticed(
    cli: Cli,
    digits: Path,
    interrupt_at: InterruptAt,
    idx_bytes: Callable[[Any], bytes],
    tmp_path: Path,
) -> None:
    for path in digits.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    options = ["--model", "mlp", "--width", 4, *SHORT, "--data-dir", tmp_path]
    with interrupt_at(2):
        assert cli("train", *options, "--output-dir", "run").code == 130
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((300, 28, 28), "u1")))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(300, "u1")))
    run = cli("train", "--resume", "run")
    assert run.code == 2
    assert "the data have changed since the run began: train_split was " in run.err
