"""Image files decoded for the reader: turned upright, in eight bits, and not too large."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import UserError
from hwr.vision.headers import Header, read_header

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif",
            ".pgm", ".ppm", ".pbm", ".pnm")  # fmt: skip
OURS = (".read.png", ".explain.png")  # what we write beside a photograph is none
MOST_PIXELS = 80_000_000
ENOUGH = 2800  # pixels, longer side: a JPEG more than twice as large is decoded at a fraction
MOST_BYTES = 500_000_000
KNOWN = "JPEG, PNG, WebP, TIFF, BMP, GIF or PNM"

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Photograph:
    """`image` uint8 (H, W, 3), BGR, upright; it is `reduced` times smaller than the file's."""

    image: Image
    reduced: int = 1
    note: str = ""


def require_cv2() -> Any:
    """The module cv2. UserError, with what to install, if it is missing or broken."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # we say ourselves what is wrong
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"photographs are read with OpenCV, which cannot be imported ({error}); install it by "
            "pip install 'opencv-python-headless>=4.10,<6'"
        ) from None
    return cv2


def decode(data: bytes, name: str) -> Photograph:
    """The picture in the bytes of a file. UserError says what is wrong with it.

    EXIF's orientation is obeyed (but of a WebP with alpha); transparent parts become white paper;
    16 bits become 8; of several pictures the first is taken.
    """
    cv2 = require_cv2()
    header = checked_header(data, name)
    reduced = 1
    if header.format == "JPEG":
        while reduced < 8 and max(header.width, header.height) / (2 * reduced) >= ENOUGH:
            reduced *= 2
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
             8: cv2.IMREAD_REDUCED_COLOR_8}[reduced]  # fmt: skip
    if header.alpha:
        flags = cv2.IMREAD_UNCHANGED
    elif header.format != "JPEG":
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or not image.size:
        raise UserError(
            f"{name}: the {header.format} cannot be decoded: it is damaged or of a rare kind; "
            "open it in an image viewer and save it as JPEG or PNG"
        )
    if header.alpha:
        image = upright(image, header.orientation)
    note = f"{name}: {header.format} with several pictures; the first is read"
    return Photograph(eight_bits(image), reduced, note if header.frames else "")


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A picture as EXIF's orientation says that it is to be seen; any but 2 to 8 leaves it."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def checked_header(data: bytes, name: str) -> Header:
    """The header. UserError unless the file is a whole image of a size that can be decoded."""
    if not data:
        raise UserError(f"{name}: the file is empty (0 bytes); copy the photograph again")
    try:
        header = read_header(data)
    except (ValueError, IndexError, struct.error):
        raise UserError(
            f"{name}: the image breaks off within its header ({len(data):,} bytes); copy the "
            "photograph again"
        ) from None
    if header is None:
        hint = "; export it as JPEG" if data[4:8] == b"ftyp" else ""
        raise UserError(f"{name}: not an image that can be read (expected {KNOWN}){hint}")
    size = f"{header.width:,} x {header.height:,} pixels"
    if not header.width or not header.height:
        raise UserError(f"{name}: the {header.format} says that it has {size}; it is damaged")
    if header.width * header.height > MOST_PIXELS:
        raise UserError(
            f"{name}: {size} are more than the {MOST_PIXELS:,} that are read; make it smaller"
        )
    if not header.complete:
        raise UserError(
            f"{name}: the {header.format} breaks off after {len(data):,} bytes, its end is "
            "missing; copy the photograph again"
        )
    return header


def eight_bits(image: NDArray[Any]) -> Image:
    """Any decoded picture as uint8 (H, W, 3), BGR; what is transparent shows white paper."""
    values = image.astype(np.float32)
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    if image.dtype != np.uint8:
        most = {np.dtype(np.uint16): 65535.0}.get(image.dtype, float(values.max(initial=0)) or 1.0)
        values = np.nan_to_num(values) * np.float32(255 / most)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[2] in (2, 4):
        alpha = values[..., -1:] / 255
        values = (values[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.float32)
    if values.shape[2] == 1:
        values = values.repeat(3, 2)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. UserError if it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes are no photograph")
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; check the name and its permissions"
        ) from None


def find_photographs(names: Sequence[str]) -> list[Path]:
    """Files, the images in folders, and what patterns such as `*.jpg` match, in that order.

    UserError for a name that is none of these, and for a folder without images.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if not name:  # of a variable that is not set; it would be this folder
            raise UserError("the name of an image is empty; check the command")
        if path.is_dir():
            found += images_in(path)
        elif path.exists() or name == "-":
            found.append(path)
        elif matches := sorted(Path(match) for match in glob(name, recursive=True)):
            found += [match for match in matches if is_photograph(match)]
        else:
            raise UserError(f"{name}: there is no such file, folder or match; check the name")
    return list(dict.fromkeys(found))


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by name. UserError if there are none or it cannot be listed."""
    try:
        images = sorted(path for path in folder.iterdir() if is_photograph(path))
    except OSError as error:
        raise UserError(
            f"cannot list {folder}: {error.strerror or error}; check its permissions"
        ) from None
    if not images:
        raise UserError(f"{folder}: no image in this folder (looked for {', '.join(SUFFIXES)})")
    return images


def is_photograph(path: Path) -> bool:
    """Whether a file's name is that of an image, and not of one that we wrote."""
    name = path.name.lower()
    return name.endswith(SUFFIXES) and not name.endswith(OURS) and path.is_file()
