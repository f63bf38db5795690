"""Batches: the same from the same seeds, whole epochs, and no thread left behind."""

import threading
import traceback
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwr.data import Dataset, Loader, Normalize
from hwr.data.loader import Batch
from hwr.errors import UserError

PLAIN = Normalize(0.0, 1.0)


def loader(dataset: Dataset, batch_size: int = 4, **options: Any) -> Loader:
    return Loader(dataset, batch_size, **{"seed": 7, "normalize": PLAIN, **options})


def numbers(batches: list[Batch]) -> list[int]:
    """The numbers of the images, which ``tiny`` keeps in their first pixel."""
    return [int(image) for images, _ in batches for image in np.rint(images[:, 0, 0, 0] * 255)]


def jitter(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return images ^ rng.integers(0, 256, images.shape, dtype=np.uint8)


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for (images, labels), (other_images, other_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def assert_no_thread() -> None:
    assert not [each for each in threading.enumerate() if each.name.startswith("hwr-loader")]


@given(mean=st.floats(0, 1), std=st.floats(0.01, 1), size=st.sampled_from([None, 6, 7, 9]))
@settings(deadline=None)
def test_normalize_is_the_formula(mean: float, std: float, size: int | None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    top, left = ((size - 6) // 2, (size - 5) // 2) if size else (0, 0)
    bottom, right = (size - 6 - top, size - 5 - left) if size else (0, 0)
    padded = np.pad(images, [(0, 0), (top, bottom), (left, right), (0, 0)])
    result = Normalize(mean, std, size)(images)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, ((padded / 255 - mean) / std).astype(np.float32))


@pytest.mark.parametrize(("size", "before", "after"), [(29, 0, 1), (32, 2, 2)])
def test_padding_keeps_a_28_pixel_image_in_the_middle(size: int, before: int, after: int) -> None:
    result = Normalize(0.5, 0.5, size)(np.full((1, 28, 28, 1), 255, np.uint8))
    white = result[0, :, :, 0] == 1
    expected = np.pad(np.ones((28, 28), bool), (before, after))
    np.testing.assert_array_equal(white, expected)
    assert (result[0, :, :, 0][~white] == -1).all()


def test_normalize_refuses_nonsense() -> None:
    for mean, std in [(0.1, 0.0), (0.1, -1.0), (float("nan"), 1.0), (0.1, float("inf"))]:
        with pytest.raises(UserError, match="expected finite numbers and std > 0"):
            Normalize(mean, std)
    with pytest.raises(UserError, match="28x28, larger than size 20"):
        Normalize(0, 1, 20)(np.zeros((1, 28, 28, 1), np.uint8))
    with pytest.raises(UserError, match=r"images are float64 \(1, 28, 28, 1\)"):
        PLAIN(np.zeros((1, 28, 28, 1)))  # type: ignore[arg-type]


@given(
    batch_size=st.integers(1, 23),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
)
@settings(deadline=None)
def test_an_epoch_is_every_image_once(
    tiny: Dataset, batch_size: int, shuffle: bool, drop_last: bool, prefetch: int
) -> None:
    chosen = loader(tiny, batch_size, shuffle=shuffle, drop_last=drop_last, prefetch=prefetch)
    batches = list(chosen.epoch(3))
    assert len(batches) == len(chosen)
    order = np.random.default_rng([7, 3]).permutation(23) if shuffle else np.arange(23)
    kept = 23 - 23 % batch_size if drop_last else 23
    assert numbers(batches) == order[:kept].tolist()
    for images, labels in batches:
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert images.shape == (len(labels), 6, 5, 1)
        assert labels.dtype == np.int64
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, tiny.labels[order[:kept]])
    assert_no_thread()


@pytest.mark.parametrize("prefetch", [0, 1, 2, 100])
def test_the_thread_changes_nothing(tiny: Dataset, prefetch: int) -> None:
    plain = loader(tiny, shuffle=True, augment=jitter, prefetch=0)
    ahead = loader(tiny, shuffle=True, augment=jitter, prefetch=prefetch)
    assert_same(list(plain.epoch(1)), list(ahead.epoch(1)))
    both = list(zip(ahead.epoch(1), ahead.epoch(2), strict=True))  # two epochs at once
    assert_same([first for first, _ in both], list(plain.epoch(1)))
    assert_same([second for _, second in both], list(plain.epoch(2)))
    assert_no_thread()


def test_an_epoch_resumes_at_any_batch(tiny: Dataset) -> None:
    whole = list(loader(tiny, shuffle=True, augment=jitter).epoch(5))
    for start in range(len(whole) + 1):
        rest = loader(tiny, shuffle=True, augment=jitter).epoch(5, start_batch=start)
        assert_same(list(rest), whole[start:])


def test_epochs_seeds_and_batches_draw_their_own_numbers(tiny: Dataset) -> None:
    orders = {
        tuple(numbers(list(loader(tiny, seed=seed, shuffle=True).epoch(k))))
        for seed in (0, 1)
        for k in (0, 1, 2)
    }
    assert len(orders) == 6
    draws: list[int] = []

    def record(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        draws.append(int(rng.integers(2**62)))
        return images

    for seed in (0, 1):
        for k in (0, 1):
            draws.append(int(np.random.default_rng([seed, k]).integers(2**62)))  # the order's
            list(loader(tiny, seed=seed, augment=record).epoch(k))
    assert len(set(draws)) == len(draws) == 4 * (1 + 6)


def test_what_a_warp_moves_stays_within_the_border(tiny: Dataset) -> None:
    """Images are padded first: moved by the border's width, they lose nothing."""

    def move(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        return np.roll(images, (2, -2), axis=(1, 2))

    side = max(tiny.images.shape[1:3])
    padding = Normalize(0.0, 1.0, side + 4)
    [still], [moved] = (
        [
            images
            for images, _ in loader(tiny, len(tiny), normalize=padding, augment=augment).epoch(0)
        ]
        for augment in (None, move)
    )
    assert still.any()
    np.testing.assert_array_equal(moved, np.roll(still, (2, -2), axis=(1, 2)))
    np.testing.assert_array_equal(moved[:, 4:, :side], still[:, 2 : side + 2, 2 : side + 2])


def test_augment_gets_a_copy_and_may_change_the_size(tiny: Dataset) -> None:
    before = tiny.images.copy()

    def crop_in_place(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        images[:] = 255
        return images[:, 1:-1, 1:-1]

    for images, _ in loader(tiny, augment=crop_in_place).epoch(0):
        assert images.shape[1:] == (4, 3, 1)
        assert images.flags.c_contiguous
        assert (images == 1).all()
    np.testing.assert_array_equal(tiny.images, before)


@pytest.mark.parametrize("prefetch", [0, 1, 2])
def test_an_error_in_augment_is_raised_at_its_batch(tiny: Dataset, prefetch: int) -> None:
    def fail_on_13(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        if 13 in images[:, 0, 0, 0]:
            raise ZeroDivisionError("thirteen")
        return images

    seen: list[Batch] = []
    with pytest.raises(ZeroDivisionError, match="thirteen") as caught:
        seen.extend(loader(tiny, augment=fail_on_13, prefetch=prefetch).epoch(0))
    assert numbers(seen) == list(range(12))
    assert "fail_on_13" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert_no_thread()


def test_an_augment_that_loses_or_converts_images_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="augment returned 3 images for 4"):
        list(loader(tiny, augment=lambda images, rng: images[1:]).epoch(0))
    with pytest.raises(UserError, match="images are float64"):
        list(loader(tiny, augment=lambda images, rng: images / 2).epoch(0))


@pytest.mark.parametrize("prefetch", [1, 2, 100])
def test_leaving_the_loop_ends_the_thread(tiny: Dataset, prefetch: int) -> None:
    def first_two() -> None:
        for number, _ in enumerate(loader(tiny, 1, prefetch=prefetch).epoch(0)):
            if number == 1:
                break

    first_two()
    assert_no_thread()

    def interrupted() -> None:
        for _ in loader(tiny, 1, prefetch=prefetch).epoch(0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    del caught  # its traceback held the loop
    assert_no_thread()
    loader(tiny, prefetch=prefetch).epoch(0)  # never begun
    assert_no_thread()


def test_no_more_than_prefetch_batches_are_made_ahead(tiny: Dataset) -> None:
    made: list[int] = []

    def count(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        made.append(len(images))
        return images

    for taken, _ in enumerate(loader(tiny, 1, augment=count, prefetch=3).epoch(0), start=1):
        assert len(made) <= taken + 3
    assert len(made) == 23


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected 1 or more"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"seed": -1}, "seed is -1"),
        ({"prefetch": -1}, "prefetch is -1"),
        ({"batch_size": 24, "drop_last": True}, "no batch of 24 comes from the 23 images of tiny"),
    ],
)
def test_wrong_options_are_refused(tiny: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loader(tiny, **options)


def test_an_empty_dataset_and_a_wrong_start_are_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="the 0 images of tiny train"):
        loader(tiny.subset([]))
    chosen = loader(tiny)
    for start in (-1, 7):
        with pytest.raises(UserError, match=f"start_batch is {start}, expected 0 to 6"):
            chosen.epoch(0, start_batch=start)
    with pytest.raises(UserError, match="epoch is -1"):
        chosen.epoch(-1)
