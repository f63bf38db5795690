"""Fetching a dataset's files: resumable, checked, and never half a file under its own name.

A file comes in as NAME.part beside its place. Cut off, the part stays and the next fetch goes on
where it ended (HTTP range, if the server's copy is still the same). Complete and right, it takes
its name; complete and wrong, it is removed.

Where nobody documents a hash, the first fetch is checked by size and format alone, and its SHA-256
recorded in `LOCK` beside it; every later fetch must match that.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from hwr.data.catalogue import Download, Entry
from hwr.data.location import how_to_get
from hwr.errors import DataError, UserError
from hwr.files import cannot_write, write_atomic
from hwr.progress import Progress

LOCK = "fetched.json"
TIMEOUT_S = 30.0
CHUNK = 2**16
STARTS = {  # by the end of a file's name: the bytes that it begins with
    ".zip": b"PK", ".npz": b"PK", ".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".Z": b"\x1f\x9d",
}  # fmt: skip


def fetch(entry: Entry, above: Path) -> list[Path]:
    """Bring a dataset's files into its folder under `above`; those that are there stay.

    Raises UserError if it has no address, the network fails, or the disk is full, and DataError
    for a file that is cut off or is not the one expected.
    """
    if entry.shipped:
        raise UserError(f"{entry.name} is inside the package; there is nothing to fetch")
    if not entry.downloads:
        raise UserError(
            f"{entry.name} has no address that gives it to everyone; {how_to_get(entry, above)}"
        )
    folder = above / entry.folders[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return [fetch_file(download, entry, folder) for download in entry.downloads]


def fetch_file(download: Download, entry: Entry, folder: Path) -> Path:
    """One file into the folder."""
    target = folder / download.file
    part = folder / f"{download.file}.part"
    if target.exists():
        verify(target, download, folder, "remove it to fetch it again")
        return target
    try:
        receive(download, part)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise unreachable(download, entry, folder, error) from error
    try:
        verify(part, download, folder, "it was not kept; try again later, or check the address")
    except DataError:
        forget(part)
        raise
    record(part, download, folder)
    try:
        os.replace(part, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    forget(part)
    return target


def receive(download: Download, part: Path) -> None:
    """Get the rest of a file, or all of it. DataError if it ends early."""
    tag = part.with_name(f"{part.name}.tag")
    done = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"User-Agent": "hwr", "Accept-Encoding": "identity"}
    if done:  # the tag makes sure that the rest belongs to what is here
        headers |= {"Range": f"bytes={done}-", "If-Range": tag.read_text("utf-8")}
    request = urllib.request.Request(download.url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        forget(part)  # as long as the whole file, or longer: no part of it
        return receive(download, part)
    with closing(answer):
        rest = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if answer.status != http.client.PARTIAL_CONTENT or not rest:
            done = 0
        total = total_size(answer.headers, done)
        if download.size is not None and total not in (None, download.size):
            raise DataError(
                f"{download.url} offers {total:,} bytes, expected {download.size:,}; the file has "
                "changed there, nothing was fetched"
            )
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            write_atomic(tag, validator)
        else:
            tag.unlink(missing_ok=True)
        done, ended = copy(answer, part, done, total, download.file)
    if not ended or (total is not None and done < total):
        how = "fetch again to go on there" if tag.exists() else "fetch again"
        whole = f"{total:,}" if total is not None else "an unknown number of"
        raise DataError(f"{download.url}: cut off after {done:,} of {whole} bytes; {how}")


def copy(answer: Any, part: Path, done: int, total: int | None, name: str) -> tuple[int, bool]:
    """Append what comes to the part; returns its size then, and whether it came to an end."""
    try:
        with (
            open(part, "ab" if done else "wb") as file,
            Progress(name, total or 0, done, unit="bytes") as progress,
        ):
            while True:
                try:
                    chunk = answer.read(CHUNK)
                except (OSError, http.client.HTTPException):  # the connection is gone
                    return done, False
                if not chunk:
                    return done, True
                file.write(chunk)
                done += len(chunk)
                progress.update(len(chunk))
    except OSError as error:
        raise cannot_write(part, error) from error


def total_size(headers: Any, done: int) -> int | None:
    """The size of the whole file as the answer states it."""
    length = headers.get("Content-Length")
    return done + int(length) if length and length.isdecimal() else None


def verify(path: Path, download: Download, folder: Path, fix: str) -> None:
    """DataError unless size, format and hash are those documented, or recorded at first."""
    size = path.stat().st_size
    if download.size is not None and size != download.size:
        raise DataError(f"{path} has {size:,} bytes, expected {download.size:,}; {fix}")
    with open(path, "rb") as file:
        start = file.read(4)
    expected = next((s for end, s in STARTS.items() if download.file.endswith(end)), b"")
    if not start.startswith(expected) or not start:
        raise DataError(
            f"{path} begins with {start.hex(' ') or 'nothing'}, expected {expected.hex(' ')} as "
            f"in every {Path(download.file).suffix} file; {fix}"
        )
    locked = read_lock(folder).get(download.file, {}).get("sha256")
    wanted = download.hash or (f"sha256:{locked}" if locked else "")
    if wanted:
        kind, _, digest = wanted.partition(":")
        found = digest_of(path, kind)
        if found != digest:
            said = "documented" if download.hash else f"recorded at the first fetch, in {LOCK}"
            raise DataError(f"{path}: its {kind} is {found}, but {digest} is {said}; {fix}")


def record(path: Path, download: Download, folder: Path) -> None:
    """Note what was fetched, for later fetches and for whoever asks where a file came from."""
    known = read_lock(folder)
    known[download.file] = {
        "url": download.url,
        "size": path.stat().st_size,
        "sha256": digest_of(path, "sha256"),
    }
    write_atomic(folder / LOCK, json.dumps(known, indent=2, sort_keys=True) + "\n")


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """What earlier fetches recorded. DataError if the file is damaged."""
    path = folder / LOCK
    try:
        known = json.loads(path.read_text("utf-8"))
        if not all(isinstance(value, dict) for value in known.values()):
            raise ValueError("an entry is no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it to record anew") from None
    return dict(known)


def digest_of(path: Path, kind: str) -> str:
    """The hash of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def forget(part: Path) -> None:
    """Remove a part and its tag."""
    for path in (part, part.with_name(f"{part.name}.tag")):
        path.unlink(missing_ok=True)


def unreachable(download: Download, entry: Entry, folder: Path, error: Exception) -> UserError:
    """The error for a file that cannot be had: which, why, and what to do by hand."""
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}."
    else:
        reason = f"{getattr(error, 'reason', None) or error}; is there a network?"
    return UserError(
        f"cannot fetch {download.url}: {reason} Or get that file elsewhere and put it as "
        f"{download.file} into {folder} ({entry.source} describes the data)"
    )
