"""The picture of strings that a run misreads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.data import Loader
from hwr.report.figures import show_image
from hwr.report.style import FLOOR, THEIRS, draw_png
from hwr.strings import text
from hwr.tasks import StringEvaluation

MOST, COLUMNS = 24, 3
Entry = tuple[NDArray[np.uint8], str, str]  # image, label, reading


def picture(loader: Loader, result: StringEvaluation, classes: Sequence[str]) -> bytes:
    """A PNG of up to `MOST` of the misread strings, of which there are some, spread evenly."""
    wrong = np.flatnonzero(result.distances)
    chosen = set(wrong[np.linspace(0, len(wrong) - 1, min(MOST, len(wrong))).astype(int)].tolist())
    entries: list[Entry] = []
    at = 0
    normalize = loader.normalize
    for images, _ in loader.epoch(0):
        for i in sorted(chosen & set(range(at, at + len(images)))):
            grey = 255 * (images[i - at] * normalize.std + normalize.mean)
            truth, read = (text(of[i], classes) for of in (result.truths, result.readings))
            entries.append((np.rint(grey).astype(np.uint8), truth, read))
        at += len(images)
    return draw_png(draw, entries)


def draw(figure: Any, entries: Sequence[Entry]) -> None:
    """Each image over its label and, in another colour, what it was read as."""
    columns = min(COLUMNS, len(entries))
    rows = -(-len(entries) // columns)
    h, w, _ = entries[0][0].shape
    figure.set_size_inches(3 * columns, (3 * h / w + 0.3) * rows)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells[len(entries) :]:
        axes.set_visible(False)
    for axes, (image, truth, read) in zip(cells, entries):
        show_image(axes, image)
        axes.set_title(truth, fontsize=9, pad=3, loc="left", color=FLOOR)
        title = f"read as {read}" if read else "read as nothing"
        axes.set_title(title, fontsize=9, pad=3, loc="right", color=THEIRS)
