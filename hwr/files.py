"""Writing files so that a crash, a full disk or Ctrl-C never leaves half of one."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from hwr.errors import UserError
from tinynn.files import replace_file

_REMEDIES = {
    errno.ENOSPC: "free some space or choose a folder on another disk",
    errno.EDQUOT: "free some of your quota or choose a folder on another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose a folder: a part of this path is a file",
    errno.EISDIR: "choose another name: this one is a folder",
}


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Replace the file at ``path`` by ``data`` (text as UTF-8), or leave it as it was.

    The data go to a temporary file beside it, which takes the name once it is safely on the disk.
    A symbolic link is followed, not replaced.

    Raises :class:`~hwr.errors.UserError` if the file cannot be written.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null must not become a file
        raise UserError(f"cannot write {os.fspath(path)}: it is no file; choose another name")
    try:
        replace_file(path, data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> Path:
    """Make a folder, and those it lies in, unless it is there; returns it.

    Raises :class:`~hwr.errors.UserError` if that is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def append_line(path: str | os.PathLike[str], text: str) -> None:
    """Append ``text`` and a newline to the file, in UTF-8, all of it or nothing.

    The line has been handed to the operating system on return, so other programs see it.

    Raises :class:`~hwr.errors.UserError` if the file cannot be written, ``ValueError`` if ``text``
    has a newline of its own.
    """
    if "\n" in text:
        raise ValueError(f"append_line: the text holds a newline, {text!r}; append line by line")
    line = memoryview(f"{text}\n".encode())
    try:
        with open(path, "ab", buffering=0) as file:
            length = file.tell()
            try:
                while line:  # a disk that fills up takes a part first and fails on the rest
                    line = line[file.write(line) :]
            except BaseException:
                with suppress(OSError):
                    file.truncate(length)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike[str], error: OSError) -> UserError:
    """The error for a file that could not be written: which, why and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk")
    return UserError(f"cannot write {os.fspath(path)}: {error.strerror or error}; {remedy}")
