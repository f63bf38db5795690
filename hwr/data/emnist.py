"""EMNIST: letters and digits of NIST's Special Database 19, prepared as MNIST was.

Its IDX files hold each image transposed; the loader turns them upright.

Source: Cohen, Afshar, Tapson and van Schaik 2017, "EMNIST: an extension of MNIST to handwritten
letters".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from string import ascii_uppercase, digits

from hwr.data.archive import Files
from hwr.data.arrays import check_pair, grey_dataset, read_idx_member
from hwr.data.catalogue import Download, register
from hwr.data.dataset import Dataset

SIZE = 28
ARCHIVE = Download(
    url="https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    file="gzip.zip",
    size=561_753_746,
    hash="sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
)
LETTERS = tuple(f"{letter}{letter.lower()}" for letter in ascii_uppercase)  # both forms, one class
BALANCED = (*digits, *ascii_uppercase, *"abdefghnqrt")  # other small letters look like capitals


def load(part: str, classes: tuple[str, ...], first: int, split: str, folder: Path) -> Dataset:
    """A split of the part "letters" or "balanced"; `first` is the label of its first class."""
    name = f"emnist-{part}"
    files = Files(name, folder)
    images, images_path = read_idx_member(files, f"{name}-{split}-images-idx3-ubyte")
    labels, labels_path = read_idx_member(files, f"{name}-{split}-labels-idx1-ubyte")
    check_pair(name, images, labels, images_path, labels_path,
               size=SIZE, classes=len(classes), first=first)  # fmt: skip
    return grey_dataset(name, split, images.transpose(0, 2, 1), labels - first, classes)


for _part, _classes, _first, _title, _train, _test in (
    ("letters", LETTERS, 1, "letters, capital and small together", 124_800, 20_800),
    ("balanced", BALANCED, 0, "letters and digits, as many of each", 112_800, 18_800),
):
    register(
        name=f"emnist-{_part}",
        title=_title,
        splits={"train": _train, "test": _test},
        classes=len(_classes),
        size="28x28",
        licence="none stated (NIST, a US agency)",
        source="https://www.nist.gov/itl/products-and-services/emnist-dataset",
        layout=f"gzip.zip, or from it emnist-{_part}-train-images-idx3-ubyte.gz and the like",
        marker=("gzip.zip", f"**/emnist-{_part}-test-images-idx3-ubyte*"),
        folder="emnist",
        downloads=(ARCHIVE,),
    )(partial(load, _part, _classes, _first))
