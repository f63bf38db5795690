"""Connected components of ink, and which of them may be parts of digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwr.vision.ink import Grey, Image
from hwr.vision.parameters import Parameters

Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True, eq=False)
class Component:
    """Connected ink, or a piece cut from it. `mask` bool (h, w) within the box x, y, w, h."""

    x: int
    y: int
    w: int
    h: int
    mask: NDArray[np.bool_]
    stroke: float  # width of its strokes in pixels
    thickest: float
    darkness: float  # mean over its ink
    pen: float  # darkness of full ink, where the pen was pressed
    edge: int = 0  # pixels at the page's edge
    parent: int = field(default=0)  # which component a piece was cut from

    @property
    def box(self) -> Box:
        """x, y, width and height."""
        return self.x, self.y, self.w, self.h

    @property
    def right(self) -> int:
        """The first column beyond it."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.h

    @property
    def middle(self) -> tuple[float, float]:
        """The middle (x, y) of its box."""
        return self.x + self.w / 2, self.y + self.h / 2

    @cached_property
    def length(self) -> float:
        """How long its strokes are: ink over stroke width, in pixels."""
        return max(np.count_nonzero(self.mask) / max(self.stroke, 1.0), 1.0)

    @property
    def size(self) -> int:
        """The longer side of its box."""
        return max(self.w, self.h)


def find_components(
    mask: Image, darkness: Grey, p: Parameters, page: Image | None = None
) -> list[Component]:
    """All 8-connected components of a mask of ink; `page` 1 where the page is."""
    import cv2

    count, which, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    at_edge = np.zeros(count, int)
    if page is not None:
        at_edge = np.bincount(which[page_edge(page) & (mask > 0)], minlength=count)
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3
    )[1:-1, 1:-1]
    least = round((p.least_side * max(mask.shape)) ** 2)
    found = []
    for i in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[i])
        if area < least:
            continue
        part = np.s_[y : y + h, x : x + w]
        own = which[part] == i
        inside, dark = depth[part][own], darkness[part][own]
        found.append(
            Component(
                x, y, w, h, own,
                stroke=max(1.0, 4 * float(inside.mean()) - 2),
                thickest=2 * float(inside.max()),
                darkness=float(dark.mean()),
                pen=max(float(np.partition(dark, at := int(p.pen * len(dark)))[at]), 1e-3),
                edge=int(at_edge[i]),
                parent=i,
            )
        )  # fmt: skip
    return found


def page_edge(page: Image) -> NDArray[np.bool_]:
    """Pixels at the border of the image or of the page."""
    import cv2

    outside = (page == 0).astype(np.uint8)
    outside[:2] = outside[-2:] = outside[:, :2] = outside[:, -2:] = 1
    return np.asarray(cv2.dilate(outside, np.ones((5, 5), np.uint8)) > 0)


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """The value below which half of the weight lies."""
    v, w = np.asarray(values, float), np.asarray(weights, float)
    order = np.argsort(v)
    total = np.cumsum(w[order])
    return float(v[order][np.searchsorted(total, total[-1] / 2)])


def text_height(components: Sequence[Component]) -> float:
    """The height of the page's digits: the median over the ink."""
    return weighted_median([c.h for c in components], [c.length for c in components])


Refused = list[tuple[Component, str]]


def plausible(
    components: Sequence[Component], shape: tuple[int, ...], p: Parameters
) -> tuple[list[Component], Refused]:
    """What may be parts of digits, and the rest, each with the reason.

    Judged against the page's own ink: its stroke width, its height, its darkness.
    """
    refused: Refused = []
    kept: list[Component] = []
    for c in components:
        if is_edge(c, shape, p):
            refused.append((c, "at the page's edge"))
        elif c.h > p.as_high * shape[0] or c.w > p.as_wide * shape[1]:
            refused.append((c, "as large as the page"))
        else:
            kept.append(c)
    if not kept:
        return kept, refused
    weights = [c.length for c in kept]
    stroke = weighted_median([c.stroke for c in kept], weights)
    height = weighted_median([c.size for c in kept], weights)
    dark = weighted_median([c.darkness for c in kept], weights)
    good = []
    for c in kept:
        if (
            c.size < max(p.speck * height, p.speck_strokes * stroke)
            or c.mask.sum() < p.patchy * stroke**2
        ):
            refused.append((c, "speck"))
        elif c.darkness < p.faint * dark:
            refused.append((c, "faint"))
        elif c.thickest > max(p.smudge * stroke, p.blot * c.size):
            refused.append((c, "smudge"))
        else:
            good.append(c)
    if len(good) > p.most_components:
        good.sort(key=lambda c: -c.length)
        refused += [(c, "one of too many marks") for c in good[p.most_components :]]
        good = good[: p.most_components]
    return good, refused


def is_edge(c: Component, shape: tuple[int, ...], p: Parameters) -> bool:
    """Whether a component is the rim of the page, a shadow there, or something beyond it."""
    h, w = shape[:2]
    margin = p.margin * max(h, w)
    long = c.size > p.edge_long * max(h, w)
    if c.edge and (long or c.edge > p.edge_touched * c.size or min(c.w, c.h) < margin):
        return True
    near = (c.x < margin, c.y < margin, c.right > w - margin, c.bottom > h - margin)
    inside = c.right >= margin <= c.bottom and c.x <= w - margin and c.y <= h - margin
    return not inside or (sum(near) >= 2 and c.w * c.h < p.edge_corner * w * h)
