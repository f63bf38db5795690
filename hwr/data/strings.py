"""Images that show a line of writing: what CTC and writer identification are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import as_positions, check_groups
from hwr.errors import DataError

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Strings:
    """Images of varying height and width, each with the text it shows.

    `images` uint8 (H, W), ink bright on dark; `texts` of symbols in `alphabet`; `groups` says by
    kind ("writer", "form") what each image belongs to, for splits that keep a group together;
    `boxes`, where known, has x, y, w, h of each symbol in pixels, int64 (L, 4) an image;
    `selection` the positions of these images in the split as loaded, None for all of it.

    Raises DataError if these contradict one another.
    """

    name: str
    split: str
    images: tuple[Image, ...]
    texts: tuple[str, ...]
    alphabet: tuple[str, ...]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    boxes: tuple[NDArray[np.int64], ...] | None = None
    note: str = ""
    selection: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        where, count = f"{self.name} {self.split}", len(self.images)
        if len(self.texts) != count:
            raise DataError(f"{where}: {len(self.texts)} texts, expected {count}, one an image")
        for i, image in enumerate(self.images):
            if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
                raise DataError(
                    f"{where}: image {i} is {image.dtype} {image.shape}, expected uint8 (H, W)"
                )
        known = set(self.alphabet)
        for i, text in enumerate(self.texts):
            if strange := sorted(set(text) - known):
                raise DataError(
                    f"{where}: text {i} is {text!r}, but {strange[0]!r} is none of the "
                    f"{len(known)} symbols {''.join(self.alphabet)}"
                )
        if self.boxes is not None:
            if len(self.boxes) != count:
                raise DataError(f"{where}: boxes of {len(self.boxes)} images, expected {count}")
            for i, (boxes, text) in enumerate(zip(self.boxes, self.texts)):
                if boxes.shape != (len(text), 4):
                    raise DataError(
                        f"{where}: boxes {i} are {boxes.shape}, expected {(len(text), 4)} "
                        f"for {text!r}"
                    )
        check_groups(where, self.groups, count)
        if self.selection is not None and len(self.selection) != count:
            raise DataError(f"{where}: {len(self.selection)} selected, but {count} images")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Strings({self.name!r}, {self.split!r}, {len(self)} images)"

    @property
    def indices(self) -> NDArray[np.int64]:
        """int64 (N,): where these images stand in the split as loaded."""
        return np.arange(len(self), dtype=np.int64) if self.selection is None else self.selection

    @cached_property
    def labels(self) -> tuple[NDArray[np.int64], ...]:
        """Each text as positions in the alphabet, counted from 1: 0 is left to CTC's blank."""
        number = {symbol: i + 1 for i, symbol in enumerate(self.alphabet)}
        return tuple(np.array([number[s] for s in text], np.int64) for text in self.texts)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> Strings:
        """The images at `indices`, in that order. DataError for positions outside 0 .. N-1."""
        chosen = as_positions(indices, len(self), f"{self.name} {self.split}")
        return replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            texts=tuple(self.texts[i] for i in chosen),
            groups={kind: of[chosen] for kind, of in self.groups.items()},
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in chosen),
            selection=self.indices[chosen],
        )
