"""MNIST: 60,000 + 10,000 handwritten digits, 28x28, white on black, shipped with hwr.

Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document
recognition".
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr.data.arrays import DIGITS, check_pair, grey_dataset
from hwr.data.catalogue import register
from hwr.data.dataset import Dataset
from hwr.data.idx import read_idx
from hwr.errors import DataError

CLASSES = DIGITS
SIZE = 28
FILES = {  # split: images, labels
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SHA256 = {  # of the unpacked files
    FILES["train"][0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    FILES["train"][1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    FILES["test"][0]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    FILES["test"][1]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# Test images whose label fewer than three of five people agreed with: the digit that three or more
# of them saw instead, None if no digit had so many. Source: Northcutt, Athalye and Mueller 2021,
# "Pervasive label errors in test sets", table 1, and the votes published with it.
WRONG_TEST_LABELS = {
    947: 9, 1621: 6, 1901: 4, 2130: None, 2462: 0, 2597: 3, 2654: None, 3520: None,
    3558: 0, 5937: 3, 6651: 6, 6783: 6, 8527: None, 9679: None, 9729: 6,
}  # fmt: skip
SHIPPED = Path(__file__).with_name("mnist")


@register(
    name="mnist",
    title="handwritten digits of about 500 writers, scanned",
    splits={"train": 60_000, "test": 10_000},
    classes=10,
    size="28x28",
    licence="CC BY-SA 3.0",
    source="http://yann.lecun.com/exdb/mnist/",
    layout="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each gzipped or not",
    marker=("t10k-images-idx3-ubyte*",),
    shipped=True,
)
def load(split: str, data_dir: Path | None = None) -> Dataset:
    """The ``"train"`` or ``"test"`` split: images ``(N, 28, 28, 1)``, classes ``"0"`` to ``"9"``.

    Without ``data_dir`` the shipped files are read, and their SHA-256 checked. With it, files with
    the official names, gzipped or not, are read from there: any 28x28 digits in MNIST's format.

    Raises :class:`~hwr.errors.DataError` for files that are missing, damaged, or do not fit
    together.
    """
    if data_dir is None:
        return _shipped(SHIPPED, split)
    return _read(split, [_find(data_dir, name) for name in FILES[split]])


@cache  # a command that makes many runs asks for it again and again
def _shipped(folder: Path, split: str) -> Dataset:
    dataset = _read(split, [folder / f"{name}.gz" for name in FILES[split]], SHA256)
    for array in (dataset.images, dataset.labels):
        array.flags.writeable = False
    return dataset


def _read(split: str, paths: list[Path], sha256: Mapping[str, str] | None = None) -> Dataset:
    images, labels = (read_idx(path, sha256=(sha256 or {}).get(path.stem)) for path in paths)
    check_pair("mnist", images, labels, *paths, size=SIZE, classes=len(CLASSES))
    doubted = WRONG_TEST_LABELS if file_hash(labels) == SHA256[FILES["test"][1]] else {}
    return replace(grey_dataset("mnist", split, images, labels, CLASSES), doubted=doubted)


def file_hash(labels: NDArray[np.uint8]) -> str:
    """The SHA-256, in hex, of a file of these labels in MNIST's format."""
    header = struct.pack(">II", 0x0801, len(labels))
    return hashlib.sha256(header + labels.tobytes()).hexdigest()


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(
        f"mnist: {folder} holds neither {name} nor {name}.gz; put the file there, "
        "or leave out data_dir to use the data that hwr ships"
    )
