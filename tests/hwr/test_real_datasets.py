"""The real files of each dataset, where they are: shapes, counts, a known label, honest splits."""

from pathlib import Path

import numpy as np
import pytest

import hwr.data
from hwr.data import Dataset, Strings, datasets, location
from hwr.data.duplicates import compare

COUNTS = {  # as these files hold them, what is left out as a repetition being gone
    "mnist": {"train": 60_000, "test": 10_000},
    "kannada-mnist": {"train": 60_000, "test": 10_000},
    "dig-mnist": {"test": 10_240},
    "bangla": {"train": 4_993, "test": 1_000},
    "devanagari": {"train": 2_480, "test": 500},
    "telugu": {"train": 2_497, "test": 500},
    "usps": {"train": 7_291, "test": 2_007},
    "semeion": {"train": 1_195, "test": 398},
    "optdigits": {"train": 1_934, "test": 1_797},
    "gujarati": {"train": 797, "test": 200},
    "odia-tiny": {"train": 222, "test": 57},
    "photo-alnum62": {"train": 4_605, "test": 1_133},
    "photo-alnum36": {"train": 4_596, "test": 1_142},
    "orand-car-a-boxes": {"train": 1_080, "test": 128},
    "captcha": {"train": 832, "test": 208},
    "digit-photos": {"train": 29, "test": 14},
    "digit-photos-paper": {"train": 27, "test": 16},
}
FIRST = {  # of the first split: what its first images show
    "mnist": "50419",
    "kannada-mnist": "01234",
    "dig-mnist": "01234",
    "usps": "65473",
    "semeion": "00000",
    "optdigits": "00746",
    "orand-car-a-boxes": ["18014", "52063", "32516"],
    "captcha": ["226md", "2356g", "23n88"],
}


@pytest.mark.parametrize("name", COUNTS)
def test_real_files(name: str, real_data: Path) -> None:
    entry = datasets.get(name)
    folder = None if entry.shipped else real_data
    if folder is not None and not location.is_here(entry, folder):
        pytest.skip(f"the files of {name} are not here")
    found = {split: location.read(entry, split, folder) for split in entry.splits}
    assert {split: len(part) for split, part in found.items()} == COUNTS[name]
    labels = {}
    for split, part in found.items():
        if isinstance(part, Dataset):
            assert part.images.flags.c_contiguous
            assert part.images.shape[3] == 1
            assert f"{part.images.shape[1]}x{part.images.shape[2]}" == entry.size
            counts = np.bincount(part.labels, minlength=len(part.classes))
            assert counts.min() > 0
            assert counts.max() < 2.5 * counts.min()
            assert len(set(part.classes)) == len(part.classes) == entry.classes
            edges = part.images[:, [0, -1]].mean(), part.images[:, :, [0, -1]].mean()
            assert max(edges) < 128  # the background is dark
            labels[split] = "".join(part.classes[i] for i in part.labels)
        else:
            assert len(part.alphabet) == entry.classes
            assert all(np.median(image) < 160 for image in part.images)
            labels[split] = part.texts
    report = compare({s: (list(part.images), list(labels[s])) for s, part in found.items()})
    assert not any(report.across.values())
    if name in FIRST:
        known = FIRST[name]
        assert list(next(iter(labels.values()))[: len(known)]) == list(known)


def test_the_images_of_cmaterdb_that_stand_in_both_parts_are_said(real_data: Path) -> None:
    if not location.is_here(datasets.get("bangla"), real_data):
        pytest.skip("the files of bangla are not here")
    train = hwr.data.load("bangla", split="train", data_dir=real_data)
    assert train.note == "7 of 5,000 also stand in test and are left out"


def test_boxes_enclose_ink(real_data: Path) -> None:
    if not location.is_here(datasets.get("orand-car-a-boxes"), real_data):
        pytest.skip("the files of orand-car-a-boxes are not here")
    data = hwr.data.load_strings("orand-car-a-boxes", split="test", data_dir=real_data)
    assert isinstance(data, Strings)
    assert data.boxes is not None
    for image, boxes in zip(data.images, data.boxes):
        assert (np.diff(boxes[:, 0]) >= 0).all()  # left to right
        for x, y, w, h in boxes:
            assert image[y : y + h, x : x + w].max() > np.median(image)
