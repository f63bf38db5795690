"""Replacing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside the file, flush it to the disk and give it the file's name.

    On any error (a full disk, Ctrl-C) the old file stays as it was and nothing is left behind.
    A symbolic link is followed, not replaced. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    # A name of fixed length: one derived from the target's could be too long for the file system.
    temporary = target.with_name(f".tinynn-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut."""
    # The file itself is whole by now. Windows and some network file systems cannot sync a folder,
    # and an error here would tell the caller that the old file is still there.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
