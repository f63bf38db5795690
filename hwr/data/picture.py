"""Pictures of images side by side, as PNG files, without a plotting library."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.data.loader import Augment

GAP = 2  # pixels between the images
GREY = 96  # of the gaps: neither the ink nor the background


def sheet(columns: Sequence[NDArray[np.uint8]], zoom: int = 2) -> NDArray[np.uint8]:
    """Columns of images (N, H, W, C), each image zoom times as large -> one image (H', W', C)."""
    images = np.stack(columns, 1)  # (N, columns, H, W, C)
    images = images.repeat(zoom, 2).repeat(zoom, 3)
    gap = [(0, 0), (0, 0), (GAP, 0), (GAP, 0), (0, 0)]
    n, across, h, w, c = (images := np.pad(images, gap, constant_values=GREY)).shape
    joined = images.transpose(0, 2, 1, 3, 4).reshape(n * h, across * w, c)
    return np.pad(joined, [(0, GAP), (0, GAP), (0, 0)], constant_values=GREY)


def augmented(dataset: Dataset, augment: Augment, versions: int, seed: int) -> NDArray[np.uint8]:
    """The first image of each class, and beside it as many versions as training would see."""
    _, first = np.unique(dataset.labels, return_index=True)
    images, rng = dataset.images[first], np.random.default_rng(seed)
    return sheet([images, *(augment(images, rng) for _ in range(versions))])


def png(image: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 1) grey or (H, W, 3) colours -> a PNG file.

    Source: ISO/IEC 15948, Portable Network Graphics.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    h, w, c = image.shape
    header = struct.pack(">IIBBBBB", w, h, 8, {1: 0, 3: 2}[c], 0, 0, 0)
    rows = np.pad(image.reshape(h, w * c), [(0, 0), (1, 0)])  # before each row: 0, no filter
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            chunk(b"IEND", b""),
        ]
    )
