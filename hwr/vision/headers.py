"""What an image file says about itself before it is decoded: format, size, alpha, animation.

A few bytes tell whether an image is one at all and how much memory it wants, so that neither a
damaged file nor a decompression bomb is decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

TIFF_WIDTH, TIFF_HEIGHT, TIFF_ORIENTATION, TIFF_EXTRA_SAMPLES = 256, 257, 274, 338
TIFF_SHORT, TIFF_ENTRY = 3, 12  # a kind of number; bytes of an entry
PNG_EXIF = b"eXIf"
PNG_END = b"IEND\xaeB\x60\x82"  # with its checksum
GIF_PICTURE, GIF_TRAILER = 0x2C, 0x3B  # kinds of blocks
JPEG_END = b"\xff\xd9"  # no compressed data hold it
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that hold the size
PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


@dataclass(frozen=True)
class Header:
    """Format and size in pixels as stored. `complete` is False if the file's end is missing.

    `orientation` is EXIF's, 1 to 8, of a PNG: with alpha OpenCV does not obey it.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    frames: bool = False  # more than one picture
    complete: bool = True
    orientation: int = 1


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG, PNG, WebP, TIFF, BMP, GIF or PNM; None for anything else.

    ValueError (or struct.error, IndexError) if the header breaks off.
    """
    for magic, parse in PARSERS:
        if re.match(magic, data, re.DOTALL):
            return parse(data)
    return None


def png(data: bytes) -> Header:
    """Source: ISO/IEC 15948, IHDR; acTL says that it is animated."""
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    alpha = colour in (4, 6) or b"tRNS" in data[:4096]
    frames, complete = b"acTL" in data[:4096], PNG_END in data
    return Header("PNG", width, height, alpha, frames, complete, orientation(data))


def jpeg(data: bytes) -> Header:
    """Source: ITU-T T.81, B.2: segments, each with its length, up to the frame's."""
    at = 2
    while True:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return Header("JPEG", width, height, complete=JPEG_END in data[at:])
        if marker in (0xD9, 0xDA):
            raise ValueError("no frame")
        at += 0 if 0xD0 <= marker <= 0xD8 or marker == 1 else struct.unpack_from(">H", data, at)[0]


def gif(data: bytes) -> Header:
    """Source: GIF89a specification: the logical screen, then blocks up to the trailer."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, pictures = 13 + table_bytes(flags), 0
    while at < len(data) and data[at] != GIF_TRAILER:
        if data[at] == GIF_PICTURE:
            pictures += 1
            at += 11 + table_bytes(data[at + 9])
        else:
            at += 2
        while at < len(data) and data[at]:  # sub-blocks, each with its length
            at += 1 + data[at]
        at += 1
    return Header("GIF", width, height, frames=pictures > 1, complete=at < len(data))


def table_bytes(flags: int) -> int:
    """Bytes of the table of colours that the flags of a GIF announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def bmp(data: bytes) -> Header:
    """Source: the BITMAPINFOHEADER; a negative height means rows from top to bottom.

    The older BITMAPCOREHEADER is 12 bytes long, its sides are two bytes each.
    """
    core = struct.unpack_from("<I", data, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    return Header("BMP", abs(width), abs(height))


def webp(data: bytes) -> Header:
    """Source: RFC 9649: the first chunk is VP8, VP8L or VP8X."""
    size = struct.unpack_from("<I", data, 4)[0]
    complete = len(data) >= size + 8
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return Header("WebP", width, height, bool(flags & 16), bool(flags & 2), complete)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return Header("WebP", width, height, bool(bits >> 28 & 1), complete=complete)
    width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    return Header("WebP", width, height, complete=complete)


def tiff(data: bytes) -> Header:
    """Source: TIFF 6.0, section 2: what the first directory says, and whether there is another."""
    found, following = directory(data)
    if not {TIFF_WIDTH, TIFF_HEIGHT} <= found.keys():
        raise ValueError("no size")
    size = found[TIFF_WIDTH], found[TIFF_HEIGHT]
    return Header("TIFF", *size, TIFF_EXTRA_SAMPLES in found, following > 0)


def directory(data: bytes) -> tuple[dict[int, int], int]:
    """The first value of each entry in a TIFF's first directory; where the next one is, or 0."""
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, at)[0]
    found = {}
    for entry in range(at + 2, at + 2 + TIFF_ENTRY * count, TIFF_ENTRY):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        code = "H" if kind == TIFF_SHORT else "I"
        found[tag] = struct.unpack_from(f"{order}{code}", data, entry + 8)[0]
    return found, struct.unpack_from(f"{order}I", data, at + 2 + TIFF_ENTRY * count)[0]


def orientation(data: bytes) -> int:
    """EXIF's orientation in a PNG; 1, upright, if it has none or a damaged one."""
    at = data.find(PNG_EXIF)
    if at < 0:
        return 1
    try:
        return directory(data[at + len(PNG_EXIF) :])[0].get(TIFF_ORIENTATION, 1)
    except struct.error:
        return 1


def pnm(data: bytes) -> Header:
    """Source: Netpbm's formats: the size in decimal digits after the magic number."""
    found = PNM.match(data[:4096])
    if found is None:
        raise ValueError("no size")
    return Header("PNM", int(found[1]), int(found[2]))


PARSERS: tuple[tuple[bytes, Callable[[bytes], Header]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", png),
    (rb"\xff\xd8\xff", jpeg),
    (rb"GIF8[79]a", gif),
    (rb"BM", bmp),
    (rb"RIFF....WEBP", webp),
    (rb"II\*\0|MM\0\*", tiff),
    (rb"P[1-6]\s", pnm),
)
