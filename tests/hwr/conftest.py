"""Builders of small IDX files and datasets."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hwr.data import Dataset

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[NDArray[Any]], bytes]:
    """An array as the bytes of an IDX file."""

    def build(array: NDArray[Any]) -> bytes:
        header = struct.pack(">HBB", 0, CODES[array.dtype.str[1:]], array.ndim)
        sizes = struct.pack(f">{array.ndim}I", *array.shape)
        return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()

    return build


@pytest.fixture
def mnist_folder(tmp_path: Path, idx_bytes: Callable[[NDArray[Any]], bytes]) -> Callable[..., Path]:
    """A folder in MNIST's format; images or labels ``None`` are left out."""

    def build(
        images: NDArray[Any] | None, labels: NDArray[Any] | None, *, packed: bool = False
    ) -> Path:
        arrays = {"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels}
        for name, array in arrays.items():
            if array is not None and packed:
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
            elif array is not None:
                (tmp_path / name).write_bytes(idx_bytes(array))
        return tmp_path

    return build


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """23 random 6x5 images, the first pixel of each its own number; classes of unequal size."""
    images = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(23)
    labels = np.array([0] * 12 + [1] * 7 + [2] * 4, dtype=np.int64)
    return Dataset("tiny", "train", images, labels, ("a", "b", "c"))
