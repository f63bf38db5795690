"""Digits to draw photographs from, and the reader that ships."""

import os
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="photographs need opencv-python-headless")

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
def real_photos() -> Path:
    """The folder of real photographs, where it is present."""
    folders = [os.environ.get("HWR_TEST_DATA"), Path(__file__).parents[4] / "shared" / "data"]
    for folder in filter(None, folders):
        if (Path(folder) / "digit_photos" / "labels.json").exists():
            return Path(folder) / "digit_photos"
    pytest.skip("no real photographs here: set HWR_TEST_DATA to the folder of data")
