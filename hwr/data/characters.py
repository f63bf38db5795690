"""Pictures of single characters in files: any folder of classes, and sets laid out in their way.

All follow one rule. A picture becomes a square as `images.fit` says. Of pictures with the same
pixels the first in the order of names stays, and none where their labels differ. Where there is no
official split, a fifth of every class is to test on, drawn with a fixed seed.
"""

from __future__ import annotations

import csv
import io
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
from numpy.typing import NDArray

from hwr.data import images as pictures
from hwr.data.archive import Files, listing
from hwr.data.arrays import DIGITS, grey_dataset, read_npz
from hwr.data.catalogue import Download, register
from hwr.data.dataset import Dataset
from hwr.data.duplicates import fingerprint, once
from hwr.data.split import divide
from hwr.errors import DataError

GUJARATI = "https://github.com/kishanjesalpura/Gujarati-digits-dataset"
ODIA = "https://github.com/OA-Biswajit/Odia-digits-and-Characters-Recognition"
ALNUM = (*digits, *ascii_uppercase, *ascii_lowercase)
SPLITS = ("train", "test")


def from_pictures(
    files: Files,
    split: str,
    labelled: dict[str, str],
    classes: tuple[str, ...],
    size: int,
    official: dict[str, str] | None = None,
) -> Dataset:
    """A split of labelled picture files (name: class); `official` gives the split of each."""
    if unknown := sorted(set(labelled.values()) - set(classes)):
        name = next(name for name, label in labelled.items() if label == unknown[0])
        raise DataError(
            f"{files.dataset}: {files.folder / name} is labelled {unknown[0]!r}, which is none of "
            f"the {len(classes)} classes {listing(classes)}"
        )
    names = list(labelled)
    squares, prints = _squares(files.folder, tuple(names), size, files.stamp())
    numbers = {label: i for i, label in enumerate(classes)}
    labels = np.array([numbers[labelled[name]] for name in names], np.int64)
    if official is not None:
        side = {s: [i for i, name in enumerate(names) if official[name] == s] for s in SPLITS}
        tested = {prints[i] for i in side["test"]} if split == "train" else set()
        chosen = np.array([i for i in side[split] if prints[i] not in tested], np.int64)
        shared = len(side[split]) - len(chosen)
        note = f"{shared} of {len(side[split]):,} also stand in test and are left out"
        note = note if shared else ""
        return grey_dataset(
            files.dataset, split, squares[chosen], labels[chosen], classes, note=note
        )
    kept = once(prints, labels)
    chosen = kept[divide(labels[kept])[split]]
    left_out = len(names) - len(kept)
    note = f"split made here; {left_out} of {len(names):,} pictures repeat others and are left out"
    return grey_dataset(files.dataset, split, squares[chosen], labels[chosen], classes, note=note)


@lru_cache(maxsize=2)
def _squares(
    folder: Path, names: tuple[str, ...], size: int, stamp: str
) -> tuple[NDArray[np.uint8], list[bytes]]:
    """Every picture as a square, and the fingerprint of its pixels before.

    The splits of a dataset share it, for decoding a large one takes minutes. `stamp` changes when
    a file does.
    """
    squares = np.empty((len(names), size, size), np.uint8)
    prints = []
    for i, picture in enumerate(pictures.read(Files(folder.name, folder), names)):
        squares[i] = pictures.fit(picture, size)
        prints.append(fingerprint(picture))
    squares.flags.writeable = False
    return squares, prints


def class_folders(files: Files) -> tuple[dict[str, str], dict[str, str] | None]:
    """Class and, if the folders train and test exist, split of every picture, by its name.

    The class is the name of the folder a picture lies in. DataError if a picture lies in none, if
    a folder is empty, or if only one of train and test is there.
    """
    for folder in sorted(path for path in files.folder.rglob("*") if path.is_dir()):
        if not any(True for _ in folder.iterdir()):
            raise DataError(
                f"{files.dataset}: the class folder {folder} is empty; fill it or remove it"
            )
    labelled, split_of = {}, {}
    for name in files.with_suffix(pictures.SUFFIXES):
        parts = PurePosixPath(name).parts
        if len(parts) < 2 or parts[-2] in SPLITS:
            raise DataError(
                f"{files.dataset}: {files.folder / name} lies in no class folder, expected "
                "class/name.png; move it into one"
            )
        labelled[name] = parts[-2]
        if len(parts) > 2 and parts[-3] in SPLITS:
            split_of[name] = parts[-3]
    if not labelled:
        raise DataError(
            f"{files.dataset}: {files.folder} holds no pictures as class/name.png "
            f"({', '.join(pictures.SUFFIXES)}); found: {listing(files.names)}"
        )
    if not split_of:
        return labelled, None
    if len(split_of) < len(labelled) or len(set(split_of.values())) < len(SPLITS):
        raise DataError(
            f"{files.dataset}: of {len(labelled):,} pictures in {files.folder}, {len(split_of):,} "
            "lie under train or test; expected all, and some under each"
        )
    return labelled, split_of


