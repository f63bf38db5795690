"""Characters that come as arrays: pairs of IDX files, and npz files."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.archive import MAX_FILE_BYTES, Files
from hwr.data.dataset import Dataset
from hwr.data.idx import read_idx_file
from hwr.errors import DataError

DIGITS = tuple("0123456789")


def read_idx_member(files: Files, name: str) -> tuple[NDArray[Any], Path]:
    """An IDX file, gzipped or not, in a folder or an archive; and its path for messages."""
    found = files.require(name, f"{name}.gz")
    path = files.folder / found
    return read_idx_file(io.BytesIO(files.read(found)), path), path


def read_npz(files: Files, name: str, *keys: str) -> list[NDArray[Any]]:
    """Arrays of an npz file by their names. DataError if it is damaged or lacks one."""
    path = files.folder / files.require(name)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_FILE_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[key] for key in keys]
    except KeyError as error:
        raise DataError(f"{path} lacks an array ({error}), expected {', '.join(keys)}") from None
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path} is no sound npz file ({error}); fetch it again") from error


def check_pair(
    dataset: str,
    images: NDArray[Any],
    labels: NDArray[Any],
    images_path: Path,
    labels_path: Path,
    *,
    size: int,
    classes: int,
    first: int = 0,
) -> None:
    """DataError unless these are images (N, size, size) and their labels, both uint8.

    `first` is the number that the files give to the first class.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
        raise DataError(
            f"{dataset}: {images_path} holds {images.dtype} {images.shape}, "
            f"expected uint8 (N, {size}, {size}); check that it is the file of images"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(
            f"{dataset}: {labels_path} holds {labels.dtype} {labels.shape}, "
            "expected uint8 (N,); check that it is the file of labels"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{dataset}: {images_path} holds {len(images)} images, but {labels_path} holds "
            f"{len(labels)} labels; use two files of the same split"
        )
    wrong = np.flatnonzero((labels < first) | (labels >= first + classes))
    if wrong.size:
        raise DataError(
            f"{dataset}: label {wrong[0]} in {labels_path} is {labels[wrong[0]]}, "
            f"expected {first} to {first + classes - 1}; correct the file"
        )


def grey_dataset(
    name: str,
    split: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: tuple[str, ...] = DIGITS,
    **more: Any,
) -> Dataset:
    """Images (N, H, W), bright on dark, with labels, as a Dataset (N, H, W, 1)."""
    stacked = np.ascontiguousarray(images[..., np.newaxis])
    return Dataset(name, split, stacked, labels.astype(np.int64), classes, **more)
