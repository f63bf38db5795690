"""The files of a dataset, whether they lie in its folder or inside zip and tar archives there.

Archives are read in place. Nothing is unpacked to the disk, so no name inside an archive can write
anywhere, and a download needs no further step.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from hwr.errors import DataError

MAX_FILE_BYTES = 2**28  # of one file, unpacked: nine times that of EMNIST's largest part here
MAX_TAR_BYTES = 2**31  # of all files of a tar, which is read as a whole
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Files:
    """Every file under `folder`, by its path with "/"; an archive counts as a folder.

    Hidden files and those that macOS adds to archives are left out. Raises DataError for an
    archive that is damaged.
    """

    def __init__(self, dataset: str, folder: Path):
        self.dataset = dataset
        self.folder = folder
        self._readers: dict[str, Callable[[], bytes]] = {}
        try:
            self._paths = sorted(path for path in folder.rglob("*") if path.is_file())
            for path in self._paths:
                self._add(path, path.relative_to(folder).as_posix())
        except OSError as error:
            raise DataError(f"cannot read {folder}: {error.strerror or error}; check it") from error
        self.names: tuple[str, ...] = tuple(self._readers)

    def _add(self, path: Path, name: str) -> None:
        """Note a file, or what an archive holds."""
        try:
            if name.endswith(".zip"):
                archive = zipfile.ZipFile(path)
                for info in archive.infolist():
                    if not info.is_dir():
                        self._note(f"{name}/{info.filename}", partial(_unzip, archive, info))
            elif name.endswith(_TARS):
                for inner, content in _untar(path).items():
                    self._note(f"{name}/{inner}", partial(bytes, content))
            else:
                self._note(name, partial(_read, path))
        except _DAMAGE as error:
            raise DataError(f"{path} is a damaged archive ({error}); fetch it again") from error

    def _note(self, name: str, reader: Callable[[], bytes]) -> None:
        parts = PurePosixPath(name).parts
        if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            self._readers[name] = reader

    def read(self, name: str) -> bytes:
        """The content of one file. DataError if it is damaged or too large."""
        try:
            return self._readers[name]()
        except _DAMAGE as error:
            raise DataError(f"{self.folder / name} cannot be read ({error}); fetch it again") from (
                error
            )

    def stamp(self) -> str:
        """Changes when a file is added, removed or written."""
        facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in self._paths]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def find(self, *names: str) -> str | None:
        """The path of the first file that ends with one of these paths."""
        for wanted in names:
            for name in self.names:
                if name == wanted or name.endswith(f"/{wanted}"):
                    return name
        return None

    def require(self, *names: str) -> str:
        """As `find`. DataError, with what is there instead, if there is none."""
        found = self.find(*names)
        if found is None:
            raise DataError(
                f"{self.dataset}: {self.folder} holds no {' or '.join(names)} (also not inside a "
                f"zip or tar); found: {listing(self.names)}"
            )
        return found

    def with_suffix(self, suffixes: Iterable[str], under: str = "") -> list[str]:
        """The files with one of these suffixes, upper or lower case, below a folder `under`."""
        wanted = tuple(suffixes)
        return [
            name
            for name in self.names
            if name.lower().endswith(wanted) and (not under or under in PurePosixPath(name).parts)
        ]


def listing(names: Iterable[str], most: int = 5) -> str:
    """The first few names, for a message."""
    names = list(names)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "nothing"


_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
           NotImplementedError)  # fmt: skip


def _read(path: Path) -> bytes:
    _check_size(path.stat().st_size)
    return path.read_bytes()


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    _check_size(info.file_size)  # zipfile itself stops at the size that the archive states
    return archive.read(info)


def _untar(path: Path) -> dict[str, bytes]:
    """All regular files: going back and forth in a compressed tar would unpack it every time."""
    files: dict[str, bytes] = {}
    total = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            _check_size(member.size)
            total += member.size
            if total > MAX_TAR_BYTES:
                raise tarfile.TarError(f"its files are more than {MAX_TAR_BYTES:,} bytes")
            content = archive.extractfile(member)
            assert content is not None  # of a regular file
            files[member.name.removeprefix("./")] = content.read()
    return files


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise OSError(f"{size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed")
