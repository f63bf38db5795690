"""Datasets by name, and batches from them."""

import os
from pathlib import Path

from hwr.data import mnist
from hwr.data.dataset import Dataset, datasets, holdout, split_hash
from hwr.data.loader import Loader, Normalize

__all__ = ["Dataset", "Loader", "Normalize", "datasets", "holdout", "load", "mnist", "split_hash"]


def load(name: str, *, split: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The ``split`` (``"train"``, ``"test"``, ...) of the dataset called ``name``.

    ``data_dir`` is the folder of the dataset's own files; ``None`` means the data hwr ships.

    Raises :class:`~hwr.errors.UnknownName` for an unknown dataset or split, and
    :class:`~hwr.errors.DataError` for missing or damaged files.
    """
    return datasets.get(name)(split, None if data_dir is None else Path(data_dir))
