"""Batches for training and evaluation: shuffled, augmented, normalised, one thread ahead."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hwr.data.dataset import Dataset
from hwr.data.synthesis import Synthesis
from hwr.errors import UserError

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
Augment = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
T = TypeVar("T")


@dataclass(frozen=True)
class Normalize:
    """``(pixel / 255 - mean) / std``, after padding with black to ``size`` by ``size`` pixels.

    ``mean`` and ``std`` are those of ``pixel / 255``; ``size=None`` pads nothing.

    Raises :class:`~hwr.errors.UserError` if ``std`` is not positive or a number is not finite.
    """

    mean: float
    std: float
    size: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise UserError(
                f"Normalize: mean is {self.mean} and std is {self.std}, expected finite numbers "
                "and std > 0; use those of the training images / 255"
            )

    @cached_property
    def levels(self) -> NDArray[np.float32]:
        """What the 256 values of a pixel become: one table makes images exact to the last bit."""
        return ((np.arange(256) / 255 - self.mean) / self.std).astype(np.float32)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 ``(N, H, W, C)`` -> float32 ``(N, size, size, C)``, C-contiguous.

        Raises :class:`~hwr.errors.UserError` for other arrays and images larger than ``size``.
        """
        return self.levels.take(self.pad(images))

    def pad(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 ``(N, H, W, C)`` -> ``(N, size, size, C)``: the image stays in the middle; an odd
        row or column of padding goes to the bottom or the right.

        Raises :class:`~hwr.errors.UserError` for other arrays and images larger than ``size``.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(
                f"Normalize: images are {images.dtype} {images.shape}, expected uint8 (N, H, W, C)"
            )
        n, h, w, c = images.shape
        if self.size is None or self.size == h == w:
            return images
        if self.size < max(h, w):
            raise UserError(
                f"Normalize: images are {h}x{w}, larger than size {self.size}; "
                f"use size={max(h, w)} or more"
            )
        top, left = (self.size - h) // 2, (self.size - w) // 2
        padded = np.zeros((n, self.size, self.size, c), np.uint8)
        padded[:, top : top + h, left : left + w] = images
        return padded


class Loader:
    """The batches of a dataset, epoch by epoch.

    A batch is a function of ``(seed, epoch, batch number)`` alone. The loader keeps no state, so
    training resumes with ``loader.epoch(k, start_batch=b)`` and gets what it would have had.

    ``synthesis`` makes a string of digits of each image, with the labels of all its digits.

    ``augment(images, rng)`` maps uint8 ``(n, H, W, C)`` to the same, other heights and widths
    allowed. ``prefetch`` batches are made ahead in one thread; 0 makes each when it is asked for,
    in the caller's thread.

    Raises :class:`~hwr.errors.UserError` for a batch size below 1, a negative seed or prefetch,
    and if there would be no batch at all.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int,
        normalize: Normalize,
        shuffle: bool = False,
        drop_last: bool = False,
        synthesis: Synthesis | None = None,
        augment: Augment | None = None,
        prefetch: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("prefetch", prefetch, 0),
        ):
            if value < least:
                raise UserError(f"Loader: {name} is {value}, expected {least} or more")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.normalize = normalize
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.synthesis = synthesis
        self.augment = augment
        self.prefetch = prefetch
        if len(self) == 0:
            raise UserError(
                f"Loader: no batch of {batch_size} comes from the {len(dataset)} images of "
                f"{dataset.name} {dataset.split}; use a smaller batch_size, or drop_last=False"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def epoch(self, k: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``k`` from number ``start_batch`` on.

        Each is ``(images, labels)``: float32 ``(n, H, W, C)``, C-contiguous, and int64 ``(n,)``,
        for strings ``(n, S)``.
        An error in ``augment`` is raised here, where its batch is due. Leaving the loop early
        ends the thread.

        Raises :class:`~hwr.errors.UserError` if ``k`` or ``start_batch`` is out of range.
        """
        if k < 0:
            raise UserError(f"Loader: epoch is {k}, expected 0 or more")
        if not 0 <= start_batch <= len(self):
            raise UserError(
                f"Loader: start_batch is {start_batch}, expected 0 to {len(self)}, the batches of "
                "an epoch; resume with the batch_size and data of the first run"
            )
        n = len(self.dataset)
        rng = np.random.default_rng([self.seed, k])
        make = partial(self._batch, k, rng.permutation(n) if self.shuffle else np.arange(n))
        numbers = range(start_batch, len(self))
        if self.prefetch == 0:
            return (make(number) for number in numbers)
        return _ahead(make, numbers, self.prefetch)

    def first(self) -> Batch:
        """The dataset's first image and its label, as a batch of one, not augmented."""
        images, labels = self._load(0, np.arange(1))
        return self.normalize(images), labels

    def _batch(self, k: int, order: NDArray[np.int64], number: int) -> Batch:
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        images, labels = self._load(k, chosen)
        if self.augment is not None:
            images = self.normalize.pad(images)  # what is warped over the edge is lost
            # number + 1: NumPy pads a seed with zeros, and [seed, k, 0] would repeat the order's.
            images = self.augment(images, np.random.default_rng([self.seed, k, number + 1]))
            if len(images) != len(chosen):
                raise UserError(
                    f"Loader: augment returned {len(images)} images for {len(chosen)}; "
                    "return one for each"
                )
        return self.normalize(images), labels

    def _load(
        self, k: int, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if self.synthesis is not None:
            return self.synthesis(self.dataset, chosen, seed=self.seed, epoch=k)
        return self.dataset.images[chosen], self.dataset.labels[chosen]


def _ahead(make: Callable[[int], T], numbers: range, depth: int) -> Iterator[T]:
    """``map(make, numbers)`` with up to ``depth`` results made ahead in one thread."""
    # The list of waiting results is the bounded queue: nothing is submitted before one is taken.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hwr-loader")
    try:
        todo = iter(numbers)
        waiting = deque(pool.submit(make, number) for number in islice(todo, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(make, number) for number in islice(todo, 1))
            yield result
    finally:  # also when the loop is left early, or by Ctrl-C
        pool.shutdown(cancel_futures=True)
