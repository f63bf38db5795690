"""Kannada-MNIST, digits of 65 writers, and Dig-MNIST, the same digits of other writers.

Source: Prabhu 2019, "Kannada-MNIST: a new handwritten digits dataset for the Kannada language".
"""

from __future__ import annotations

from pathlib import Path

from hwr.data.archive import Files
from hwr.data.arrays import check_pair, grey_dataset, read_idx_member, read_npz
from hwr.data.catalogue import Download, register
from hwr.data.dataset import Dataset

SIZE = 28
REBUILT = "train_rebuilt_from_scans.npz"
SOURCE = "https://github.com/vinayprabhu/Kannada_MNIST"


def _download(file: str, md5: str = "") -> Download:
    url = f"{SOURCE}/raw/master/data/output_tensors/MNIST_format/{file}"
    return Download(url=url, file=file, hash=f"md5:{md5}" if md5 else "")


@register(
    name="kannada-mnist",
    title="Kannada digits",
    splits={"train": 60_000, "test": 10_000},
    classes=10,
    size="28x28",
    licence="none stated",
    source=SOURCE,
    layout="X_kannada_MNIST_train-idx3-ubyte.gz, y_kannada_MNIST_train-idx1-ubyte.gz and the same "
    f"with test; in place of the training files {REBUILT} (arrays images, labels)",
    marker=("**/X_kannada_MNIST_test-idx3-ubyte*",),
    downloads=(
        _download("X_kannada_MNIST_train-idx3-ubyte.gz", "db2cd247b479801b3a882ab980b340c3"),
        _download("y_kannada_MNIST_train-idx1-ubyte.gz", "f1f06031670554894b697988b906b036"),
        _download("X_kannada_MNIST_test-idx3-ubyte.gz", "8682876e8fbc8cd0e7bb07fc2f502335"),
        _download("y_kannada_MNIST_test-idx1-ubyte.gz", "b426d27d50a5fd8411b9e5838868be4b"),
    ),
)
def load(split: str, folder: Path) -> Dataset:
    """Official files; where only a training set rebuilt from the author's scans is here, that one.

    It is not the official one bit for bit: the dataset's note says so.
    """
    files = Files("kannada-mnist", folder)
    official = f"X_kannada_MNIST_{split}-idx3-ubyte"
    if split == "train" and not files.find(official, f"{official}.gz") and files.find(REBUILT):
        images, labels = read_npz(files, REBUILT, "images", "labels")
        path = folder / REBUILT
        check_pair("kannada-mnist", images, labels, path, path, size=SIZE, classes=10)
        note = "training images rebuilt from the author's scans, not the official files"
        return grey_dataset("kannada-mnist", split, images, labels, note=note)
    return _official(files, f"kannada_MNIST_{split}", split)


@register(
    name="dig-mnist",
    title="Kannada digits of other writers, to test on",
    splits={"test": 10_240},
    classes=10,
    size="28x28",
    licence="none stated",
    source=SOURCE,
    layout="X_dig_MNIST-idx3-ubyte.gz and y_dig_MNIST-idx1-ubyte.gz",
    marker=("**/X_dig_MNIST-idx3-ubyte*",),
    folder="kannada-mnist",
    downloads=(
        _download("X_dig_MNIST-idx3-ubyte.gz"),
        _download("y_dig_MNIST-idx1-ubyte.gz"),
    ),
)
def load_dig(split: str, folder: Path) -> Dataset:
    """Dig-MNIST: written on other paper by other people, out of Kannada-MNIST's domain."""
    return _official(Files("dig-mnist", folder), "dig_MNIST", split)


def _official(files: Files, stem: str, split: str) -> Dataset:
    images, images_path = read_idx_member(files, f"X_{stem}-idx3-ubyte")
    labels, labels_path = read_idx_member(files, f"y_{stem}-idx1-ubyte")
    check_pair(files.dataset, images, labels, images_path, labels_path, size=SIZE, classes=10)
    return grey_dataset(files.dataset, split, images, labels)
