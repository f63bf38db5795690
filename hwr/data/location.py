"""Where data lie: --data-dir, else the variable HWR_DATA, else the user's cache."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from hwr.data.catalogue import Entry
from hwr.data.dataset import Dataset
from hwr.data.strings import Strings
from hwr.errors import DataError, unknown_name

VARIABLE = "HWR_DATA"


def cache() -> Path:
    """The user's folder for data that can be fetched again, as the platform has it.

    Source: XDG Base Directory Specification, for Linux and the like.
    """
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "hwr"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "hwr" / "cache"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    return (Path(base) if os.path.isabs(base) else home / ".cache") / "hwr"


def root(data_dir: Path | None = None) -> Path:
    """The folder that holds a folder for each dataset."""
    if data_dir is not None:
        return data_dir
    named = os.environ.get(VARIABLE)
    return Path(named) if named else cache()


def find(entry: Entry, data_dir: Path | None = None) -> Path | None:
    """The folder of a dataset's own files, or None if it is not here.

    `data_dir` may be that folder itself, or the folder above it. One that exists without the files
    looked for is returned as well: the loader says what is missing.
    """
    above = root(data_dir)
    candidates = [above / name for name in entry.folders]
    if data_dir is not None:
        candidates.append(data_dir)
    folders = [folder for folder in candidates if folder.is_dir()]
    return next((f for f in folders if entry.is_in(f)), folders[0] if folders else None)


def is_here(entry: Entry, above: Path) -> bool:
    """Whether a dataset can be loaded without fetching it: its folder under `above` has files."""
    return entry.shipped or any(entry.is_in(above / name) for name in entry.folders)


def is_found(entry: Entry, data_dir: Path | None = None) -> bool:
    """Whether `read` would find the files of a dataset."""
    folder = find(entry, data_dir)
    return entry.shipped or (folder is not None and entry.is_in(folder))


def require(entry: Entry, data_dir: Path | None = None) -> Path:
    """The folder of a dataset's own files. DataError, with what to do, if it is not here."""
    folder = find(entry, data_dir)
    if folder is not None:
        return folder
    above = root(data_dir)
    if data_dir is not None and not above.exists():
        raise DataError(f"{entry.name}: {above} does not exist; give the folder of the data")
    raise DataError(f"{entry.name} is not in {above}; {how_to_get(entry, above)}")


def read(entry: Entry, split: str, data_dir: Path | None = None) -> Dataset | Strings:
    """Load a split from where the dataset lies; its note begins with the entry's.

    UnknownName for a split that it does not have.
    """
    if split not in entry.splits:
        raise unknown_name(f"split of {entry.name}", split, entry.splits)
    inside = entry.shipped and data_dir is None
    found = entry.load(split, None if inside else require(entry, data_dir))
    return replace(found, note="; ".join(filter(None, [entry.note, found.note])))


def how_to_get(entry: Entry, above: Path) -> str:
    """What a user can do to have a dataset."""
    folder = above / entry.folders[0]
    place = f"put its files ({entry.layout}) into {folder}"
    if entry.downloads:
        return f"fetch it by python -m hwr.data fetch {entry.name}, or {place}"
    return f"{entry.obtain or f'get it from {entry.source}'}; then {place}"
