"""Reading pictures (PNG, JPEG, BMP, TIFF), and bringing them to one size.

Whatever the paper and the pen, a loader returns ink that is bright on dark, as MNIST has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data.archive import Files
from hwr.errors import DataError
from hwr.progress import Progress

Image = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 2**26  # of one picture; a phone's camera takes 2**24
LEAST_CONTRAST = 24  # grey levels; what shows less is an empty sheet, and is not made brighter


def read(files: Files, names: Iterable[str]) -> Iterator[Image]:
    """Each picture of a dataset as uint8 (H, W), with progress."""
    names = list(names)
    with Progress(f"reading {files.dataset}", len(names), unit="pictures") as progress:
        for name in names:
            yield decode(files.read(name), str(files.folder / name))
            progress.update(1)


def decode(data: bytes, name: str) -> Image:
    """A picture file as uint8 (H, W); what is transparent is white.

    Its size is read from the header first. Raises DataError, with `name`, for a file that is no
    picture, damaged, or larger than MAX_PIXELS.
    """
    h, w = header_size(data, name)
    if not 0 < h * w <= MAX_PIXELS:
        raise DataError(
            f"{name}: the picture is {h:,} x {w:,} pixels, expected 1 to {MAX_PIXELS:,} in all; "
            "replace or remove the file"
        )
    import cv2

    packed = np.frombuffer(data, np.uint8)
    try:
        pixels = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
        if pixels is not None and is_transparent(pixels):
            pixels = on_white(pixels)
        elif pixels is not None:
            pixels = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise DataError(f"{name}: the picture is damaged ({error}); fetch it again") from error
    if pixels is None:
        raise DataError(f"{name}: the picture is damaged, it cannot be decoded; fetch it again")
    return np.ascontiguousarray(pixels)


def is_transparent(pixels: NDArray[Any]) -> bool:
    """Whether a decoded picture has a fourth channel, and that not opaque throughout."""
    if pixels.ndim == 2 or pixels.shape[2] != 4:
        return False
    return bool(pixels[..., 3].min() < np.iinfo(pixels.dtype).max)


def on_white(pixels: NDArray[Any]) -> Image:
    """A picture (H, W, 4) in grey on white; a plain conversion would ignore transparency."""
    import cv2

    shares = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    colour, alpha = shares[..., :3], shares[..., 3:]
    grey = cv2.cvtColor(colour * alpha + (1 - alpha), cv2.COLOR_BGR2GRAY)
    return np.rint(255 * grey).astype(np.uint8)


def header_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width as the file's header states them, without decoding anything.

    Source: ISO/IEC 15948 (PNG), ISO/IEC 10918-1 annex B (JPEG), Adobe's TIFF 6.0.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            w, h = struct.unpack_from(">II", data, 16)
            return h, w
        if data.startswith(b"\xff\xd8"):
            return _jpeg_size(data)
        if data.startswith(b"BM"):
            core = struct.unpack_from("<I", data, 14)[0] == 12
            w, h = struct.unpack_from("<HH" if core else "<ii", data, 18)
            return abs(h), w
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff_size(data)
    except (struct.error, IndexError, KeyError):
        raise DataError(f"{name}: the picture's header is damaged; fetch it again") from None
    start = data[:8].hex(" ") or "nothing"
    raise DataError(
        f"{name} begins with {start}, which is no PNG, JPEG, BMP or TIFF; "
        "replace or remove the file"
    )


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the first frame header (SOF0 to SOF15, but the three codes that mean other things)."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            h, w = struct.unpack_from(">HH", data, at + 5)
            return h, w
        if marker == 0xFFFF:  # a byte of filling
            at += 1
        elif marker < 0xFF00 or marker in (0xFFD9, 0xFFDA) or length < 2:
            raise IndexError
        else:
            at += 2 + length


def _tiff_size(data: bytes) -> tuple[int, int]:
    """From the first directory's tags 257 (ImageLength) and 256 (ImageWidth)."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags = {}
    for i in range(count):
        tag, kind = struct.unpack_from(f"{order}HH", data, at + 2 + 12 * i)
        if tag in (256, 257):
            form = {3: "H", 4: "I"}[kind]
            (tags[tag],) = struct.unpack_from(f"{order}{form}", data, at + 10 + 12 * i)
    return tags[257], tags[256]


def fit(image: Image, size: int) -> Image:
    """One character, uint8 (H, W), as (size, size): the rule for pictures of varying size.

    The whole picture, aspect kept, is resampled (area; linear if it grows) to fill the square,
    which is padded with the background: the median of the picture's border. Ink is what differs
    from the background: darker if the darkest pixel is further from it than the brightest.
    It becomes bright on 0, and its brightest pixel 255, unless that is below LEAST_CONTRAST.
    """
    import cv2

    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    background = int(np.partition(border, len(border) // 2)[len(border) // 2])  # the median
    h, w = image.shape
    scale = size / max(h, w)
    across, down = max(1, round(w * scale)), max(1, round(h * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.full((size, size), background, np.int16)
    top, left = (size - down) // 2, (size - across) // 2
    resized = cv2.resize(image, (across, down), interpolation=way)
    square[top : top + down, left : left + across] = resized
    ink = square - background
    if -ink.min() >= ink.max():
        ink = -ink
    ink = np.clip(ink, 0, 255)
    peak = int(ink.max())
    gain = 255 / peak if peak >= LEAST_CONTRAST else 1.0
    return np.rint(ink * gain).astype(np.uint8)


def ink(image: Image) -> Image:
    """uint8 (H, W), bright on dark -> the same on 0: the paper, the median of all pixels, is taken
    away, and the brightest pixel becomes 255, unless it is less than LEAST_CONTRAST above it."""
    above = np.clip(image.astype(np.float32) - np.median(image), 0, None)
    peak = above.max()
    gain = 255 / peak if peak >= LEAST_CONTRAST else 1.0
    return np.rint(gain * above).astype(np.uint8)


def to_height(image: Image, height: int) -> Image:
    """uint8 (H, W) -> (height, W'), aspect kept: area resampling, linear if it grows."""
    import cv2

    h, w = image.shape
    if h == height:
        return image
    across = max(1, round(w * height / h))
    way = cv2.INTER_AREA if height < h else cv2.INTER_LINEAR
    resized: Image = cv2.resize(image, (across, height), interpolation=way)
    return resized
