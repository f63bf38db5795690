"""The table of datasets: what each is, where it comes from, and the function that loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hwr.data.dataset import Dataset
from hwr.data.strings import Strings
from hwr.registry import Registry

Load = Callable[[str, Any], Dataset | Strings]  # split, folder (None: the data inside the package)

L = TypeVar("L", bound=Load)


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file to fetch.

    `hash` is "sha256:..." or "md5:..." as a publisher or a library documents it; where nobody
    does, it is empty, and the first fetch records what later ones must match.
    """

    url: str
    file: str  # its name in the dataset's folder
    size: int | None = None  # bytes
    hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One dataset. `load(split, folder)` reads one of its splits from its own folder."""

    name: str
    title: str  # what it is
    kind: str = "characters"  # a Dataset; or "strings", a Strings
    splits: Mapping[str, int | None]  # images in each; None: as many as the folder holds
    classes: int | None  # or symbols of a string; None: as many as the folder holds
    size: str  # of the images that the loader makes
    licence: str
    source: str  # where it is published
    layout: str  # the files that the loader expects
    marker: tuple[str, ...]  # if one of these globs matches in its folder, it is here
    folder: str = ""  # its folder's name, where it is not the dataset's
    downloads: tuple[Download, ...] = ()
    obtain: str = ""  # how to get it, where no address gives it to everyone
    note: str = ""  # what a reader of results must know
    shipped: bool = False  # inside the package
    made: bool = False  # its training images are made when loaded, which takes minutes
    load: Load

    @property
    def folders(self) -> tuple[str, ...]:
        """The names its folder may have; it is fetched to the first."""
        name = self.folder or self.name
        return tuple(dict.fromkeys([name, name.replace("-", "_")]))

    def is_in(self, folder: Path) -> bool:
        """Whether its files are in this folder."""
        return any(True for glob in self.marker for _ in folder.glob(glob))


datasets = Registry[Entry]("dataset")
"""Every dataset by its name, in the order in which `python -m hwr.data list` shows them."""


def register(**facts: Any) -> Callable[[L], L]:
    """Decorator that enters a loader into the table, with the facts that an `Entry` holds."""

    def enter(load: L) -> L:
        datasets.register(facts["name"])(Entry(load=load, **facts))
        return load

    return enter
