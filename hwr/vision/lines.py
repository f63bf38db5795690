"""Which digits stand in one line, and in which order: also on slanted and curved pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from hwr.vision.components import Component, text_height, weighted_median
from hwr.vision.parameters import Parameters


@dataclass(frozen=True, eq=False)
class Line:
    """Components from left to right, and the height of the line's digits."""

    members: list[Component]
    height: float


def group_lines(
    components: Sequence[Component], p: Parameters
) -> tuple[list[Line], list[Component]]:
    """Lines, and small marks that belong to none.

    From left to right each component joins the line whose last members it overlaps in height.
    """
    height = text_height(components)
    large = sorted((c for c in components if c.h > p.small * height), key=lambda c: c.middle[0])
    lines: list[list[Component]] = []
    for c in large:
        near = [(line_distance(line, c, p), i) for i, line in enumerate(lines)]
        distance, i = min(near, default=(np.inf, -1))
        if distance < np.inf:
            lines[i].append(c)
        else:
            lines.append([c])
    joined = join_pieces(lines, height, p)
    heights = [clamped_height(line, height) for line in joined]
    lone = []
    for c in components:
        if c.h <= p.small * height:
            home = home_of(c, joined, height, p)
            if home is None:
                lone.append(c)
            else:
                home.append(c)
    return [Line(sorted(m, key=lambda c: c.middle[0]), h) for m, h in zip(joined, heights)], lone


def clamped_height(line: Sequence[Component], height: float) -> float:
    """The median height of a line's digits, within reason of the page's."""
    return float(np.clip(median(c.h for c in line), 0.5 * height, 2 * height))


def line_distance(line: Sequence[Component], c: Component, p: Parameters) -> float:
    """How far a component is from continuing a line, level or along its slant; or infinite."""
    last = line[-p.ahead :]
    top = median(m.y for m in last)
    bottom = median(m.bottom for m in last)
    gap = max(0, c.x - max(m.right for m in last))
    distances = []
    for fall in {0.0, fall_to(last, c, p)}:
        overlap = min(bottom + fall, c.bottom) - max(top + fall, c.y)
        if overlap > p.overlap * max(1.0, min(bottom - top, c.h)):
            distances.append(abs((top + bottom) / 2 + fall - c.middle[1]) + p.gap_cost * gap)
    return min(distances, default=np.inf)


def fall_to(last: Sequence[Component], c: Component, p: Parameters) -> float:
    """How far below the last members' middle a curved or slanted line stands by now, in pixels.

    Only where three members rise or fall together, and no further than the next digit.
    """
    if len(last) < p.ahead:
        return 0.0
    (x0, y0), (x1, y1), (x2, y2) = (m.middle for m in last)
    if (y1 - y0) * (y2 - y1) <= 0 or x2 - x0 < 1:
        return 0.0
    ahead = min(c.middle[0] - x1, x2 - x0 + median(m.h for m in last))
    return (y2 - y0) / (x2 - x0) * ahead


def join_pieces(
    lines: Sequence[list[Component]], height: float, p: Parameters
) -> list[list[Component]]:
    """Lines at one height that do not lie above one another are one, with a wide gap."""
    joined: list[list[Component]] = []
    for line in sorted(lines, key=lambda line: min(c.x for c in line)):
        for other in joined:
            apart = abs(middle_of(other[-p.ahead :]) - middle_of(line[: p.ahead]))
            behind = max(c.right for c in other) - min(c.x for c in line)
            if apart < p.same_line * height and behind < p.same_line * height:
                other.extend(line)
                break
        else:
            joined.append(list(line))
    return joined


def middle_of(members: Sequence[Component]) -> float:
    """The height on the page at which components stand."""
    return median(c.middle[1] for c in members)


def home_of(
    c: Component, lines: Sequence[list[Component]], height: float, p: Parameters
) -> list[Component] | None:
    """The line of a small mark: that of a digit it nearly touches, or one it stands in."""
    touching = [
        (distance, i)
        for i, line in enumerate(lines)
        for m in line
        if (distance := box_distance(c, m)) < p.beside * height
    ]
    if touching:
        return lines[min(touching)[1]]
    if c.h <= p.smallest * height:
        return None
    for line in lines:
        near = min(line, key=lambda m: abs(m.middle[0] - c.middle[0]))
        gap = max(near.x - c.right, c.x - near.right)
        around = sorted(line, key=lambda m: abs(m.middle[0] - c.middle[0]))[: p.ahead]
        top = median(m.y for m in around) - p.above * height
        bottom = median(m.bottom for m in around) + p.below * height
        if gap < p.far * height and top < c.middle[1] < bottom:
            return line
    return None


def box_distance(a: Component, b: Component) -> float:
    """Pixels between two boxes along the longer of the two ways, 0 if they overlap."""
    across = max(a.x - b.right, b.x - a.right, 0)
    down = max(a.y - b.bottom, b.y - a.bottom, 0)
    return float(max(across, down))


def skew_deg(components: Sequence[Component], p: Parameters) -> float:
    """The slant of the lines in degrees; positive falls to the right.

    The median slant between neighbours, then the angle near it at which the page's profile, ink by
    row, is sharpest.
    """
    if not components:
        return 0.0
    height = text_height(components)
    links = neighbour_links([c for c in components if c.h > p.skew_high * height], height, p)
    if len(links) < 2:
        return 0.0
    slants, gaps = np.array(links).T
    first = weighted_median(slants, np.minimum(gaps, 2 * height))
    large = [c for c in components if c.h > p.skew_counted * height]
    return first if len(large) < p.skew_fewest else sharpest_deg(large, first, height, p)


def neighbour_links(
    components: Sequence[Component], height: float, p: Parameters
) -> list[tuple[float, float]]:
    """For each component the slant in degrees, and the gap, to its next one on the right."""
    links = []
    for c in components:
        x, y = c.middle
        found = []
        for other in components:
            right, down = other.middle[0] - x, other.middle[1] - y
            near = other.x - c.right <= p.far * height
            if right > 0.15 * height and near and abs(down) <= 0.95 * right:
                slant = float(np.degrees(np.arctan2(down, right)))
                found.append((right * right + 4 * down * down, slant, right))
        if found:
            links.append(min(found)[1:])
    return links


def sharpest_deg(
    components: Sequence[Component], first: float, height: float, p: Parameters
) -> float:
    """The angle near `first` at which the sum of squares of the ink by row is largest."""
    x = np.array([c.middle[0] for c in components])
    top = np.array([c.y for c in components], float)
    bottom = np.array([c.bottom for c in components], float)
    weight = np.minimum([c.w for c in components], 1.5 * height)
    angles = np.arange(first - p.skew_search_deg, first + p.skew_search_deg + 0.01, p.skew_step_deg)
    return float(max(angles, key=lambda a: sharpness(x, top, bottom, weight, a, p.skew_row * height)
                     * (1 - 4e-4 * abs(a - first))))  # fmt: skip


def sharpness(
    x: NDArray[np.float64],
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    weight: NDArray[np.float64],
    angle_deg: float,
    row: float,
) -> float:
    """Sum of squares of the profile of boxes, seen along a slant."""
    slope, shrink = np.tan(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
    upper, lower = (top - x * slope) * shrink, (bottom - x * slope) * shrink
    first = upper.min()
    steps = np.zeros(int((lower.max() - first) / row) + 3)
    np.add.at(steps, ((upper - first) / row).astype(int), weight)
    np.add.at(steps, ((lower - first) / row).astype(int) + 1, -weight)
    return float((np.cumsum(steps) ** 2).sum())
