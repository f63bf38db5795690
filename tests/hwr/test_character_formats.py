"""The loaders of characters on small files in the documented format, and files not right."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hwr.data
from hwr.data import archive
from hwr.errors import DataError, UnknownName

Write = Callable[[dict[str, bytes | str]], Path]
Picture = Callable[..., bytes]
Zipped = Callable[[dict[str, bytes]], bytes]
Idx = Callable[[NDArray[Any]], bytes]
RNG = np.random.default_rng(0)
TEN = np.arange(10, dtype=np.uint8)


def npz(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("packed", ["gzip.zip", "folder"])
@pytest.mark.parametrize(
    ("name", "raw", "shown"),
    [("emnist-letters", [1, 26], "Aa Zz"), ("emnist-balanced", [10, 46], "A t")],
)
def test_emnist_is_turned_upright(
    write: Write, zipped: Zipped, idx_bytes: Idx, packed: str, name: str, raw: Any, shown: str
) -> None:
    images = RNG.integers(0, 256, (2, 28, 28), dtype=np.uint8)
    files = {
        f"{name}-test-images-idx3-ubyte.gz": gzip.compress(idx_bytes(images)),
        f"{name}-test-labels-idx1-ubyte.gz": gzip.compress(idx_bytes(np.array(raw, np.uint8))),
    }
    if packed == "gzip.zip":
        files = {packed: zipped({f"gzip/{k}": v for k, v in files.items()})}
    data = hwr.data.load(name, split="test", data_dir=write({**files}))
    np.testing.assert_array_equal(data.images[1, ..., 0], images[1].T)
    assert " ".join(data.classes[i] for i in data.labels) == shown


def test_an_emnist_letter_outside_the_classes(write: Write, idx_bytes: Idx) -> None:
    folder = write({
        "emnist-letters-test-images-idx3-ubyte": idx_bytes(np.zeros((2, 28, 28), np.uint8)),
        "emnist-letters-test-labels-idx1-ubyte": idx_bytes(np.array([26, 0], np.uint8)),
    })  # fmt: skip
    with pytest.raises(DataError, match=r"label 1 in .*ubyte is 0, expected 1 to 26"):
        hwr.data.load("emnist-letters", split="test", data_dir=folder)


def test_kannada_mnist_says_when_its_training_images_are_rebuilt(
    write: Write, idx_bytes: Idx
) -> None:
    images = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
    test = {
        "X_kannada_MNIST_test-idx3-ubyte.gz": gzip.compress(idx_bytes(images)),
        "y_kannada_MNIST_test-idx1-ubyte.gz": gzip.compress(idx_bytes(TEN)),
        "y_kannada_MNIST_train-idx1-ubyte.gz": gzip.compress(idx_bytes(TEN)),
    }
    folder = write({**test, "train_rebuilt_from_scans.npz": npz(images=images, labels=TEN)})
    train = hwr.data.load("kannada-mnist", split="train", data_dir=folder)
    assert "rebuilt" in train.note
    assert hwr.data.load("kannada-mnist", split="test", data_dir=folder).note == ""
    write({"X_kannada_MNIST_train-idx3-ubyte": idx_bytes(255 - images)})
    train = hwr.data.load("kannada-mnist", split="train", data_dir=folder)
    assert train.note == ""
    np.testing.assert_array_equal(train.images[..., 0], 255 - images)


def test_dig_mnist_has_a_test_split_only(write: Write, idx_bytes: Idx) -> None:
    folder = write({
        "X_dig_MNIST-idx3-ubyte.gz": gzip.compress(idx_bytes(np.zeros((10, 28, 28), np.uint8))),
        "y_dig_MNIST-idx1-ubyte.gz": gzip.compress(idx_bytes(TEN)),
    })  # fmt: skip
    assert len(hwr.data.load("dig-mnist", split="test", data_dir=folder)) == 10
    with pytest.raises(UnknownName, match="unknown split of dig-mnist 'train'; Known: test"):
        hwr.data.load("dig-mnist", split="train", data_dir=folder)


@pytest.mark.parametrize("name", ["bangla", "devanagari", "telugu"])
def test_cmaterdb_is_turned_to_bright_on_black(write: Write, name: str) -> None:
    images = RNG.integers(0, 256, (10, 32, 32, 1), dtype=np.uint8).repeat(3, 3)
    other = images.copy()
    other[1:, 0, 0] ^= 1  # the first stands in both
    folder = write({
        "training-images.npz": npz(images=images, labels=TEN.astype(np.int64)),
        "testing-images.npz": npz(images=other, labels=TEN.astype(np.int64)),
    })  # fmt: skip
    test = hwr.data.load(name, split="test", data_dir=folder)
    np.testing.assert_array_equal(test.images[..., 0], 255 - other[..., 0])
    train = hwr.data.load(name, split="train", data_dir=folder)
    assert train.labels.tolist() == list(range(1, 10))
    assert train.note == "1 of 10 also stand in test and are left out"


@pytest.mark.parametrize("packed", [True, False])
def test_usps(write: Write, packed: bool) -> None:
    rows = RNG.choice([-1, -0.5, 0, 1], (10, 256))
    text = "".join(f"{i}.0000 {' '.join(f'{v:.4f}' for v in row)} \n" for i, row in enumerate(rows))
    data = gzip.compress(text.encode()) if packed else text
    folder = write({"zip.test.gz" if packed else "zip.test": data})
    read = hwr.data.load("usps", split="test", data_dir=folder)
    assert read.labels.tolist() == list(range(10))
    assert read.images.shape == (10, 16, 16, 1)
    grey = {-1: 0, -0.5: 64, 0: 128, 1: 255}
    assert read.images[3].ravel().tolist() == [grey[v] for v in rows[3]]


@pytest.mark.parametrize("packed", [True, False])
def test_semeion_is_tested_on_the_last_batch_of_writers(write: Write, packed: bool) -> None:
    labels = np.tile(np.arange(10).repeat(2), 6)
    pixels = RNG.integers(0, 2, (120, 256))
    rows = zip(pixels, np.eye(10, dtype=int)[labels])
    lines = [" ".join([*(f"{v}.0000" for v in x), *map(str, y)]) for x, y in rows]
    images = (pixels * 255).astype(np.uint8).reshape(-1, 16, 16)
    folder = write(
        {"semeion.npz": npz(images=images, labels=labels.astype(np.uint8))}
        if packed
        else {"semeion.data": " \n".join(lines) + " \n"}
    )
    test = hwr.data.load("semeion", split="test", data_dir=folder)
    np.testing.assert_array_equal(test.images[..., 0], images[100:])
    train = hwr.data.load("semeion", split="train", data_dir=folder)
    assert len(train) == 100
    assert not {*train.groups["batch"]} & {*test.groups["batch"]}


def optdigits(labels: NDArray[np.integer]) -> tuple[str, NDArray[np.uint8]]:
    bits = RNG.integers(0, 2, (len(labels), 32, 32), dtype=np.uint8)
    blocks = [
        "".join("".join(map(str, row)) + "\n" for row in block) + f" {label}\n"
        for block, label in zip(bits, labels)
    ]
    header = "Number of Instances\n\nentwidth = 32\nentheight = 32\nntot = 10\n\n"
    return header + "".join(blocks), bits * 255


def test_optdigits(write: Write) -> None:
    (train, _), (test, images) = optdigits(TEN), optdigits(TEN[::-1])
    folder = write({"optdigits-orig.tra": train, "optdigits-orig.windep": test})
    data = hwr.data.load("optdigits", split="test", data_dir=folder)
    np.testing.assert_array_equal(data.images[..., 0], images)
    assert data.labels.tolist() == TEN[::-1].tolist()
    assert len(hwr.data.load("optdigits", split="train", data_dir=folder)) == 10


def test_optdigits_must_be_unpacked(write: Write) -> None:
    folder = write({"optdigits-orig.windep.Z": b"\x1f\x9d\x90"})
    with pytest.raises(DataError, match=r"gzip -d .*optdigits-orig.windep.Z"):
        hwr.data.load("optdigits", split="test", data_dir=folder)


def test_gujarati_and_its_repetitions(write: Write, picture: Picture, zipped: Zipped) -> None:
    images = RNG.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    images[1] = images[0]  # the same digit twice
    images[3] = images[2]
    labels = np.arange(10, dtype=np.uint8).repeat(5)
    labels[3] = 9  # labelled differently: neither stays
    folder = write({"gujarati_digits.npz": npz(images=images, labels=labels)})
    parts = [hwr.data.load("gujarati", split=s, data_dir=folder) for s in ("train", "test")]
    assert sum(map(len, parts)) == 47
    assert parts[0].note == (
        "few hands: a weak test; split made here; 3 of 50 repeat others and are left out"
    )
    (folder / "gujarati_digits.npz").unlink()
    files = {f"x-master/Dataset/{c}/{c}_{i}.png": picture(10 * c + i) for c in range(10)
             for i in range(5)}  # fmt: skip
    write({"gujarati.zip": zipped(files)})
    test = hwr.data.load("gujarati", split="test", data_dir=folder)
    assert sorted(test.labels.tolist()) == list(range(10))


@pytest.fixture
def classes(picture: Picture) -> dict[str, bytes | str]:
    """Ten pictures of each of three classes, in folders."""
    numbered = enumerate(["10", "9", "ka"])
    return {f"{c}/{i}.png": picture(100 * k + i) for k, c in numbered for i in range(10)}


def test_a_folder_of_classes_is_split_by_class(
    write: Write, classes: dict[str, bytes | str], zipped: Zipped
) -> None:
    folder = write(classes)
    test = hwr.data.load("folder", split="test", data_dir=folder)
    assert test.classes == ("9", "10", "ka")
    assert test.images.shape == (6, 64, 64, 1)
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    train = hwr.data.load("folder", split="train", data_dir=folder)
    assert np.bincount(train.labels).tolist() == [8, 8, 8]
    inside = zipped({k: v for k, v in classes.items() if isinstance(v, bytes)})
    again = hwr.data.load(
        "folder", split="test", data_dir=write({"../zip/all.zip": inside}) / "../zip"
    )
    np.testing.assert_array_equal(np.sort(again.images, 0), np.sort(test.images, 0))


def test_a_copy_never_stands_on_both_sides(write: Write, classes: dict[str, bytes | str]) -> None:
    folder = write({**classes, **{f"ka/copy{i}.png": classes[f"ka/{i}.png"] for i in range(10)}})
    parts = [hwr.data.load("folder", split=s, data_dir=folder) for s in ("train", "test")]
    assert [len(part) for part in parts] == [24, 6]
    assert "10 of 40 pictures repeat others" in parts[0].note


def test_a_folder_may_bring_its_own_split(write: Write, picture: Picture) -> None:
    files = {f"{s}/{c}/1.png": picture(i) for i, (s, c) in enumerate(
        [("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")])}  # fmt: skip
    folder = write({**files, "train/a/2.png": picture(7)})
    data = hwr.data.load("folder", split="train", data_dir=folder)
    assert data.labels.tolist() == [0, 0, 1]
    (folder / "test/a/1.png").rename(folder / "train/a/3.png")
    (folder / "test/b/1.png").rename(folder / "train/b/3.png")
    (folder / "test/a").rmdir()
    (folder / "test/b").rmdir()
    (folder / "test").rmdir()
    with pytest.raises(DataError, match="under train or test; expected all, and some under each"):
        hwr.data.load("folder", split="train", data_dir=folder)


def test_folders_that_are_not_right(write: Write, classes: dict[str, bytes | str]) -> None:
    folder = write(classes)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"class folder .*empty is empty; fill it or remove it"):
        hwr.data.load("folder", split="train", data_dir=folder)
    (folder / "empty").rmdir()
    write({"loose.png": b""})
    with pytest.raises(DataError, match=r"loose.png lies in no class folder"):
        hwr.data.load("folder", split="train", data_dir=folder)
    (folder / "loose.png").unlink()
    write({"ka/0.png": b"<html>not found</html>"})
    with pytest.raises(DataError, match=r"0.png begins with 3c 68 74 .*no PNG, JPEG"):
        hwr.data.load("folder", split="train", data_dir=folder)
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=r"no pictures as class/name.png .*found: 10/0.txt"):
        hwr.data.load("folder", split="train", data_dir=folder)


def test_chars74k(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "KannadaHnd.tgz", "w:gz") as tar:
        for c in (1, 2, 10):
            for i in range(5):
                data = picture(10 * c + i)
                info = tarfile.TarInfo(f"Kannada/Hnd/Img/Sample{c:03}/img{c:03}-{i:03}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    test = hwr.data.load("chars74k-kannada", split="test", data_dir=tmp_path / "data")
    assert test.classes == ("Sample001", "Sample002", "Sample010")
    assert test.labels.tolist() == [0, 1, 2]


def test_odia_letters_name_the_classes(write: Write, picture: Picture, zipped: Zipped) -> None:
    files = {f"{c}/{i}.jpg": picture(10 * c + i) for c in range(3) for i in range(5)}
    folder = write({
        "odia_label.csv": "\ufeffclass,label,class,label\n0,ଅ,2,ଇ\n1,ଆ,,\n",
        "original.zip": zipped(files),
    })  # fmt: skip
    data = hwr.data.load("odia-tiny", split="train", data_dir=folder)
    assert data.classes == ("ଅ", "ଆ", "ଇ")
    assert np.bincount(data.labels).tolist() == [4, 4, 4]


@pytest.mark.parametrize(("name", "count"), [("photo-alnum62", 62), ("photo-alnum36", 36)])
def test_photographed_characters(
    write: Write, picture: Picture, zipped: Zipped, name: str, count: int
) -> None:
    files = {f"{kind}_{c}_{i}.png": picture(hash_of(c, i)) for kind, c in
             [("SMALL", "a"), ("CAP", "A"), ("DIGIT", "7")] for i in range(5)}  # fmt: skip
    lines = [f"{file},{file.split('_')[1]}" for file in files]
    folder = write({"labels.csv": "filename,label\n" + "\n".join(lines), "p.zip": zipped(files)})
    data = hwr.data.load(name, split="train", data_dir=folder)
    assert len(data.classes) == count
    shown = {"".join(sorted({data.classes[i] for i in data.labels}))}
    assert shown == ({"7Aa"} if count == 62 else {"7A"})
    write({"labels.csv": "filename,label\nSMALL_a_0.png,ä\n"})
    with pytest.raises(DataError, match=r"SMALL_a_0.png is labelled 'ä|Ä', which is none of the"):
        hwr.data.load(name, split="train", data_dir=folder)
    write({"labels.csv": "filename,label\nSMALL_b_0.png,b\n"})
    with pytest.raises(DataError, match=r"lacks 1 of the 1 pictures .*: SMALL_b_0.png"):
        hwr.data.load(name, split="train", data_dir=folder)


def hash_of(letter: str, number: int) -> int:
    return 100 * ord(letter) + number


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("usps", "zip.test.gz", b"\x1f\x8b\x08cut", "is no table of numbers"),
        ("usps", "zip.test", "1 2 3\n", "holds 1 lines of 3 numbers, expected 257"),
        ("usps", "zip.test", " ".join(["11"] + ["0"] * 256), "labels from 11 to 11"),
        ("usps", "other", "", "holds no zip.test.gz or zip.test .*found: other"),
        ("semeion", "semeion.data", " ".join(["0"] * 266), "or not one label"),
        ("semeion", "semeion.npz", npz(images=TEN, labels=TEN), "run 1 times .*expected 6"),
        ("optdigits", "optdigits-orig.windep", "nothing", "holds 0 blocks of 32 lines"),
        ("bangla", "testing-images.npz", b"PK\x03\x04cut", "is no sound npz file"),
        ("bangla", "testing-images.npz", npz(images=TEN), "lacks an array .*labels"),
        ("bangla", "testing-images.npz", npz(images=TEN, labels=TEN), r"images uint8 \(10,\)"),
        ("emnist-letters", "gzip.zip", b"PK\x03\x04cut", "gzip.zip is a damaged archive"),
        ("captcha", "readme.txt", "", "holds no pictures CODE.png; found: readme.txt"),
        ("cvl-strings", "readme.txt", "", "holds no pictures under cvl-strings-eval/"),
        ("chars74k-kannada", "a/b.png", b"", "not laid out as Img/Sample001/name.png"),
        ("odia-tiny", "odia_label.csv", "class,label\n", "holds no pictures as class/name.png"),
        ("photo-alnum62", "labels.csv", "a,b\n1,2\n", "no columns filename and label"),
        ("orand-car-a-boxes", "val.json", "[]", "is not name: width, height"),
        ("iam", "forms.txt", "a01-000u\n", "has the line 'a01-000u', expected 2 fields"),
    ],
)
def test_files_that_are_not_right_are_named(
    write: Write, name: str, file: str, content: bytes | str, message: str
) -> None:
    folder = write({file: content})
    load: Any = hwr.data.load
    if hwr.data.datasets.get(name).kind == "strings":
        load = hwr.data.load_strings
    with pytest.raises(DataError, match=message):
        load(name, split="test", data_dir=folder)


def test_archives_that_are_too_large_are_refused(
    write: Write, picture: Picture, zipped: Zipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = {f"a/{i}.png": picture(i) for i in range(5)}
    folder = write({"all.zip": zipped(inside)})
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 20)
    with pytest.raises(
        DataError, match=r"all.zip/a/0.png cannot be read \([\d,]+ bytes, more than"
    ):
        hwr.data.load("folder", split="train", data_dir=folder)
    (folder / "all.zip").unlink()
    with tarfile.open(folder / "all.tar", "w") as tar:
        info = tarfile.TarInfo("a/0.png")
        info.size = 21
        tar.addfile(info, io.BytesIO(bytes(21)))
    with pytest.raises(DataError, match=r"all.tar is a damaged archive \(21 bytes, more than"):
        hwr.data.load("folder", split="train", data_dir=folder)


def test_what_a_folders_parts_share_is_left_out_of_training(write: Write, picture: Picture) -> None:
    files = {f"{s}/{c}/{i}.png": picture(n) for n, (s, c, i) in enumerate(
        [("train", "a", 0), ("train", "a", 1), ("train", "b", 0), ("test", "a", 0)])}  # fmt: skip
    folder = write({**files, "test/b/0.png": files["train/a/1.png"]})
    train = hwr.data.load("folder", split="train", data_dir=folder)
    assert train.note == "1 of 3 also stand in test and are left out"
    assert train.labels.tolist() == [0, 1]
    assert len(hwr.data.load("folder", split="test", data_dir=folder)) == 2
