"""Small sets of scanned digits: USPS, semeion, optdigits."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.archive import Files
from hwr.data.arrays import grey_dataset, read_npz
from hwr.data.catalogue import Download, register
from hwr.data.dataset import Dataset
from hwr.errors import DataError

ESL = "https://hastie.su.domains/ElemStatLearn/datasets"
UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"
BATCHES = 6  # of semeion's writers
PARTS = {"train": "tra", "test": "windep"}  # of optdigits


@register(
    name="usps",
    title="digits of envelopes, US Postal Service, deslanted",
    splits={"train": 7291, "test": 2007},
    classes=10,
    size="16x16",
    licence="none stated",
    source=f"{ESL}/zip.info.txt",
    layout="zip.train.gz and zip.test.gz (text: digit and 256 grey values from -1 to 1 a line), "
    "each gzipped or not",
    marker=("**/zip.test*",),
    downloads=tuple(
        Download(url=f"{ESL}/{file}", file=file) for file in ("zip.train.gz", "zip.test.gz")
    ),
)
def load_usps(split: str, folder: Path) -> Dataset:
    """The official split. -1 is background and 1 is ink, here 0 and 255."""
    files = Files("usps", folder)
    rows, where = read_table(files, files.require(f"zip.{split}.gz", f"zip.{split}"), 257)
    labels, pixels = rows[:, 0], rows[:, 1:]
    if not np.isin(labels, np.arange(10)).all() or abs(pixels).max() > 1:
        raise DataError(
            f"usps: {where} holds labels from {labels.min():g} to {labels.max():g} and grey values "
            f"from {pixels.min():g} to {pixels.max():g}, expected 0 to 9 and -1 to 1"
        )
    images = np.rint((pixels + 1) / 2 * 255).astype(np.uint8).reshape(-1, 16, 16)
    return grey_dataset("usps", split, images, labels.astype(np.int64))


@register(
    name="semeion",
    title="digits of about 80 people, carefully and in haste, black and white",
    splits={"train": 1195, "test": 398},
    classes=10,
    size="16x16",
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/178/semeion+handwritten+digit",
    layout="semeion.data (text: 256 pixels and ten indicators a line), or semeion.npz (arrays "
    "images, labels)",
    marker=("**/semeion.data", "**/semeion.npz"),
    downloads=(
        Download(
            url=f"{UCI}/semeion/semeion.data",
            file="semeion.data",
            hash="md5:cb545d371d2ce14ec121470795a77432",
        ),
    ),
)
def load_semeion(split: str, folder: Path) -> Dataset:
    """There is no official split; this one keeps writers apart as well as the file lets us.

    The file runs six times through the digits 0 to 9 (about 200 images, 200, 200, 200, 400, 400):
    ten or twenty people after one another, each digit twice a person. The last batch, the quarter
    of the people, is to test on.
    """
    files = Files("semeion", folder)
    if files.find("semeion.data"):
        rows, where = read_table(files, files.require("semeion.data"), 266)
        if not np.isin(rows, (0, 1)).all() or (rows[:, 256:].sum(1) != 1).any():
            raise DataError(f"semeion: {where} holds other values than 0 and 1, or not one label")
        images = (rows[:, :256] * 255).astype(np.uint8).reshape(-1, 16, 16)
        labels = rows[:, 256:].argmax(1)
    else:
        images, labels = read_npz(files, "semeion.npz", "images", "labels")
    batch = np.cumsum(np.diff(labels.astype(int), prepend=labels[:1].astype(int)) < 0)
    runs = batch[-1] + 1 if len(batch) else 0
    if runs != BATCHES:
        raise DataError(
            f"semeion: the labels in {folder} run {runs} times through the digits, "
            f"expected {BATCHES}; keep the order of the original file"
        )
    chosen = (batch == BATCHES - 1) == (split == "test")
    groups = {"batch": batch[chosen].astype(str)}
    note = "split made here: the last batch of writers is to test on"
    return grey_dataset("semeion", split, images[chosen], labels[chosen], groups=groups, note=note)


@register(
    name="optdigits",
    title="digits of 43 people, black and white",
    splits={"train": 1934, "test": 1797},
    classes=10,
    size="32x32",
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    layout="optdigits-orig.tra and optdigits-orig.windep (text: 32 lines of 32 pixels and the "
    "digit), or optdigits_orig.npz (arrays x_train, y_train, x_windep, y_windep)",
    marker=("**/optdigits-orig.windep", "**/optdigits_orig.npz"),
    downloads=tuple(
        Download(url=f"{UCI}/optdigits/{file}", file=file)
        for file in ("optdigits-orig.tra.Z", "optdigits-orig.windep.Z")
    ),
)
def load_optdigits(split: str, folder: Path) -> Dataset:
    """The official parts: 30 writers to train with, 13 others ("windep") to test on."""
    files = Files("optdigits", folder)
    name = f"optdigits-orig.{PARTS[split]}"
    if not files.find(name) and files.find("optdigits_orig.npz"):
        key = {"train": "train", "test": "windep"}[split]
        images, labels = read_npz(files, "optdigits_orig.npz", f"x_{key}", f"y_{key}")
        return grey_dataset("optdigits", split, images, labels)
    if not files.find(name) and (packed := files.find(f"{name}.Z")):
        raise DataError(f"optdigits: unpack {folder / packed} first: gzip -d {folder / packed}")
    path = files.require(name)
    found = re.findall(rb"((?:^[01]{32}\s*\n){32})\s*(\d+)\s*$", files.read(path), re.MULTILINE)
    if not found or any(int(digit) > 9 for _, digit in found):
        raise DataError(
            f"optdigits: {folder / path} holds {len(found)} blocks of 32 lines of 32 zeros and "
            "ones, each with a digit after it; expected some, and digits from 0 to 9"
        )
    bits = np.frombuffer(b"".join(b"".join(block.split()) for block, _ in found), np.uint8)
    images = ((bits - ord("0")) * 255).reshape(-1, 32, 32).astype(np.uint8)
    return grey_dataset("optdigits", split, images, np.array([int(digit) for _, digit in found]))


def read_table(files: Files, name: str, columns: int) -> tuple[NDArray[np.float64], Path]:
    """A text of numbers, gzipped or not, with so many a line; and its path for messages."""
    path, data = files.folder / name, files.read(name)
    try:
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        rows: NDArray[Any] = np.loadtxt(io.BytesIO(text), ndmin=2)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is no table of numbers ({error}); fetch it again") from error
    if rows.shape[1] != columns or not len(rows):
        raise DataError(
            f"{path} holds {len(rows)} lines of {rows.shape[1]} numbers, expected {columns} a line"
        )
    return rows, path
