"""Contact sheets: pictures of a dataset beside one another, each over its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.data.images import to_height
from hwr.data.picture import GAP, GREY
from hwr.data.strings import Strings

Image = NDArray[np.uint8]

SIDE = 64  # pixels: of a character, about
LINE = 48  # height of a string
LABEL = 16  # height of the line of text below a picture
WIDTH = 1000  # of a sheet of strings
COLUMNS = 12  # of a sheet of characters
LONGEST = 60  # characters of a label


def choose(data: Dataset | Strings, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of up to `count` pictures at random: of characters, of each class in turn."""
    order = np.random.default_rng(seed).permutation(len(data))
    if isinstance(data, Strings):
        return np.sort(order[:count])
    by_class = order[np.argsort(data.labels[order], kind="stable")]
    labels = data.labels[by_class]
    starts = np.searchsorted(labels, labels)
    rank = np.arange(len(labels)) - starts  # 0 for the first of each class, ...
    chosen = by_class[np.lexsort((labels, rank))[:count]]
    return chosen[np.argsort(data.labels[chosen], kind="stable")]


def label_of(data: Dataset | Strings, i: int) -> str:
    """What is written below a picture; a class in letters that the font lacks by its number."""
    if isinstance(data, Strings):
        text = data.texts[i] or f"writer {data.groups['writer'][i]}"
    else:
        text = data.classes[data.labels[i]]
        text = text if text.isascii() else f"class {data.labels[i]}"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def contact_sheet(data: Dataset | Strings, indices: Sequence[int] | NDArray[np.int64]) -> Image:
    """The pictures at `indices` with labels, as uint8 (H, W, 1)."""
    if isinstance(data, Dataset):
        zoom = max(1, round(SIDE / data.images.shape[1]))
        shown = [data.images[i, ..., 0].repeat(zoom, 0).repeat(zoom, 1) for i in indices]
        across = COLUMNS * (shown[0].shape[1] + GAP) + GAP
    else:
        shown = [to_height(data.images[i], LINE) for i in indices]
        across = max(WIDTH, *(image.shape[1] + 2 * GAP for image in shown))
    cells = [labelled(image, label_of(data, int(i))) for image, i in zip(shown, indices)]
    rows: list[list[Image]] = [[]]
    for cell in cells:
        if sum(each.shape[1] + GAP for each in [*rows[-1], cell]) + GAP > across and rows[-1]:
            rows.append([])
        rows[-1].append(cell)
    return np.vstack([row_of(row, across) for row in rows])[..., np.newaxis]


def row_of(cells: Sequence[Image], across: int) -> Image:
    """Cells beside one another, grey around them."""
    height = max(cell.shape[0] for cell in cells) + GAP
    row = np.full((height, across), GREY, np.uint8)
    left = GAP
    for cell in cells:
        row[GAP : GAP + cell.shape[0], left : left + cell.shape[1]] = cell
        left += cell.shape[1] + GAP
    return row


def labelled(image: Image, label: str) -> Image:
    """A picture over its label, white on grey; as wide as the wider of them."""
    import cv2

    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (across, _), _ = cv2.getTextSize(label, font, scale, 1)
    h, w = image.shape
    cell = np.full((h + LABEL, max(w, across + 2)), GREY, np.uint8)
    cell[:h, :w] = image
    cv2.putText(cell, label, (1, h + LABEL - 5), font, scale, 255, 1, cv2.LINE_AA)
    return cell
