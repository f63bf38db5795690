"""Strings of digits: ORAND-CAR, amounts of cheques, and CVL, strings of about 300 writers.

Source: Diem et al. 2014, "ICFHR 2014 competition on handwritten digit string recognition in
challenging datasets (HDSRC 2014)".
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data import images as pictures
from hwr.data.archive import Files, listing
from hwr.data.arrays import DIGITS
from hwr.data.catalogue import Download, register
from hwr.data.strings import Strings
from hwr.errors import DataError

ORAND = "https://www.orand.cl/icfhr2014-hdsr/"
ORAND_ARCHIVE = Download(
    url="https://www.orand.cl/orand_car/ORAND-CAR-2014.tar.gz", file="ORAND-CAR-2014.tar.gz"
)
BOXED = {"train": "train", "test": "val"}  # split: stem of the zip and the JSON file


def load_orand(part: str, split: str, folder: Path) -> Strings:
    """The official layout: CAR-A/a_train_gt.txt with a picture's name and its digits a line."""
    files = Files(f"orand-car-{part}", folder)
    path = files.require(f"{part}_{split}_gt.txt")
    under = f"{part}_{split}_images"
    by_file = {PurePosixPath(n).name: n for n in files.with_suffix(pictures.SUFFIXES, under)}
    names, texts = [], []
    for number, line in enumerate(files.read(path).decode("utf-8", "replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[0] not in by_file:
            raise DataError(
                f"{files.dataset}: line {number} of {folder / path} is {line!r}, expected the name "
                f"of a picture in {under} and its digits; found there: {listing(by_file)}"
            )
        names.append(by_file[fields[0]])
        texts.append(fields[1])
    if not names:
        raise DataError(f"{files.dataset}: {folder / path} is empty; fetch it again")
    return lines_of_digits(files, split, names, texts)


def lines_of_digits(
    files: Files, split: str, names: list[str], texts: list[str], **more: Any
) -> Strings:
    """Dark ink on paper as bright on dark, at the size of the files."""
    shown = tuple(255 - picture for picture in pictures.read(files, names))
    return Strings(files.dataset, split, shown, tuple(texts), DIGITS, **more)


for _part, _train, _test in (("a", 2009, 3784), ("b", 3000, 2926)):
    register(
        name=f"orand-car-{_part}",
        title=f"amounts of cheques, ORAND-CAR-{_part.upper()}, official split",
        kind="strings",
        splits={"train": _train, "test": _test},
        classes=10,
        size="as scanned",
        licence="for research, see the source",
        source=ORAND,
        layout=f"ORAND-CAR-2014.tar.gz, or from it CAR-{_part.upper()}/{_part}_train_gt.txt, "
        f"{_part}_train_images/ and the same with test",
        marker=("ORAND-CAR-2014.tar.gz", f"**/{_part}_test_gt.txt"),
        folder="orand-car",
        downloads=(ORAND_ARCHIVE,),
        note="separators and marks around the amount are no part of the text",
    )(partial(load_orand, _part))


@register(
    name="orand-car-a-boxes",
    title="ORAND-CAR-A, part of its training images, a box for every digit",
    kind="strings",
    splits={"train": 1080, "test": 128},
    classes=10,
    size="as scanned",
    licence="labels MIT; pictures as ORAND-CAR-A",
    source="https://github.com/Fzkuji/Labeled_ORAND-CAR-A",
    layout="train.zip and val.zip of pictures, train.json and val.json (name: width, height, "
    "digits, boxes x, y, w, h)",
    marker=("val.json",),
    folder="orand-car-a",
    note="not the official test split of 3,784; the pictures were encoded again",
)
def load_boxes(split: str, folder: Path) -> Strings:
    """The labelled form: its validation part is to test on. Boxes in pixels, left to right."""
    files = Files("orand-car-a-boxes", folder)
    stem = BOXED[split]
    path = files.require(f"{stem}.json")
    try:
        table = json.loads(files.read(path))
        sizes = [(entry["height"], entry["width"]) for entry in table.values()]
        texts = [str(entry["digits"]) for entry in table.values()]
        boxes = tuple(np.array(entry["boxes"], np.int64).reshape(-1, 4) for entry in table.values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{files.dataset}: {folder / path} is not name: width, height, digits, boxes "
            f"({type(error).__name__}: {error})"
        ) from None
    names = [files.require(f"{stem}.zip/{name}", f"{stem}/{name}") for name in table]
    read = lines_of_digits(files, split, names, texts, boxes=boxes)
    for image, size, box, name in zip(read.images, sizes, boxes, names):
        _check_boxes(image, size, box, f"{files.dataset}: {folder / name}")
    return read


def _check_boxes(
    image: NDArray[np.uint8], size: tuple[int, int], boxes: NDArray[np.int64], where: str
) -> None:
    h, w = image.shape
    if (h, w) != size:
        raise DataError(f"{where} is {h} x {w} pixels, but labelled as {size[0]} x {size[1]}")
    corner, extent = boxes[:, :2], boxes[:, 2:]
    if (corner < 0).any() or (extent < 1).any() or (corner + extent > (w, h)).any():
        raise DataError(f"{where}: a box lies outside the picture of {h} x {w} pixels")


@register(
    name="cvl-strings",
    title="strings of digits by about 300 writers, scanned in colour",
    kind="strings",
    splits={"train": 1262, "test": 6698},
    classes=10,
    size="as scanned",
    licence="for research, see the source",
    source="https://cvl.tuwien.ac.at/research/cvl-databases/",
    layout="cvl-strings/train/ and cvl-strings-eval/ with pictures DIGITS-WRITER-NUMBER.png, also "
    "inside a zip",
    marker=("cvl-strings*",),
    obtain="get the CVL digit strings of the HDSRC 2014 competition from its authors "
    "(https://cvl.tuwien.ac.at/research/cvl-databases/)",
)
def load_cvl(split: str, folder: Path) -> Strings:
    """The official split: the writers of the evaluation part wrote none of the training part."""
    files = Files("cvl-strings", folder)
    names, texts, writers = [], [], []
    for name in files.with_suffix(pictures.SUFFIXES):
        path = PurePosixPath(name)
        is_test = any(part.startswith("cvl-strings-eval") for part in path.parts)
        if is_test != (split == "test") or (split == "train" and "train" not in path.parts):
            continue
        fields = path.stem.split("-")
        if len(fields) != 3 or not fields[0].isdecimal():
            raise DataError(
                f"cvl-strings: {folder / name} is not named DIGITS-WRITER-NUMBER, such as "
                "25000-0164-08.png; correct its name"
            )
        names.append(name)
        texts.append(fields[0])
        writers.append(fields[1])
    if not names:
        wanted = "cvl-strings-eval/" if split == "test" else "cvl-strings/train/"
        raise DataError(
            f"cvl-strings: {folder} holds no pictures under {wanted}; found: {listing(files.names)}"
        )
    return lines_of_digits(files, split, names, texts, groups={"writer": np.array(writers)})
