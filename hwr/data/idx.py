"""Reader for IDX files, the format of MNIST.

Everything is big-endian: two zero bytes, a type code, the number of dimensions ``D`` (one byte
each), ``D`` sizes of four bytes, then the numbers, last dimension fastest.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", file formats.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hwr.errors import DataError

MAX_BYTES = 2**30
"""The largest body read unless asked otherwise: twice that of EMNIST, the largest IDX dataset."""

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 32
_DEFLATE_RATIO = 1032  # no deflate stream unpacks to more than this many times its own size
_CHUNK_BYTES = 2**20


def read_idx(
    path: str | os.PathLike[str], *, sha256: str | None = None, max_bytes: int = MAX_BYTES
) -> NDArray[Any]:
    """Read one IDX file, plain or gzipped (told by its first bytes, not by its name).

    Returns a C-contiguous array with the file's sizes and type, in this machine's byte order.
    The sizes are checked before memory is taken, and never more than one byte beyond them is
    unpacked, so a file from a stranger costs at most ``max_bytes``. ``sha256`` is the expected
    hash of the *unpacked* file, in hex.

    Raises :class:`~hwr.errors.DataError` if the file is missing, unreadable, damaged, too short,
    too long, larger than ``max_bytes``, of an unknown type, or of another hash.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise DataError(f"{path} is {kind}, expected an IDX file; give the file's own path")
        with open(path, "rb") as file:
            return read_idx_file(file, path, sha256=sha256, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path, or fetch the file") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check it") from error


def read_idx_file(
    file: BinaryIO, path: Path, *, sha256: str | None = None, max_bytes: int = MAX_BYTES
) -> NDArray[Any]:
    """As `read_idx`, from an open file that can be sought in; ``path`` names it in messages."""
    gzipped = file.read(2) == b"\x1f\x8b"
    largest = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not gzipped:
        return _read(file, path, sha256, max_bytes, largest)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            return _read(stream, path, sha256, max_bytes, largest * _DEFLATE_RATIO)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from error


def _read(
    stream: IO[bytes] | gzip.GzipFile, path: Path, sha256: str | None, max_bytes: int, largest: int
) -> NDArray[Any]:
    """Read from an unpacked ``stream`` that holds at most ``largest`` bytes."""
    header, dtype, shape = _read_header(stream, path)
    # A size of zero must not hide the others: numpy refuses (0, 2**32, 2**32) as well.
    promised = dtype.itemsize * math.prod(max(size, 1) for size in shape)
    if promised > max_bytes:
        raise DataError(
            f"{path}: the header promises {shape} {dtype.name}, {promised} bytes, more than the "
            f"{max_bytes} allowed; if the file is meant to be so large, raise max_bytes"
        )
    promised = dtype.itemsize * math.prod(shape)
    if len(header) + promised > largest:
        raise _truncated(path, shape, dtype, promised, f"at most {largest - len(header)}")

    body = np.empty(promised, np.uint8)
    filled = 0
    while chunk := stream.read(min(_CHUNK_BYTES, promised - filled)):
        body[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < promised:
        raise _truncated(path, shape, dtype, promised, str(filled))
    if stream.read(1):  # at the end of a gzip file this also verifies its checksum
        raise DataError(
            f"{path}: the header promises {shape} {dtype.name}, {promised} bytes, but more follow; "
            "the file is damaged or no IDX file, fetch it again"
        )

    if sha256 is not None:
        digest = hashlib.sha256(header)
        digest.update(body.data)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"{path}: the SHA-256 of the unpacked file is {digest.hexdigest()}, expected "
                f"{sha256}; the file was changed or damaged, install or fetch it again"
            )
    return body.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_header(
    stream: IO[bytes] | gzip.GzipFile, path: Path
) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(
            f"{path}: the header ends after {len(magic)} bytes, expected 4 or more; "
            "the file is empty or was cut off, fetch it again"
        )
    zeros, code, dimensions = struct.unpack(">HBB", magic)
    if zeros != 0 or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise DataError(
            f"{path}: the file begins with {magic.hex(' ')}, expected 00 00, a type code and 1 to "
            f"{_MAX_DIMENSIONS} dimensions; this is no IDX file, check the path"
        )
    if code not in _DTYPES:
        known = ", ".join(f"0x{each:02x}" for each in _DTYPES)
        raise DataError(
            f"{path}: the type code is 0x{code:02x}, expected one of {known}; "
            "this is no IDX file or a damaged one, fetch it again"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path}: the header ends after {4 + len(sizes)} bytes, expected {4 + 4 * dimensions} "
            f"for {dimensions} dimensions; the file was cut off, fetch it again"
        )
    return magic + sizes, np.dtype(_DTYPES[code]), struct.unpack(f">{dimensions}I", sizes)


def _truncated(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], promised: int, held: str
) -> DataError:
    return DataError(
        f"{path}: the header promises {shape} {dtype.name}, {promised} bytes, the file holds "
        f"{held}; it was cut off, fetch it again"
    )
