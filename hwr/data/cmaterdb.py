"""CMATERdb: Bangla, Devanagari and Telugu digits, each stretched to fill its box.

Source: Das et al. 2012, "A genetic algorithm based region sampling for selection of local features
in handwritten digit recognition application" and "A statistical-topological feature combination
for recognition of handwritten numerals".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwr.data.archive import Files
from hwr.data.arrays import grey_dataset, read_npz
from hwr.data.catalogue import Download, register
from hwr.data.dataset import Dataset
from hwr.data.duplicates import not_among
from hwr.errors import DataError

FILES = {"train": "training-images.npz", "test": "testing-images.npz"}
SIZE = 32
SOURCE = "https://github.com/prabhuomkar/CMATERdb"
PUBLISHED = {  # script: number of the database; bytes and SHA-256 of the two files
    "bangla": ("3.1.1", {
        "train": (489_289, "502957392649eecad013ac425b54fecc6d06dbc06bc647a46b0cfc6b96e2c130"),
        "test": (98_295, "d1c9780ba5decc135175a021bd29961cd7316db009f428d8c04b84ba36a6d67a"),
    }),
    "devanagari": ("3.2.1", {
        "train": (234_882, "e690d54f7c82e12e3c5ba99221672dc3fc7b6ad493e495077f7e26332558ae86"),
        "test": (47_017, "1636fa10484100486b96a3e938cee4c6adeddcfb1e91c9dbb5166fb9a260216d"),
    }),
    "telugu": ("3.4.1", {
        "train": (241_764, "32f9b5b135c8084f0cf646bc6a70358767653b1f8c6d19bd64ad5d5cbf1d9467"),
        "test": (48_946, "182806a45091da53b4ad98d4425130c0ebbf9bc1bf50fb58b3e5ea65ee33c7c6"),
    }),
}  # fmt: skip


def load(script: str, split: str, folder: Path) -> Dataset:
    """Dark ink on white, three equal channels in the file; bright on black, one channel here.

    The official split has some images in both parts, pixel for pixel. They stay in the test part,
    so that it is everybody's, and are left out of the training part.
    """
    files = Files(script, folder)
    images, labels = read(files, FILES[split])
    if split == "test":
        return grey_dataset(script, split, images, labels)
    kept = not_among(images, read(files, FILES["test"])[0])
    note = f"{len(images) - len(kept)} of {len(images):,} also stand in test and are left out"
    return grey_dataset(script, split, images[kept], labels[kept], note=note)


def read(files: Files, name: str) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Images (N, 32, 32), bright on black, and labels of one file."""
    images, labels = read_npz(files, name, "images", "labels")
    where = f"{files.dataset}: {files.folder / name}"
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3):
        raise DataError(
            f"{where} holds images {images.dtype} {images.shape}, "
            f"expected uint8 (N, {SIZE}, {SIZE}, 3)"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{where} holds labels {labels.dtype} {labels.shape}, "
            f"expected integers ({len(images)},)"
        )
    return 255 - np.rint(images.mean(-1)).astype(np.uint8), labels


for _script, (_number, _files) in PUBLISHED.items():
    _total = 6000 if _script == "bangla" else 3000
    register(
        name=_script,
        title=f"{_script.capitalize()} digits, CMATERdb {_number}",
        splits={"train": _total * 5 // 6, "test": _total // 6},
        classes=10,
        size=f"{SIZE}x{SIZE}",
        licence="free for non-commercial use",
        source=SOURCE,
        layout=f"{FILES['train']} and {FILES['test']} (arrays images, labels)",
        marker=(FILES["test"],),
        downloads=tuple(
            Download(
                url=f"{SOURCE}/raw/master/datasets/{_script}-numerals/{FILES[_split]}",
                file=FILES[_split],
                size=_size,
                hash=f"sha256:{_hash}",
            )
            for _split, (_size, _hash) in _files.items()
        ),
    )(partial(load, _script))
