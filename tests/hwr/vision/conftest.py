"""Digits to draw photographs from, and the reader that ships."""

from pathlib import Path

import pytest

import hwr.data
import tinynn as tn
from hwr.data import Dataset
from hwr.vision import Reader


@pytest.fixture(scope="session")
def mnist_test() -> Dataset:
    return hwr.data.load("mnist", split="test")


@pytest.fixture(scope="session")
def reader() -> Reader:
    tn.set_num_threads(1)
    return Reader()


@pytest.fixture(scope="session")
def real_photos(real_data: Path) -> Path:
    """The folder of real photographs, where it is present."""
    folder = real_data / "digit_photos"
    if not (folder / "labels.json").exists():
        pytest.skip("no real photographs here: set HWR_TEST_DATA to the folder of data")
    return folder
