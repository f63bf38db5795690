"""Batches made on a GPU, where the dataset lies as uint8: nothing of an image crosses the bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwr.data.augment import Augment
from hwr.data.loader import Loader
from hwr.data.warp import displacement
from hwr.errors import UserError

if TYPE_CHECKING:
    from tinynn.backend import Backend


class Draw(NamedTuple):
    """A batch before its images are fetched: which, and how each is warped."""

    chosen: NDArray[np.int64]
    maps: NDArray[np.float32] | None
    moved: NDArray[np.floating] | None


class DeviceLoader(Loader):
    """A Loader whose images are arrays of `backend`, and labels NumPy's.

    The host draws what `Loader` draws, a few batches ahead; the device gathers, warps and
    normalises. So the batches are `Loader`'s, where they are warped up to one grey level.

    Raises UserError besides for what only the host can do: synthesis, other warps than `Augment`;
    and for images that the device has no room for.
    """

    def __init__(self, *args: Any, backend: Backend, **options: Any) -> None:
        super().__init__(*args, **options)
        if not self.fits(self.augment, self.synthesis):
            raise UserError("DeviceLoader: batches are gathered and warped; Loader does the rest")
        self.backend = backend
        images = self.normalize.pad(self.dataset.images)
        try:
            self.images = backend.asarray(images)
        except MemoryError as error:
            raise UserError(
                f"the {len(images):,} images to train on, {images.nbytes:,} bytes, do not fit on "
                f"the GPU ({error}); take fewer of them by --train-size"
            ) from None
        self.levels = backend.asarray(self.normalize.levels)

    @staticmethod
    def fits(augment: object, synthesis: object) -> bool:
        """Whether a GPU can make such batches."""
        return synthesis is None and (augment is None or isinstance(augment, Augment))

    def epoch(self, k: int, start_batch: int = 0) -> Iterator[Any]:
        """As `Loader.epoch`, the images on the device."""
        drawn: Iterator[Any] = super().epoch(k, start_batch)
        return ((self._gather(draw), labels) for draw, labels in drawn)

    def _batch(self, k: int, order: NDArray[np.int64], number: int) -> Any:
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        maps = moved = None
        if isinstance(self.augment, Augment):
            rng = np.random.default_rng([self.seed, k, number + 1])  # as Loader's
            maps, field = self.augment.draw((len(chosen), *self.images.shape[1:]), rng)
            moved = None if field is None else displacement(field)
        return Draw(chosen, maps, moved), self.dataset.labels[chosen]

    def _gather(self, draw: Draw) -> Any:
        try:
            given = [a if a is None else self.backend.asarray(a) for a in draw]
            return self.backend.gather_images(self.images, *given, self.levels)
        except MemoryError as error:
            shape = len(draw.chosen), *self.images.shape[1:]
            raise MemoryError(f"the batch's images, {shape}: {error}") from error
