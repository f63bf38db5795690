"""Ruled and squared paper, tables and forms: their lines taken away, the strokes over them left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwr.vision.components import weighted_median
from hwr.vision.ink import Grey
from hwr.vision.parameters import Parameters

Image = NDArray[np.uint8]


def find_ruling(ink: Image, darkness: Grey, p: Parameters) -> Image:
    """The pixels of long, thin, straight lines in a mask of ink, near-horizontal and near-vertical.

    Where strokes cross a line they are left out. uint8 (H, W).
    """
    level, upright = long_lines(ink, p), long_lines(np.ascontiguousarray(ink.T), p).T
    lines = np.zeros_like(ink)
    if level.any() or upright.any():
        pen = pen_darkness(ink & (1 - beside(level)) & (1 - beside(upright.T).T), darkness, p)
        across = line_pixels(ink, level, darkness, pen, p)
        rest = ink & (1 - across)  # where lines cross, the second ones take it all
        down = np.ascontiguousarray(line_pixels(rest.T, upright.T, darkness.T, pen, p).T)
        lines = across | down
        rest = ink & (1 - lines)
        lines |= rungs(rest, across, p) | rungs(rest.T, down.T, p).T
    return lines | frames(ink & (1 - lines), p)


def long_lines(ink: Image, p: Parameters) -> Image:
    """Where near-horizontal lines run, as long and as slender as no stroke is.

    At each slant the ink is sheared level, and every piece of a row is taken that is ink nearly
    everywhere; pieces that continue one another, as on curved paper, count as one line.
    """
    import cv2

    h, w = ink.shape
    piece = int(max(p.ruling_least * max(h, w), p.ruling_piece * w))
    half = cv2.resize(
        cv2.dilate(ink, np.ones((3, 1), np.uint8)), ((w + 1) // 2, (h + 1) // 2),
        interpolation=cv2.INTER_NEAREST,
    )  # fmt: skip
    found = np.zeros_like(half)
    window = np.ones((1, piece // 2 | 1), np.uint8)
    for slant in range(-p.ruling_slant_deg, p.ruling_slant_deg + 1):
        shift = float(np.tan(np.radians(slant)))
        filled = cv2.blur(255 * sheared(half, -shift), window.shape[::-1])
        level = cv2.dilate((filled > 255 * p.ruling_filled).astype(np.uint8), window)
        if level.any():
            found |= sheared(level, shift)
    found &= (cv2.blur(255 * half, (piece // 14 | 1, 1)) > 255 * p.ruling_own).astype(np.uint8)
    if not found.any():
        return np.zeros_like(ink)
    bridge = np.ones((3, max(3, int(p.ruling_bridge * piece / 2)) | 1), np.uint8)
    _, which, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(found, bridge))
    length = stats[:, cv2.CC_STAT_WIDTH]
    area = np.bincount(which[found > 0], minlength=len(stats))
    y, x = np.nonzero(found)
    columns = np.unique(which[y, x] * half.shape[1] + x) // half.shape[1]
    columns = np.bincount(columns, minlength=len(stats))
    thickness = area / np.maximum(columns, 1)
    long = (2 * length > p.ruling * w) | (
        (2 * length > p.ruled_part * w) & (length > p.slender * thickness)
    )
    keep = long & (2 * thickness < p.ruling_thick * piece) & (columns > p.ruling_covered * length)
    keep[0] = False
    kept = np.zeros_like(found)
    for i in np.flatnonzero(keep):
        left, top, wide, high = stats[i, :4]
        part = np.s_[top : top + high, left : left + wide]
        line = (which[part] == i) & (found[part] > 0) & (half[part] > 0)
        kept[part] |= on_course(line, float(np.median(line.sum(0))), p)
    return np.asarray(cv2.resize(kept, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)


def on_course(line: NDArray[np.bool_], thickness: float, p: Parameters) -> Image:
    """A line without what joins it on one side: the stem of a digit that lies along it.

    Its course is a polynomial, fitted again without what is far from it. `thickness` is the line's
    where no stroke joins.
    """
    y, x = np.nonzero(line)
    at = 2 * np.arange(line.shape[1]) / max(line.shape[1] - 1, 1) - 1
    near = np.ones(len(y), bool)
    course = np.zeros(line.shape[1])
    for reach in p.ruling_reaches:
        bends = np.polynomial.polynomial.polyfit(at[x[near]], y[near], p.ruling_bends)
        course = np.polynomial.polynomial.polyval(at, bends)
        near = np.abs(y - course[x]) <= reach * thickness + 1
        if near.mean() < p.ruling_followed:  # it bends too much
            return line.astype(np.uint8)
    out = np.zeros(line.shape, np.uint8)
    out[y[near], x[near]] = 1
    return out


def sheared(mask: Image, shift: float) -> Image:
    """Each column moved down by `shift` times its distance from the middle."""
    import cv2

    h, w = mask.shape
    move = np.array([[1, 0, 0], [shift, 1, -shift * w / 2]])
    return np.asarray(cv2.warpAffine(mask, move, (w, h), flags=cv2.INTER_NEAREST), np.uint8)


def beside(lines: Image) -> Image:
    """Lines and the row above and below them, which their edges may reach into."""
    import cv2

    return np.asarray(cv2.dilate(np.ascontiguousarray(lines), np.ones((3, 1), np.uint8)))


def pen_darkness(strokes: Image, darkness: Grey, p: Parameters) -> float:
    """How dark the strokes are that no line touches; 0 if there are none."""
    values = darkness[strokes > 0]
    return float(np.median(values)) if len(values) >= p.fewest else 0.0


def line_pixels(ink: Image, lines: Image, darkness: Grey, pen: float, p: Parameters) -> Image:
    """The ink that belongs to the lines, without the strokes over it.

    A line that is lighter than the pen ends where it becomes as dark. Of a line as dark as the pen
    the run of ink through it is measured in each column: about as long as the line is thick, it is
    the line's; longer, a stroke crosses here.
    """
    import cv2

    near = beside(lines) & ink
    if not near.any():
        return np.zeros_like(ink)
    above, below = run_lengths(ink), run_lengths(ink[::-1])[::-1]
    run = (above + below - 1) * (ink > 0)  # of the column's ink through each pixel
    runs = run[near > 0]
    thick = weighted_median(runs, 1 / runs)  # of the runs, not of their pixels
    own = (run <= max(p.ruling_crossing * thick, thick + 1)) & (near > 0)
    level = float(np.percentile(darkness[own], p.ruling_full)) if own.any() else 1.0
    if level < p.ruling_lighter * pen:
        stroke = ink & (darkness >= level + p.ruling_darker * (pen - level))
        return near & (1 - cv2.dilate(stroke, np.ones((3, 3), np.uint8)))  # its edges are soft
    rest = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)) & ink
    return np.asarray((own | ((rest > 0) & (run <= thick + 1))).astype(np.uint8))


def rungs(ink: Image, lines: Image, p: Parameters) -> Image:
    """Short lines between long ones, as between the boxes of a form: straight and all alike.

    A 1 may reach from line to line too, but hardly several at one slant.
    """
    import cv2

    ink = np.ascontiguousarray(ink)
    if not lines.any():
        return np.zeros_like(ink)
    _, which, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    near = cv2.dilate(np.ascontiguousarray(lines), np.ones((5, 3), np.uint8))
    found, slopes = [], []
    for i in np.flatnonzero(
        (stats[:, 3] >= p.ruling_least * max(ink.shape))
        & (stats[:, 3] > p.rung_upright * stats[:, 2])
    ):
        x, y, w, h, area = stats[i]
        part = np.s_[y : y + h, x : x + w]
        own, ends = which[part] == i, near[part] > 0
        if not (ends & own)[:2].any() or not (ends & own)[-2:].any():
            continue
        rows, columns = np.nonzero(own)
        slope, start = np.polyfit(rows, columns, 1)
        if float(np.abs(columns - slope * rows - start).max()) <= area / h:  # straight
            found.append(int(i))
            slopes.append(float(slope))
    alike = np.abs(np.array(slopes) - np.median(slopes or [0.0])) < p.rung_alike
    out = np.zeros(len(stats), np.uint8)
    out[np.array(found, int)[alike]] = alike.sum() >= p.least_rungs
    return out[which]


def frames(ink: Image, p: Parameters) -> Image:
    """Components around a rectangle in which something stands: the boxes of forms."""
    import cv2

    contours, tree = cv2.findContours(ink, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    out = np.zeros_like(ink)
    if tree is None:
        return out
    around, depth = set(), [0] * len(contours)  # odd ones are holes
    for i, (_, _, _, parent) in enumerate(tree[0]):
        depth[i] = depth[parent] + 1 if parent >= 0 else 0
        if depth[i] < 2 or depth[i] % 2:
            continue
        hole = contours[parent]
        tall, room = cv2.boundingRect(contours[i])[3], cv2.boundingRect(hole)[3]
        rectangle = float(np.prod(cv2.minAreaRect(hole)[1]))
        if tall > p.frame_filled * room and cv2.contourArea(hole) > p.frame_corners * rectangle:
            around.add(tuple(hole[0, 0]))
    if around:
        _, which = cv2.connectedComponents(ink, connectivity=8)
        out = np.isin(which, [which[y, x] for x, y in around]).astype(np.uint8)
    return out


def run_lengths(ink: Image) -> NDArray[np.int32]:
    """How many pixels of ink lie above each, itself included."""
    h = len(ink)
    row = np.arange(1, h + 1, dtype=np.int32)[:, None]
    last_paper = np.maximum.accumulate(np.where(ink > 0, 0, row), axis=0)
    return row - last_paper
