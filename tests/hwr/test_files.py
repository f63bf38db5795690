"""A file is written whole or not at all, also on a full disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from hwr.errors import UserError
from hwr.files import append_line, write_atomic

LIMITED = """
import resource, sys
from hwr.errors import UserError
from hwr import files
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    getattr(files, sys.argv[1])(sys.argv[2], "x" * 10_000)
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_bytes_and_text_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"\0\r\n\xff")
    assert path.read_bytes() == b"\0\r\n\xff"
    write_atomic(str(path), "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomic(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "new"


def test_a_name_as_long_as_allowed_is_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), "new")
    assert (tmp_path / ("n" * 255)).read_text() == "new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "reported", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "No space.*free some space"),
        (OSError(errno.EROFS, "Read-only file system"), UserError, "folder you may write to"),
        (OSError("odd"), UserError, "odd; check the path and the disk"),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt, "Ctrl-C"),
    ],
)
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    failure: BaseException,
    reported: type[BaseException],
    message: str,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise failure

    path = tmp_path / "file"
    write_atomic(path, "old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(reported, match=message):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("function", ["write_atomic", "append_line"])
def test_a_disk_that_fills_up_leaves_the_old_file_alone(tmp_path: Path, function: str) -> None:
    pytest.importorskip("resource", reason="limits on file sizes are Unix's")
    path = tmp_path / "file"
    path.write_text("old\n")
    command = [sys.executable, "-W", "error", "-c", LIMITED, function, str(path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    remedy = "raise the limit on file sizes (ulimit -f)"
    assert run.stdout == f"cannot write {path}: File too large; {remedy}\n"
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for function in (write_atomic, append_line):
        with pytest.raises(UserError, match=r"missing/new: No such file.*create the folder"):
            function(tmp_path / "missing" / "new", "text")
        with pytest.raises(UserError, match=r"file/new: Not a directory.*is a file"):
            function(tmp_path / "file" / "new", "text")
        with pytest.raises(UserError, match="choose another name"):
            function(tmp_path, "text")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk always full")
def test_a_device_is_never_replaced() -> None:
    with pytest.raises(UserError, match="/dev/full: it is no file"):
        write_atomic("/dev/full", "text")
    with pytest.raises(UserError, match="/dev/full: No space left"):
        append_line("/dev/full", "text")
    assert not os.path.isfile("/dev/full")


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"epoch": 0}')
    append_line(str(path), '{"name": "größer"}')
    assert path.read_bytes() == '{"epoch": 0}\n{"name": "größer"}\n'.encode()
    with pytest.raises(ValueError, match="holds a newline"):
        append_line(path, "two\nlines")
