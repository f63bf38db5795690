"""How far a command is: a bar on a terminal, plain lines elsewhere."""

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import pytest

from hwr import progress
from hwr.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (0.49, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.7, "1:00:00"),
        (3661, "1:01:01"),
        (90_061, "25:01:01"),
    ],
)
def test_the_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_plain_lines_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("epoch 1/2", 4_000, done=1_000) as bar:
        now += 10
        bar.update(500, loss=0.5)
        assert capsys.readouterr() == ("", "")  # not yet due
        now += 10
        bar.update(500, loss=0.25)
    assert bar.rate == 50
    assert bar.seconds == 20
    line = "epoch 1/2: 2,000 of 4,000 images, loss 0.2500, 50 images/s, 0:40 left\n"
    assert capsys.readouterr() == ("", line)


def test_other_units_and_slow_rates(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("mlp", 10, unit="turns") as bar:
        now += 40
        bar.update(2)
    assert capsys.readouterr().err == "mlp: 2 of 10 turns, 0.05 turns/s, 2:40 left\n"


def test_a_total_that_is_not_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Progress("file.zip", 0, unit="bytes") as shown:
        shown.update(5000)
    line = capsys.readouterr().err
    assert line.startswith("file.zip: 5,000 bytes, ")
    assert "left" not in line


def test_nothing_done_has_a_rate_of_zero() -> None:
    assert Progress("empty", 0).rate == 0


def test_a_bar_on_a_terminal(spawn: Callable[..., Popen[str]], digits: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    options = "--model mlp --width 16 --epochs 2 --validation 100 --batch-size 16 --threads 1"
    process = spawn(
        "-m", "hwr.train", *options.split(), "--data-dir", digits, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux reports the end of a terminal as an error
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    text = shown.decode()
    for label in ("epoch 1/2", "epoch 2/2", "validating", "testing"):
        assert f"\r{label}:   0%|" in text, text  # the bar begins, on one line
    assert "/300 [" in text  # images done of all
    assert "images/s" in text
    assert "loss=nan" not in text
    assert "epoch 2/2: training loss" in text  # the line of the epoch stays
    assert "test accuracy" in text


def test_the_bar_shows_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("epoch 1/1", 100, done=20) as bar:
        bar.update(30, loss=1.23456)
        assert "50/100" in str(bar.bar)
        assert "loss=1.2346" in str(bar.bar)
