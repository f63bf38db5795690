"""`python -m hwr.data list | fetch | show | check`, and where data are looked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwr.data
from hwr.data import datasets, location
from hwr.data import images as pictures
from hwr.errors import DataError
from hwr.options import mean_and_std

Cli = Callable[..., Any]
Write = Callable[[dict[str, bytes | str]], Path]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine's user."""
    monkeypatch.delenv(location.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def letters(write: Write, picture: Callable[..., bytes]) -> Path:
    """Twenty pictures each of "a" and "b", in folders."""
    return write({f"{c}/{i}.png": picture(ord(c) * 100 + i) for c in "ab" for i in range(20)})


def test_list_shows_every_dataset_and_whether_it_is_here(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "captcha").mkdir()
    (tmp_path / "captcha" / "ab.png").touch()
    (tmp_path / "photo_alnum62").mkdir()  # empty
    run = cli("data.__main__", "list", "--data-dir", tmp_path)
    assert run.code == 0
    here = [line.split()[0] for line in run.out.splitlines() if "  here  " in line]
    assert here == ["mnist", "photo-digits", "captcha"]
    for name in datasets.names():
        assert f"  {name} " in run.out
    assert f"data in {tmp_path}" in run.out
    assert max(map(len, run.out.splitlines()[:-1])) <= 100


def test_list_as_json(cli: Cli) -> None:
    table = json.loads(cli("data.__main__", "list", "--json").out)
    assert {entry["name"] for entry in table} == set(datasets.names())
    emnist = next(entry for entry in table if entry["name"] == "emnist-letters")
    assert emnist["here"] is False
    assert emnist["splits"] == {"train": 124_800, "test": 20_800}
    assert emnist["downloads"][0]["hash"].startswith("sha256:fb9bb67e")


@pytest.mark.parametrize("name", datasets.names())
def test_every_description_is_complete(name: str) -> None:
    entry = datasets.get(name)
    for fact in (entry.title, entry.size, entry.licence, entry.source, entry.layout):
        assert fact
    assert entry.kind in ("characters", "strings")
    assert entry.splits
    assert entry.marker


def test_data_are_looked_for_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = datasets.get("kannada-mnist")
    assert location.root() == tmp_path / "cache" / "hwr"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert location.root() == Path.home() / ".cache" / "hwr"
    monkeypatch.setenv(location.VARIABLE, str(tmp_path))
    assert location.root() == tmp_path
    assert location.root(tmp_path / "typed") == tmp_path / "typed"
    assert location.find(entry) is None
    for folder in ("kannada_mnist", "kannada-mnist"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kannada_mnist" / "X_kannada_MNIST_test-idx3-ubyte.gz").touch()
    assert location.find(entry) == tmp_path / "kannada_mnist"
    assert location.find(entry, tmp_path) == tmp_path / "kannada_mnist"
    assert location.find(entry, tmp_path / "kannada_mnist") == tmp_path / "kannada_mnist"


def test_what_is_not_here_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "hwr"
    with pytest.raises(DataError, match=f"usps is not in {folder}; fetch it by .* fetch usps, or "):
        hwr.data.load("usps", split="train")
    with pytest.raises(DataError, match="give the folder of your own pictures by --data-dir"):
        hwr.data.load("folder", split="train")
    with pytest.raises(DataError, match="missing does not exist; give the folder of the data"):
        hwr.data.load("usps", split="train", data_dir=tmp_path / "missing")


def test_show_draws_a_contact_sheet(cli: Cli, letters: Path) -> None:
    run = cli("data.__main__", "show", "folder", "--data-dir", letters, "--count", 13)
    assert run.code == 0, run.err
    assert "folder-train.png: 13 of the 32 images of folder train (split made here" in run.out
    first = Path("folder-train.png").read_bytes()
    h, w = pictures.decode(first, "sheet").shape
    assert w == 12 * 66 + 2  # columns
    assert h == 2 * 82  # rows of pictures with labels
    cli("data.__main__", "show", "folder", "--data-dir", letters, "--count", 13)
    assert Path("folder-train.png").read_bytes() == first
    cli("data.__main__", "show", "folder", "--data-dir", letters, "--count", 13, "--seed", 1)
    assert Path("folder-train.png").read_bytes() != first


def test_show_draws_strings(cli: Cli, write: Write, picture: Callable[..., bytes]) -> None:
    folder = write({f"{c}{d}2.png": picture(ord(c), 24, 90) for c in "abcde" for d in "xyz"})
    command = ["data.__main__", "show", "captcha", "--data-dir", folder]
    run = cli(*command, "--split", "test", "--output", "sheet.png")
    assert run.code == 0, run.err
    assert pictures.decode(Path("sheet.png").read_bytes(), "sheet").shape == (66, 1000)
    run = cli(*command, "--split", "tset")
    assert run.code == 2
    assert "did you mean 'test'?" in run.err


def test_check_finds_what_two_splits_share(
    cli: Cli, write: Write, idx_bytes: Callable[[Any], bytes]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)

    def digits(part: str, chosen: list[int], labels: list[int]) -> Path:
        return write({
            f"{part}-images-idx3-ubyte": idx_bytes(images[chosen]),
            f"{part}-labels-idx1-ubyte": idx_bytes(np.array(labels, np.uint8)),
        })  # fmt: skip

    digits("train", [0, 1, 2, 2], [7, 1, 2, 2])
    folder = digits("t10k", [3, 0, 4], [3, 0, 4])
    run = cli("data.__main__", "check", "mnist", "--data-dir", folder)
    assert run.code == 1
    assert "train: 1 images repeat others of it" in run.out
    assert "train and test share 1 images: test 1 = train 0" in run.out
    assert "1 images repeat one with another label: test 1 is 0, the same as train 0, 7" in run.out
    digits("t10k", [3], [3])
    run = cli("data.__main__", "check", "mnist", "--data-dir", folder)
    assert run.code == 0
    assert "train and test share 0 images" in run.out


def test_fetch_without_an_address_is_refused(cli: Cli, tmp_path: Path) -> None:
    run = cli("data.__main__", "fetch", "cvl-strings", "--data-dir", tmp_path)
    assert run.code == 2
    assert f"into {tmp_path / 'cvl-strings'}" in run.err
    assert "Traceback" not in run.err


def test_training_on_another_dataset(cli: Cli, letters: Path) -> None:
    run = cli(
        "train", "--model", "ahlawat-cnn", "--dataset", "folder", "--data-dir", letters,
        "--epochs", 1, "--batch-size", 8, "--output-dir", "run",
    )  # fmt: skip
    assert run.code == 0, run.err
    config = json.loads(Path("run/config.json").read_text())
    assert config["recipe"]["dataset"] == "folder"
    assert config["recipe"]["claimed"] == {}
    assert config["recipe"]["validation"] == 3  # a tenth of 32
    train = hwr.data.load("folder", split="train", data_dir=letters)
    pixels = train.images / 255
    assert config["recipe"]["mean"] == pytest.approx(pixels.mean(), abs=1e-4)
    assert config["recipe"]["std"] == pytest.approx(pixels.std(), abs=1e-4)
    assert config["facts"]["image_size"] == 64
    assert config["facts"]["class_names"] == ["a", "b"]
    assert "repeat others" in config["facts"]["data_note"]
    run = cli("evaluate", "run", "--json")
    assert json.loads(run.out)["total"] == 8


def test_what_is_typed_wins_over_the_dataset(cli: Cli, letters: Path) -> None:
    run = cli(
        "train", "--recipe", "zhang-efficientnet-b0", "--model", "mlp", "--dataset", "folder",
        "--data-dir", letters, "--validation", 5, "--epochs", 1, "--augment", "none",
        "--output-dir", "run",
    )  # fmt: skip
    assert run.code == 0, run.err
    recipe = json.loads(Path("run/config.json").read_text())["recipe"]
    assert recipe["validation"] == 5
    assert (recipe["mean"], recipe["std"]) == (0, 1)  # the recipe's plain pixels / 255
    assert recipe["image_size"] is None  # 32 is smaller than the images


def test_strings_cannot_be_trained_on_as_characters(cli: Cli, write: Write) -> None:
    from hwr.data.picture import png

    folder = write({f"{i}.png": png(np.zeros((9, 9, 1), np.uint8)) for i in range(5)})
    run = cli("train", "--dataset", "captcha", "--data-dir", folder)
    assert run.code == 2
    assert "captcha holds strings, not characters" in run.err


def test_mean_and_std_of_mnist_are_the_usual_ones() -> None:
    train = hwr.data.load("mnist", split="train")
    assert mean_and_std(train.images) == {"mean": 0.1307, "std": 0.3081}