def in_order(names: set[str]) -> tuple[str, ...]:
    """Class names as a reader expects them: numbers by value, then the rest by the alphabet."""
    return tuple(sorted(names, key=lambda n: (0, int(n), n) if n.isdecimal() else (1, 0, n)))


def load_folder(split: str, folder: Path, name: str = "folder", size: int = 64) -> Dataset:
    """Pictures sorted into folders: the folder's name is the class."""
    files = Files(name, folder)
    labelled, official = class_folders(files)
    return from_pictures(files, split, labelled, in_order({*labelled.values()}), size, official)


register(
    name="folder",
    title="any folder of pictures, such as ISI's Oriya digits: one folder a class",
    splits={"train": None, "test": None},
    classes=None,
    size="64x64",
    licence="yours",
    source="your own pictures, with --data-dir",
    layout="class/name.png, or train/class/name.png and test/class/name.png, also inside a zip or "
    "tar (PNG, JPEG, BMP, TIFF)",
    marker=("*/*", "*.zip", "*.tgz", "*.tar.gz"),
    obtain="give the folder of your own pictures by --data-dir",
)(load_folder)

register(
    name="isi-oriya",
    title="Oriya digits of the Indian Statistical Institute",
    splits={"train": None, "test": None},
    classes=10,
    size="32x32",
    licence="for research, on request",
    source="https://www.isical.ac.in/~ujjwal/download/database.html",
    layout="folders 0 to 9 of pictures, or train/0 to 9 and test/0 to 9",
    marker=("0/*", "train/0/*"),
    obtain="ask the institute for it (https://www.isical.ac.in/~ujjwal/download/database.html)",
)(partial(load_folder, name="isi-oriya", size=32))


@register(
    name="chars74k-kannada",
    title="Kannada characters drawn on a tablet by 25 people",
    splits={"train": 657 * 20, "test": 657 * 5},
    classes=657,
    size="64x64",
    licence="see the source",
    source="http://www.ee.surrey.ac.uk/CVSSP/demos/chars74k/",
    layout="KannadaHnd.tgz, or from it Kannada/Hnd/Img/Sample001/*.png to Sample657",
    marker=("*.tgz", "**/Sample001"),
    downloads=(
        Download(
            url="http://www.ee.surrey.ac.uk/CVSSP/demos/chars74k/KannadaHnd.tgz",
            file="KannadaHnd.tgz",
        ),
    ),
    note="the same writers on both sides of the split",
)
def load_chars74k(split: str, folder: Path) -> Dataset:
    """Folders Sample001, ... below Img. Every writer drew every class once.

    Source: de Campos, Babu and Varma 2009, "Character recognition in natural images".
    """
    files = Files("chars74k-kannada", folder)
    names = files.with_suffix(pictures.SUFFIXES, under="Img")
    names = names or files.with_suffix(pictures.SUFFIXES)
    labelled = {name: PurePosixPath(name).parent.name for name in names}
    if not labelled or not all(label.startswith("Sample") for label in labelled.values()):
        raise DataError(
            f"chars74k-kannada: {folder} is not laid out as Img/Sample001/name.png; found: "
            f"{listing(names or files.names)}"
        )
    return from_pictures(files, split, labelled, in_order({*labelled.values()}), 64)


