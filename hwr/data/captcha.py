"""Verification codes: a picture each, its code the file's name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from hwr.data import images as pictures
from hwr.data.archive import Files, listing
from hwr.data.catalogue import Download, register
from hwr.data.split import divide
from hwr.data.strings import Strings
from hwr.errors import DataError


@register(
    name="captcha",
    title="verification codes of 5 characters, generated; or a folder of CODE.png",
    kind="strings",
    splits={"train": 832, "test": 208},
    classes=19,
    size="50x200",
    licence="none stated",
    source="https://github.com/AakashKumarNain/CaptchaCracker",
    layout="pictures CODE.png, also inside a zip",
    marker=("**/*.png", "**/*.jpg", "*.zip"),
    downloads=(
        Download(
            url="https://github.com/AakashKumarNain/CaptchaCracker/raw/master/captcha_images_v2.zip",
            file="captcha_images_v2.zip",
        ),
    ),
    note="generated, not handwriting; split made here",
)
def load(split: str, folder: Path) -> Strings:
    """A fifth of the codes is to test on. The alphabet is every symbol that some code has."""
    files = Files("captcha", folder)
    names = files.with_suffix(pictures.SUFFIXES)
    codes = [PurePosixPath(name).stem for name in names]
    if not names:
        raise DataError(
            f"captcha: {folder} holds no pictures CODE.png; found: {listing(files.names)}"
        )
    if repeated := sorted({code for code in codes if codes.count(code) > 1}):
        raise DataError(
            f"captcha: {folder} holds the code {repeated[0]!r} more than once; remove one"
        )
    chosen = divide(np.zeros(len(codes)))[split]
    shown = tuple(255 - image for image in pictures.read(files, [names[i] for i in chosen]))
    texts = tuple(codes[i] for i in chosen)
    return Strings("captcha", split, shown, texts, tuple(sorted(set("".join(codes)))))
