"""IAM: English sentences of 657 writers, for reading and for telling who wrote them.

A form is the page a writer filled; its sentences are cut line by line into pictures. forms.txt has
`<form> <writer> ...` a line, sentences.txt `<picture> <number> ok ... <word>|<word>|...`, both with
comments after #; a picture a01-000u-s00-03 belongs to the form a01-000u.

Source: Marti and Bunke 2002, "The IAM-database: an English sentence database for offline
handwriting recognition".
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hwr.data import images as pictures
from hwr.data.archive import Files, listing
from hwr.data.catalogue import register
from hwr.data.split import divide
from hwr.data.strings import Strings
from hwr.errors import DataError

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}  # Jin, Qian and Wang: 3429/735/735
FORMS = ("forms.txt", "forms_for_parsing.txt")
SENTENCES = "sentences.txt"
WRITERS = 50  # of Jin, Qian and Wang's part
HEIGHTS = {"iam": 64, "iam-writers50": 113, "iam-writers50-paper": 113}  # pixels
OBTAIN = (
    "register at https://fki.tic.heia-fr.ch/databases/iam-handwriting-database and download "
    "ascii.tgz and sentences.tgz"
)


def load(name: str, split: str, folder: Path) -> Strings:
    """Sentence pictures at one height (area resampling, aspect kept), with writer and form.

    `iam` is for reading: no writer stands in two splits. `iam-writers50` is for telling writers
    apart, the 50 who wrote most: of each writer's forms some are to train on, others to test on.
    `iam-writers50-paper` divides their sentences instead, as Jin, Qian and Wang do, and then one
    form stands on both sides.
    """
    files = Files(name, folder)
    writer_of = read_forms(files)
    text_of = read_sentences(files)
    found = [n for n in files.with_suffix((".png",)) if "-s" in PurePosixPath(n).stem]
    stems = [PurePosixPath(n).stem for n in found]
    forms = [stem.rpartition("-s")[0] for stem in stems]
    if not found:
        raise DataError(
            f"{name}: {folder} holds no pictures of sentences, such as a01-000u-s00-00.png; "
            f"found: {listing(files.names)}"
        )
    if text_of is None:
        if name == "iam":
            files.require(SENTENCES)
        text_of = dict.fromkeys(stems, "")
    for stem, form in zip(stems, forms):
        if form not in writer_of:
            raise DataError(f"{name}: the form {form} of {stem}.png is not in forms.txt")
        if stem not in text_of:
            raise DataError(f"{name}: the picture {stem}.png is not in {SENTENCES}")
    writers = np.array([writer_of[form] for form in forms])
    chosen, apart = choose(name, split, writers, np.array(forms))
    shown = tuple(
        pictures.to_height(255 - image, HEIGHTS[name])
        for image in pictures.read(files, [found[i] for i in chosen])
    )
    return Strings(
        name,
        split,
        shown,
        tuple(text_of[stems[i]] for i in chosen),
        tuple(sorted(set("".join(text_of[stem] for stem in stems)))),
        groups={"writer": writers[chosen], "form": np.array(forms)[chosen]},
        note=f"split made here, by {apart}",
    )


def choose(
    name: str, split: str, writers: NDArray[np.str_], forms: NDArray[np.str_]
) -> tuple[NDArray[np.int64], str]:
    """Positions of a split's sentences, and what the splits keep apart."""
    if name == "iam":
        return divide(np.zeros(len(forms)), SHARES, groups=writers)[split], "writers"
    pool = most_frequent(writers, WRITERS)
    if name == "iam-writers50-paper":
        return pool[divide(writers[pool], SHARES)[split]], "sentences"
    return pool[divide(writers[pool], SHARES, groups=forms[pool])[split]], "forms"


def most_frequent(writers: NDArray[np.str_], count: int) -> NDArray[np.int64]:
    """Positions of the sentences of the `count` writers who wrote most of them."""
    often = Counter(writers.tolist())
    chosen = sorted(often, key=lambda writer: (-often[writer], writer))[:count]
    return np.flatnonzero(np.isin(writers, chosen))


def read_forms(files: Files) -> dict[str, str]:
    """The writer of each form."""
    path = files.require(*FORMS)
    return {fields[0]: fields[1] for fields in _fields(files, path, 2)}


def read_sentences(files: Files) -> dict[str, str] | None:
    """The text of each picture; None without sentences.txt, as in parts that circulate."""
    path = files.find(SENTENCES)
    if path is None:
        return None
    texts = {}
    for fields in _fields(files, path, 9):
        # After ok or err come six numbers: grey level, components and the box.
        status = next((i for i, word in enumerate(fields) if word in ("ok", "err")), None)
        if status is None or len(fields) < status + 8:
            raise DataError(
                f"{files.dataset}: {files.folder / path} has the line {' '.join(fields)!r}, "
                "expected picture, number, ok or err, six numbers and the text"
            )
        texts[fields[0]] = " ".join(fields[status + 7 :]).replace("|", " ")
    return texts


def _fields(files: Files, path: str, least: int) -> list[list[str]]:
    lines = files.read(path).decode("utf-8", "replace").splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    short = [row for row in rows if len(row) < least]
    if short or not rows:
        raise DataError(
            f"{files.dataset}: {files.folder / path} has "
            + (f"the line {' '.join(short[0])!r}" if short else "no lines")
            + f", expected {least} fields or more a line"
        )
    return rows


for _name, _title in (
    ("iam", "English sentences of 657 writers, to read"),
    ("iam-writers50", "50 writers of IAM to tell apart, divided by forms"),
    ("iam-writers50-paper", "the same 50 writers, divided by sentences as in the paper"),
):
    register(
        name=_name,
        title=_title,
        kind="strings",
        splits=dict.fromkeys(SHARES),
        classes=None,
        size=f"{HEIGHTS[_name]} high",
        licence="free for non-commercial research, after registration",
        source="https://fki.tic.heia-fr.ch/databases/iam-handwriting-database",
        layout="ascii.tgz and sentences.tgz, or from them forms.txt, sentences.txt and the "
        "pictures a01/a01-000u/a01-000u-s00-00.png",
        marker=("**/forms*.txt", "ascii.tgz"),
        folder="iam",
        obtain=OBTAIN,
    )(partial(load, _name))
