"""MNIST as shipped and from a user's folder; parts of a dataset."""

import gzip
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import hwr
from hwr.data import Dataset, holdout, split_hash
from hwr.data import mnist as mnist_module
from hwr.errors import DataError, UnknownName, UserError

Folder = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], dtype=np.uint8)


def test_the_shipped_test_split() -> None:
    data = hwr.data.load("mnist", split="test")
    assert len(data) == 10_000
    assert data.images.shape == (10_000, 28, 28, 1)
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int64
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(data.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert data.classes == tuple("0123456789")
    assert data.images[:, 0, 0].max() == 0
    assert data.images.max() == 255


def test_the_shipped_train_split() -> None:
    data = hwr.data.load("mnist", split="train")
    assert data.images.shape == (60_000, 28, 28, 1)
    assert data.labels[:5].tolist() == [5, 0, 4, 1, 9]
    pixels = data.images / np.float32(255)
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (0.1307, 0.3081)


def test_a_changed_shipped_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(mnist_module.SHIPPED, tmp_path / "mnist")
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    monkeypatch.setattr(mnist_module, "SHIPPED", folder)
    with pytest.raises(DataError, match=r"t10k-labels.*SHA-256"):
        hwr.data.load("mnist", split="test")


def test_unknown_names_suggest_the_right_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown dataset 'MNIS'; did you mean 'mnist'\?"):
        hwr.data.load("MNIS", split="test")
    with pytest.raises(UnknownName, match=r"did you mean 'test'.* Known: train, test"):
        hwr.data.load("mnist", split="tset")


@pytest.mark.parametrize("packed", [False, True])
def test_a_users_folder_is_read(mnist_folder: Folder, packed: bool) -> None:
    folder = mnist_folder(IMAGES, LABELS, packed=packed)
    data = hwr.data.load("mnist", split="test", data_dir=str(folder))
    np.testing.assert_array_equal(data.images[..., 0], IMAGES)
    assert data.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:4], "images-idx3-ubyte holds 5 images, but .*ubyte holds 4 labels"),
        (IMAGES, None, "holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"),
        (None, LABELS, "holds neither t10k-images-idx3-ubyte"),
        (LABELS, LABELS, r"images-idx3-ubyte holds uint8 \(5,\), expected uint8 \(N, 28, 28\)"),
        (IMAGES[:, :27], LABELS, r"\(5, 27, 28\), expected uint8"),
        (IMAGES.astype(np.int16), LABELS, r"holds int16 \(5, 28, 28\)"),
        (IMAGES, IMAGES, r"labels-idx1-ubyte holds uint8 \(5, 28, 28\), expected uint8 \(N,\)"),
        (IMAGES, LABELS + np.uint8(6), r"label 2 in .*ubyte is 10, expected 0 to 9"),
    ],
)
def test_files_that_do_not_fit_are_named(
    mnist_folder: Folder,
    images: NDArray[Any] | None,
    labels: NDArray[Any] | None,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        hwr.data.load("mnist", split="test", data_dir=mnist_folder(images, labels))


def test_a_dataset_checks_its_arrays(tiny: Dataset) -> None:
    images: Any = tiny.images
    labels: Any = tiny.labels
    for wrong_images, wrong_labels, message in [
        (images[..., 0], labels, r"images are uint8 \(23, 6, 5\)"),
        (images.astype(np.float32), labels, r"images are float32"),
        (images, labels[1:], r"labels are int64 \(22,\), expected int64 \(23,\)"),
        (images, labels.astype(np.int32), r"labels are int32"),
        (images, labels - 1, r"label 0 is -1, expected 0 to 2"),
        (images, labels + 1, r"label 19 is 3, expected 0 to 2"),
    ]:
        with pytest.raises(DataError, match=f"tiny train: {message}"):
            Dataset("tiny", "train", wrong_images, wrong_labels, tiny.classes)
    with pytest.raises(DataError, match="2 selected, but 23 images"):
        Dataset("tiny", "train", images, labels, tiny.classes, np.arange(2))


def test_a_subset_of_a_subset_knows_where_it_came_from(tiny: Dataset) -> None:
    part = tiny.subset([20, 3, 3, 7]).subset(np.array([3, 0]))
    assert part.indices.tolist() == [7, 20] == part.images[:, 0, 0, 0].tolist()
    assert part.labels.tolist() == tiny.labels[[7, 20]].tolist()
    assert tiny.indices.tolist() == list(range(23))
    assert len(tiny.subset([])) == 0


@pytest.mark.parametrize("indices", [[23], [-1], [0.5], [True, False], [[0]]])
def test_wrong_indices_are_refused(tiny: Dataset, indices: list[int]) -> None:
    with pytest.raises(DataError, match="expected"):
        tiny.subset(indices)


def test_split_hash_is_that_of_the_little_endian_bytes() -> None:
    expected = hashlib.sha256(b"\x02" + bytes(7) + b"\x01\x01" + bytes(6)).hexdigest()
    assert split_hash([2, 257]) == expected
    assert split_hash(np.array([2, 257], ">i4")) == expected
    assert split_hash([257, 2]) != expected


@settings(deadline=None)
@given(count=st.integers(1, 22), seed=st.integers(0, 2**70), stratified=st.booleans())
def test_holdout_divides_the_images(tiny: Dataset, count: int, seed: int, stratified: bool) -> None:
    train, validation = holdout(tiny, count, seed, stratified=stratified)
    assert len(validation) == count
    both = np.concatenate([train.indices, validation.indices])
    assert sorted(both.tolist()) == list(range(23))
    for part in (train, validation):
        assert part.images[:, 0, 0, 0].tolist() == part.indices.tolist()
        assert (np.diff(part.indices) > 0).all()
    if stratified:
        shares = np.bincount(tiny.labels) * count / 23
        assert (abs(np.bincount(validation.labels, minlength=3) - shares) < 1).all()
    again = holdout(tiny, count, seed, stratified=stratified)
    assert split_hash(again[1].indices) == split_hash(validation.indices)


@pytest.mark.parametrize("stratified", [False, True])
def test_holdout_depends_on_the_seed(tiny: Dataset, stratified: bool) -> None:
    splits = [holdout(tiny, 11, seed, stratified=stratified)[1] for seed in range(5)]
    assert len({split_hash(split.indices) for split in splits}) == 5


def test_holdout_refuses_empty_parts_and_negative_seeds(tiny: Dataset) -> None:
    for count in (-1, 0, 23):
        with pytest.raises(UserError, match=f"count is {count}, expected 1 to 22"):
            holdout(tiny, count, 0)
    with pytest.raises(UserError, match="seed is -1"):
        holdout(tiny, 5, -1)


def test_import_hwr_is_light_and_finds_its_parts() -> None:
    code = (
        "import sys, hwr; assert 'numpy' not in sys.modules; hwr.data; "
        "assert not {'numba', 'cv2', 'cupy', 'tinynn'} & set(sys.modules); "
        "assert {'data', 'models', 'vision'} <= set(dir(hwr)); "
        "assert not hasattr(hwr, 'datas')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