@register(
    name="gujarati",
    title="Gujarati digits, drawn on a screen",
    splits={"train": None, "test": None},
    classes=10,
    size="28x28",
    licence="MIT",
    source=GUJARATI,
    layout="gujarati_digits.npz (arrays images, labels), or Dataset/0/*.png to 9, also inside a "
    "zip",
    marker=("gujarati_digits.npz", "*.zip", "**/Dataset"),
    downloads=(Download(url=f"{GUJARATI}/archive/refs/heads/master.zip", file="gujarati.zip"),),
    note="few hands: a weak test",
)
def load_gujarati(split: str, folder: Path) -> Dataset:
    """1,000 digits, dark on white; the split is made here."""
    files = Files("gujarati", folder)
    if not files.find("gujarati_digits.npz"):
        names = files.with_suffix(pictures.SUFFIXES, under="Dataset")
        labelled = {name: PurePosixPath(name).parent.name for name in names}
        if not labelled:
            files.require("gujarati_digits.npz", "Dataset/0/0_0.png")
        return from_pictures(files, split, labelled, DIGITS, 28)
    images, labels = read_npz(files, "gujarati_digits.npz", "images", "labels")
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"gujarati: {folder} holds images {images.dtype} {images.shape} and labels "
            f"{labels.shape}, expected uint8 (N, H, W) and (N,)"
        )
    kept = once([fingerprint(image) for image in images], labels)
    chosen = kept[divide(labels[kept])[split]]
    left_out = len(images) - len(kept)
    note = f"split made here; {left_out} of {len(images):,} repeat others and are left out"
    return grey_dataset("gujarati", split, 255 - images[chosen], labels[chosen], note=note)


@register(
    name="odia-tiny",
    title="Odia (Oriya) characters, drawn on a screen by one hand",
    splits={"train": None, "test": None},
    classes=57,
    size="64x64",
    licence="MIT",
    source=ODIA,
    layout="folders 0 to 56 of pictures, also inside a zip, and odia_label.csv (class, label, "
    "class, label, ... a line)",
    marker=("odia_label.csv",),
    note="five pictures a class by one hand: shows a loader, measures nothing",
)
def load_odia(split: str, folder: Path) -> Dataset:
    """The number of each folder is named by the letter in odia_label.csv."""
    files = Files("odia-tiny", folder)
    path = files.require("odia_label.csv")
    rows = list(csv.reader(io.StringIO(files.read(path).decode("utf-8-sig"))))[1:]
    letters = {
        row[i]: row[i + 1] for row in rows for i in range(0, len(row) - 1, 2) if row[i].isdecimal()
    }
    labelled, _ = class_folders(files)
    unknown = sorted(set(labelled.values()) - set(letters))
    if unknown or len(set(letters.values())) < len(letters):
        raise DataError(
            f"odia-tiny: {folder / path} names {len(letters)} classes, expected one letter for "
            f"each of the folders {listing(sorted(set(labelled.values())))}"
        )
    classes = tuple(letters[number] for number in in_order(set(letters)))
    named = {name: letters[number] for name, number in labelled.items()}
    return from_pictures(files, split, named, classes, 64)


def load_alnum(name: str, merged: bool, split: str, folder: Path) -> Dataset:
    """Pictures named in labels.csv (filename, label); `merged` makes small letters capitals."""
    files = Files(name, folder)
    path = files.require("labels.csv")
    rows = list(csv.DictReader(io.StringIO(files.read(path).decode("utf-8-sig"))))
    if not rows or not {"filename", "label"} <= rows[0].keys():
        raise DataError(f"{name}: {folder / path} has no columns filename and label")
    by_file = {PurePosixPath(each).name: each for each in files.with_suffix(pictures.SUFFIXES)}
    if missing := [row["filename"] for row in rows if row["filename"] not in by_file]:
        raise DataError(
            f"{name}: {folder} lacks {len(missing):,} of the {len(rows):,} pictures that {path} "
            f"names: {listing(missing)}"
        )
    labelled = {
        by_file[row["filename"]]: row["label"].upper() if merged else row["label"] for row in rows
    }
    return from_pictures(files, split, labelled, ALNUM[:36] if merged else ALNUM, 32)


for _name, _title, _merged, _count in (
    ("photo-alnum62", "letters and digits, photographed by phone", False, 62),
    ("photo-alnum36", "the same pictures as photo-alnum62, case ignored", True, 36),
):
    register(
        name=_name,
        title=_title,
        splits={"train": None, "test": None},
        classes=_count,
        size="32x32",
        licence="MIT",
        source="https://github.com/Bishwaprotapi/Hand-Written",
        layout="labels.csv (columns filename, label) and the pictures it names, also inside a zip",
        marker=("labels.csv",),
        folder="photo-alnum62",
        note="few writers, the same on both sides of the split",
    )(partial(load_alnum, _name, _merged))
