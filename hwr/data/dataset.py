"""What a dataset is, and how a part of one is held out for validation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwr.errors import DataError, UserError
from hwr.strings import PADDING

if TYPE_CHECKING:
    from hwr.data.strings import Strings

T = TypeVar("T", "Dataset", "Strings")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in memory.

    ``images`` uint8 ``(N, H, W, C)``; ``labels`` int64 ``(N,)``, each an index into ``classes``,
    or of strings ``(N, S)`` with ``strings.PADDING`` behind the end of the shorter ones;
    ``selection`` the positions of these images in the split as loaded, ``None`` for all of it;
    ``doubted`` the images, by their position in the split as loaded, whose label people who looked
    did not agree with, and the label that most of them gave instead, ``None`` if none had most.
    ``groups`` says by kind (``"writer"``, ``"sheet"``) what each image belongs to, where it is
    known; ``note`` what a reader of results must know.

    Raises :class:`~hwr.errors.DataError` if the arrays contradict this or one another.
    """

    name: str
    split: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    selection: NDArray[np.int64] | None = None
    doubted: Mapping[int, int | None] = field(default_factory=dict)
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        where, count = f"{self.name} {self.split}", len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"{where}: images are {self.images.dtype} {self.images.shape}, "
                "expected uint8 (N, H, W, C)"
            )
        shape = self.labels.shape
        if self.labels.dtype != np.int64 or shape[:1] != (count,) or len(shape) > 2:
            raise DataError(
                f"{where}: labels are {self.labels.dtype} {self.labels.shape}, "
                f"expected int64 ({count},), one for each image, or ({count}, S) of strings"
            )
        least = PADDING if len(shape) == 2 else 0
        wrong = np.argwhere((self.labels < least) | (self.labels >= len(self.classes)))
        if wrong.size:
            raise DataError(
                f"{where}: label {wrong[0][0]} is {self.labels[wrong[0][0]]}, "
                f"expected 0 to {len(self.classes) - 1} for {len(self.classes)} classes"
            )
        if self.selection is not None and len(self.selection) != count:
            raise DataError(f"{where}: {len(self.selection)} selected, but {count} images")
        check_groups(where, self.groups, count)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:  # the arrays themselves would fill the screen
        return f"Dataset({self.name!r}, {self.split!r}, images {self.images.shape})"

    @property
    def indices(self) -> NDArray[np.int64]:
        """int64 ``(N,)``: where these images stand in the split as loaded."""
        return np.arange(len(self), dtype=np.int64) if self.selection is None else self.selection

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> "Dataset":
        """The images at ``indices``, in that order, copied; repeats are allowed.

        Raises :class:`~hwr.errors.DataError` for positions outside ``0 .. N-1``, negative ones
        included, and for masks.
        """
        chosen = as_positions(indices, len(self), f"{self.name} {self.split}")
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            selection=self.indices[chosen],
            groups={kind: of[chosen] for kind, of in self.groups.items()},
        )


def split_hash(indices: Sequence[int] | NDArray[np.integer]) -> str:
    """SHA-256, in hex, of the indices as little-endian int64: the fingerprint of a split.

    Two runs that report the same hash held out the same images in the same order.
    """
    return hashlib.sha256(_as_indices(indices).astype("<i8").tobytes()).hexdigest()


def holdout(dataset: T, count: int, seed: int, *, stratified: bool = False) -> tuple[T, T]:
    """Split into ``(train, validation)`` with ``count`` random images in the second.

    ``stratified`` gives every class its share of ``count``, rounded up or down. Both parts keep
    the order of ``dataset``, and their ``indices`` tell where the images came from.

    Raises :class:`~hwr.errors.UserError` if either part would be empty or the seed is negative.
    """
    total = len(dataset)
    if not 0 < count < total:
        raise UserError(
            f"holdout: count is {count}, expected 1 to {total - 1} "
            f"of the {total} images of {dataset.name} {dataset.split}"
        )
    if seed < 0:
        raise UserError(f"holdout: seed is {seed}, expected 0 or more")
    # NumPy pads a seed with zeros: [seed] alone would repeat the order of the loader's epoch 0.
    order = np.random.default_rng([seed, 0, 0, 1]).permutation(total)
    if stratified:  # sort by class, random within each, and take evenly spaced ones
        if not isinstance(dataset, Dataset) or dataset.labels.ndim > 1:
            raise UserError(f"holdout: {dataset.name} holds strings, which are of no class")
        order = order[np.argsort(dataset.labels[order], kind="stable")]
        order = order[(np.arange(count) * total + total // 2) // count]
    held_out = np.zeros(total, dtype=bool)
    held_out[order[:count]] = True
    return dataset.subset(np.flatnonzero(~held_out)), dataset.subset(np.flatnonzero(held_out))


def _as_indices(indices: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(
            f"indices are {array.dtype} {array.shape}, expected integers (N,); "
            "for a mask use np.flatnonzero(mask)"
        )
    return array.astype(np.int64)


def as_positions(
    indices: Sequence[int] | NDArray[np.integer], count: int, where: str
) -> NDArray[np.int64]:
    """The indices as int64, each from 0 to count - 1. DataError otherwise, and for masks."""
    chosen = _as_indices(indices)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < count:
        raise DataError(
            f"subset: indices run from {chosen.min()} to {chosen.max()}, "
            f"expected 0 to {count - 1} ({where})"
        )
    return chosen


def check_groups(where: str, groups: Mapping[str, NDArray[np.str_]], count: int) -> None:
    """DataError unless every image has its group of each kind."""
    for kind, of in groups.items():
        if len(of) != count:
            raise DataError(f"{where}: {len(of)} of kind {kind!r}, expected {count}, one an image")
