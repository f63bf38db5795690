"""IDX files from strangers: what is right is read exactly, what is wrong is named."""

import gzip
import hashlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hwr.data.idx import read_idx
from hwr.errors import DataError

Build = Callable[[NDArray[Any]], bytes]
SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
arrays = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0))
)


@settings(deadline=None)
@given(array=arrays, packed=st.booleans())
def test_every_type_and_shape_comes_back(
    array: NDArray[Any],
    packed: bool,
    tmp_path_factory: pytest.TempPathFactory,
    idx_bytes: Build,
) -> None:
    path = tmp_path_factory.mktemp("idx") / "any-name"
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, array)


@settings(deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_random_bytes_are_refused_or_read_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "random"
    content = b"\0\0\x08" + content
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        read_idx(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017  (no error is right as well)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes"),
        (b"\0\0\x08", "ends after 3 bytes"),
        (b"\0\0\x08\x03\0\0\0\x02\0\0", "ends after 10 bytes, expected 16 for 3 dimensions"),
        (b"PK\3\4 this is a zip file", "begins with 50 4b 03 04, expected 00 00"),
        (b"\0\0\x08\x00", "1 to 32 dimensions"),
        (b"\0\0\x08\xff" + b"\0" * 1020, "1 to 32 dimensions"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", "type code is 0x0a, expected one of 0x08"),
        (b"\0\0\x08\x01\0\0\0\x05abc", r"\(5,\) uint8, 5 bytes, the file holds (at most )?3"),
        (b"\0\0\x0b\x01\0\0\0\x02\0\1\0", r"\(2,\) int16, 4 bytes, the file holds (at most )?3"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "2 bytes, but more follow"),
        (b"\0\0\x08\x02" + b"\xff" * 8, "more than the 1073741824 allowed"),
        (b"\0\0\x08\x03\0\0\0\0" + b"\xff" * 8, "more than the 1073741824 allowed"),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [2, 9, 12, -9, -1])
def test_a_gzip_file_cut_anywhere_is_damaged(tmp_path: Path, idx_bytes: Build, length: int) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx_bytes(SMALL))[:length])
    with pytest.raises(DataError, match=r"file\.gz is a damaged gzip file .* fetch it again"):
        read_idx(path)


@pytest.mark.parametrize("position", [-1, -5, -12])
def test_a_gzip_file_with_a_flipped_byte_is_damaged(
    tmp_path: Path, idx_bytes: Build, position: int
) -> None:
    content = bytearray(gzip.compress(idx_bytes(SMALL)))
    content[position] ^= 0xFF
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file\.gz"):
        read_idx(path)


def test_a_gzip_bomb_costs_no_memory(tmp_path: Path) -> None:
    honest_header = struct.pack(">HBBI", 0, 0x08, 1, 10)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(honest_header + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="10 bytes, but more follow"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_file_that_promises_much_costs_no_memory(tmp_path: Path, packed: bool) -> None:
    content = struct.pack(">HBBI", 0, 0x08, 1, 2**30) + b"short"
    path = tmp_path / "liar"
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="1073741824 bytes, the file holds at most"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_max_bytes_is_the_largest_body(tmp_path: Path, idx_bytes: Build) -> None:
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(SMALL))
    assert read_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(DataError, match=r"24 bytes, more than the 23 allowed.*raise max_bytes"):
        read_idx(path, max_bytes=23)


def test_the_hash_is_that_of_the_unpacked_file(tmp_path: Path, idx_bytes: Build) -> None:
    content = idx_bytes(SMALL)
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    right = hashlib.sha256(content).hexdigest()
    np.testing.assert_array_equal(read_idx(path, sha256=right), SMALL)
    with pytest.raises(DataError, match=f"SHA-256 .* is {right}, expected 0000"):
        read_idx(path, sha256="0" * 64)


def test_missing_file_folder_and_pipe_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a folder, expected an IDX file"):
        read_idx(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is no regular file"):
        read_idx(tmp_path / "pipe")
