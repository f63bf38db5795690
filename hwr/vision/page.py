"""A sheet of paper on a desk: found, and seen from straight above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwr.vision.normalise import disc, odd
from hwr.vision.parameters import Parameters

LEAST_SIDE = 8  # pixels of any image that is worked on, however thin the photograph

Image = NDArray[np.uint8]
Homography = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """A photograph as the reader works on it.

    `image` uint8 (H, W, 3), BGR; `mask` uint8 (H, W), 1 on the page; `to_view` (3, 3) takes points
    (x, y, 1) of the original to those of `image`. `is_sheet` if it is a sheet on a desk; `is_whole`
    if all four corners of it were seen, or it is no sheet but all of the photograph.
    """

    image: Image
    mask: Image
    to_view: Homography
    is_sheet: bool
    is_whole: bool = True


def view_page(photo: Image, p: Parameters, longest: int) -> View:
    """The sheet in a photograph rectified and scaled; the whole photograph if there is none."""
    photo = without_halftone(photo, p)
    outline = find_sheet(photo, p) if p.page else None
    if outline is None:
        return scaled(photo, None, longest, p)
    corners = four_corners(outline, photo.shape, p)
    return scaled(photo, outline, longest, p) if corners is None else rectified(
        photo, corners, longest, p
    )  # fmt: skip


def without_halftone(photo: Image, p: Parameters) -> Image:
    """A picture of black and white dots, as of a 1-bit scan, in greys again; any other as it is."""
    import cv2

    def is_two_toned(part: Image) -> bool:
        return bool(((part == part.min()) | (part == part.max())).all())

    if not is_two_toned(photo[::16]) or not is_two_toned(photo):
        return photo
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    tone = photo[..., 0]
    single = (cv2.erode(tone, cross) > tone) | (cv2.dilate(tone, cross) < tone)
    if single.mean() < p.dots:
        return photo
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), p.dot), np.uint8)


def find_sheet(photo: Image, p: Parameters) -> NDArray[np.int32] | None:
    """The outline (N, 2) of a bright sheet on something darker, or None.

    Regions above several brightnesses are judged: a sheet is solid, fills its rectangle, is
    brighter than what surrounds it, and ends in a sharp step along most of its outline.
    """
    import cv2

    scale = p.page_thumbnail / max(photo.shape[:2])
    size = [max(LEAST_SIDE, round(scale * side)) for side in photo.shape[1::-1]]
    bright = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).max(2)
    no_ink = disc(odd(p.page_closing * p.page_thumbnail))
    bright = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, no_ink)
    bright = cv2.GaussianBlur(bright, (0, 0), 1)
    edges = cv2.dilate(cv2.Canny(bright, *p.page_edges), np.ones((2, 2), np.uint8))
    best, outline = 0.0, None
    darkest, brightest = np.percentile(bright, [2, 98])
    levels = np.linspace(darkest, brightest, p.page_levels + 2)[1:-1]
    for level in np.unique(levels.astype(int)):
        above = (bright > level).astype(np.uint8)
        parted = above * (edges == 0).astype(np.uint8)  # from what is as bright; also by shadows
        for contour in largest_contours(above, 2, p) + largest_contours(parted, 3, p):
            score = sheet_score(bright, contour, p)
            if score > best:
                best, outline = score, contour
    return None if outline is None else np.rint(outline / scale).astype(np.int32)


def largest_contours(region: Image, count: int, p: Parameters) -> list[NDArray[np.int32]]:
    """Outlines (N, 2) of the largest components of a mask."""
    import cv2

    region = cv2.morphologyEx(region, cv2.MORPH_OPEN, disc(odd(p.page_opening * p.page_thumbnail)))
    number, which, stats, _ = cv2.connectedComponentsWithStats(region)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:count] + 1
    contours = []
    for i in order if number > 1 else []:
        part = cv2.dilate((which == i).astype(np.uint8), disc(3))
        found, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contours.append(max(found, key=cv2.contourArea)[:, 0])
    return contours


def sheet_score(bright: Image, contour: NDArray[np.int32], p: Parameters) -> float:
    """How much a region looks like a sheet of paper; 0 if it is none."""
    import cv2

    h, w = bright.shape
    area, hull = cv2.contourArea(contour), cv2.contourArea(cv2.convexHull(contour))
    if not p.page_smallest * h * w < area < p.page_largest * h * w or area < p.page_solid * hull:
        return 0.0
    region = np.zeros((h, w), np.uint8)
    cv2.drawContours(region, [contour], -1, 1, -1)
    border = odd(p.page_border * p.page_thumbnail)
    reach = disc(odd(p.page_rim * p.page_thumbnail))
    inner = np.zeros((h, w), bool)
    inner[border:-border, border:-border] = True
    rim = (region > 0) & (cv2.erode(region, reach) == 0) & inner
    around = (region == 0) & (cv2.dilate(region, reach) > 0) & inner
    on = contour[inner[contour[:, 1], contour[:, 0]]]
    least = p.page_outline * (h + w)
    if rim.sum() < 0.8 * (len(reach) // 2) * least or around.sum() < p.fewest or len(on) < least:
        return 0.0
    paper = max(float(np.median(bright[rim])), 1.0)
    contrast = (paper - float(np.median(bright[around]))) / paper
    if contrast < p.page_contrast:
        return 0.0
    light = cv2.dilate(bright, reach).astype(float)[on[:, 1], on[:, 0]]
    dark = cv2.erode(bright, reach).astype(float)[on[:, 1], on[:, 0]]
    sharp = float((light - dark > p.page_step * light).mean())  # in a shadow all is darker
    rectangular = area / max(1.0, float(np.prod(cv2.minAreaRect(contour)[1])))
    seen = min(1.0, len(on) / (p.page_whole * (h + w)))
    large = (area / (h * w)) ** p.page_larger  # a shadow's edge parts a sheet: the whole sheet wins
    return sharp * (area / hull) ** 3 * rectangular * large * float(np.sqrt(contrast * seen))


def four_corners(
    outline: NDArray[np.int32], shape: tuple[int, ...], p: Parameters
) -> NDArray[np.float32] | None:
    """Top left, top right, bottom right and bottom left of a sheet, or None.

    None if four corners do not describe it, or if it goes on outside the photograph: then nobody
    knows where its corners are.
    """
    import cv2

    h, w = shape[:2]
    near = p.page_outside * max(h, w)
    x, y = outline[:, 0], outline[:, 1]
    outside = (x < near) | (y < near) | (x > w - near) | (y > h - near)
    if outside.mean() > p.page_outside:
        return None
    hull = cv2.convexHull(outline)
    around = cv2.arcLength(hull, True)
    for share in np.arange(0.01, 0.1, 0.005):
        corners = cv2.approxPolyDP(hull, share * around, True)[:, 0].astype(np.float32)
        if len(corners) <= 4:
            break
    missed = abs(cv2.contourArea(corners) / cv2.contourArea(hull) - 1)
    if len(corners) != 4 or missed > p.page_corners:
        return None
    total, difference = corners.sum(1), corners[:, 1] - corners[:, 0]
    order = np.array([each() for each in (total.argmin, difference.argmin, total.argmax,
                                          difference.argmax)])  # fmt: skip
    if len(np.unique(order)) < 4:  # stands on a corner
        middle = corners - corners.mean(0)
        order = np.argsort(np.arctan2(middle[:, 1], middle[:, 0]))
    return np.asarray(corners[order], np.float32)


def rectified(photo: Image, corners: NDArray[np.float32], longest: int, p: Parameters) -> View:
    """The quadrilateral between four corners as a rectangle."""
    import cv2

    corners = corners + p.page_inside * (corners.mean(0) - corners)
    sides = np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1)
    wide, high = max(sides[0], sides[2]), max(sides[1], sides[3])
    scale = min(longest / max(wide, high), p.enlarge)
    first = min(scale, 1.0)  # by area, or thin strokes are lost between the samples
    small = photo if first == 1 else cv2.resize(
        photo, None, fx=first, fy=first, interpolation=cv2.INTER_AREA
    )  # fmt: skip
    w, h = max(LEAST_SIDE, round(wide * scale)), max(LEAST_SIDE, round(high * scale))
    target = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    to_view = cv2.getPerspectiveTransform(corners, target)
    back = to_view @ np.diag([1 / first, 1 / first, 1.0])
    image = cv2.warpPerspective(small, back, (w, h), flags=cv2.INTER_CUBIC)
    return View(np.asarray(image, np.uint8), np.ones((h, w), np.uint8), to_view, True)


def scaled(photo: Image, outline: NDArray[np.int32] | None, longest: int, p: Parameters) -> View:
    """The photograph, or the part of it within the outline of a sheet, at its working size."""
    import cv2

    left, top, (bottom, right) = 0, 0, photo.shape[:2]
    mask = np.ones((bottom, right), np.uint8)
    if outline is not None:
        mask[:] = 0
        cv2.drawContours(mask, [outline], -1, 1, -1)
        edge = max(1, round(2 * p.page_inside * max(photo.shape[:2])))
        mask = cv2.erode(mask, disc(2 * edge + 1), borderValue=1)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows) and len(columns):
            top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    part, mask = photo[top:bottom, left:right], mask[top:bottom, left:right]
    h, w = part.shape[:2]
    scale = min(longest / ((1 + 2 * p.frame) * max(h, w)), p.enlarge)
    size = max(LEAST_SIDE, round(scale * w)), max(LEAST_SIDE, round(scale * h))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(part, size, interpolation=how), np.uint8)
    mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    if outline is not None and mask.any():  # the desk must not disturb the background's estimate
        image[mask == 0] = np.median(image[mask > 0], 0)
    x, y = size[0] / w, size[1] / h
    around = round(p.frame * max(size))
    if around:
        image, mask = framed(image, mask, around, p)
    to_view = np.array([[x, 0, around - x * left], [0, y, around - y * top], [0, 0, 1]], float)
    return View(image, mask, to_view, outline is not None, outline is None)


def framed(image: Image, mask: Image, around: int, p: Parameters) -> tuple[Image, Image]:
    """A picture in the middle of more of its paper, which is not part of the page."""
    import cv2

    sides = 4 * (around,)
    paper = cv2.medianBlur(image, odd(p.frame_smooth * min(image.shape[:2])))
    paper = cv2.copyMakeBorder(paper, *sides, cv2.BORDER_REPLICATE)
    paper[around:-around, around:-around] = image
    mask = cv2.copyMakeBorder(mask, *sides, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(paper, np.uint8), np.asarray(mask, np.uint8)
