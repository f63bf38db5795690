"""Ruled and squared paper: its lines taken away, the strokes that cross them left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwr.vision.components import weighted_median
from hwr.vision.parameters import Parameters

SLANTS_DEG = np.arange(-6.0, 6.1, 1.0)  # of the lines, after the page was found
PIECE = 0.12  # of the shortest ruling line: the length that is sought at each slant
BRIDGE = 0.5  # of a piece: gaps in a line, where strokes hide it or it fades
THICK = 0.3  # of a piece: no ruling line is thicker
COVERED = 0.7  # of a line's length: the bars of several 7s leave gaps
CROSSING = 1.7  # line thicknesses: a longer run across the line is a stroke's
LEAST_PIECE = 24  # pixels

Image = NDArray[np.uint8]


def find_ruling(ink: Image, p: Parameters) -> Image:
    """The pixels of long, thin, straight lines in a mask of ink, near-horizontal and near-vertical.

    Where strokes cross a line they are left out. uint8 (H, W).
    """
    across = line_pixels(ink, long_lines(ink, p))
    turned = np.ascontiguousarray(ink.T)
    return across | line_pixels(turned, long_lines(turned, p)).T


def long_lines(ink: Image, p: Parameters) -> Image:
    """Where near-horizontal lines run that are as long as `p.ruling` of the width.

    At each slant the ink is sheared level and opened by a piece of a line; pieces that continue
    one another, as on curved paper, count as one line.
    """
    import cv2

    h, w = ink.shape
    piece = max(LEAST_PIECE, int(PIECE * p.ruling * w))
    half = cv2.resize(
        cv2.dilate(ink, np.ones((3, 1), np.uint8)), ((w + 1) // 2, (h + 1) // 2),
        interpolation=cv2.INTER_NEAREST,
    )  # fmt: skip
    found = np.zeros_like(half)
    for slant in SLANTS_DEG:
        shift = float(np.tan(np.radians(slant)))
        level = sheared(half, -shift)
        close = np.ones((1, max(3, piece // 8)), np.uint8)
        level = cv2.morphologyEx(level, cv2.MORPH_CLOSE, close)
        level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, piece // 2), np.uint8))
        if level.any():
            found |= sheared(level, shift)
    if not found.any():
        return np.zeros_like(ink)
    bridge = np.ones((3, max(3, int(BRIDGE * piece / 2)) | 1), np.uint8)
    _, which, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(found, bridge))
    length = stats[:, cv2.CC_STAT_WIDTH]
    thickness = np.bincount(which[found > 0], minlength=len(stats)) / np.maximum(length, 1)
    y, x = np.nonzero(found)
    columns = np.unique(which[y, x] * half.shape[1] + x) // half.shape[1]
    covered = np.bincount(columns, minlength=len(stats)) > COVERED * length
    keep = (2 * length > p.ruling * w) & (2 * thickness < THICK * piece) & covered
    keep[0] = False
    long = keep[which].astype(np.uint8) & found
    return np.asarray(cv2.resize(long, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)


def sheared(mask: Image, shift: float) -> Image:
    """Each column moved down by `shift` times its distance from the middle."""
    import cv2

    h, w = mask.shape
    move = np.array([[1, 0, 0], [shift, 1, -shift * w / 2]])
    return np.asarray(cv2.warpAffine(mask, move, (w, h), flags=cv2.INTER_NEAREST), np.uint8)


def line_pixels(ink: Image, lines: Image) -> Image:
    """The ink that belongs to the lines, without what crosses them.

    In each column the run of ink through a line is measured: about as long as the line is thick,
    it is the line's; longer, a stroke crosses here.
    """
    import cv2

    if not lines.any():
        return np.zeros_like(ink)
    near = cv2.dilate(lines, np.ones((3, 1), np.uint8)) & ink
    above, below = run_lengths(ink), run_lengths(ink[::-1])[::-1]
    run = (above + below - 1) * (ink > 0)  # of the column's ink through each pixel
    if not near.any():
        return np.zeros_like(ink)
    runs = run[near > 0]
    thick = weighted_median(runs, 1 / runs)  # of the runs, not of their pixels
    own = (run <= max(CROSSING * thick, thick + 1)) & (near > 0)
    rest = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)) & ink
    return np.asarray((own | ((rest > 0) & (run <= thick + 1))).astype(np.uint8))


def run_lengths(ink: Image) -> NDArray[np.int32]:
    """How many pixels of ink lie above each, itself included."""
    h = len(ink)
    row = np.arange(1, h + 1, dtype=np.int32)[:, None]
    last_paper = np.maximum.accumulate(np.where(ink > 0, 0, row), axis=0)
    return row - last_paper
