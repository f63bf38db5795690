"""Datasets by name, and batches from them."""

import os
from pathlib import Path

# Each of these modules, but location, enters its datasets into the table.
from hwr.data import (
    captcha,
    characters,
    cmaterdb,
    digit_photos,
    digit_strings,
    emnist,
    iam,
    kannada,
    location,
    mnist,
    photo_digits,
    scanned,
)
from hwr.data.catalogue import datasets
from hwr.data.dataset import Dataset, holdout, split_hash
from hwr.data.loader import Loader, Normalize
from hwr.data.strings import Strings
from hwr.errors import UserError

__all__ = [
    "Dataset", "Loader", "Normalize", "Strings", "captcha", "characters", "cmaterdb", "datasets",
    "digit_photos", "digit_strings", "emnist", "holdout", "iam", "kannada", "load", "load_strings",
    "mnist", "photo_digits", "scanned", "split_hash",
]  # fmt: skip


def load(name: str, *, split: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The ``split`` (``"train"``, ``"test"``, ...) of the dataset of characters called ``name``.

    ``data_dir`` is the folder of the dataset's own files, or the folder above it; without it the
    variable HWR_DATA names the folder above, else it is the user's cache. MNIST is inside hwr.

    Raises :class:`~hwr.errors.UnknownName` for an unknown dataset or split, and
    :class:`~hwr.errors.DataError` for missing or damaged files.
    """
    found = _read(name, split, data_dir)
    if not isinstance(found, Dataset):
        raise UserError(
            f"{name} holds strings, not characters; use hwr.data.load_strings, or train "
            "by a recipe for strings"
        )
    return found


def load_strings(
    name: str, *, split: str, data_dir: str | os.PathLike[str] | None = None
) -> Strings:
    """As ``load``, for a dataset whose images show a line of writing each."""
    found = _read(name, split, data_dir)
    if not isinstance(found, Strings):
        raise UserError(
            f"{name} holds characters, not strings; use hwr.data.load, or train by a recipe for "
            "characters"
        )
    return found


def _read(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset | Strings:
    return location.read(datasets.get(name), split, None if data_dir is None else Path(data_dir))
