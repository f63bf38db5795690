"""`python -m hwr.predict`: what it prints, what it writes, and what it says to bad input."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hwr.data import Dataset
from hwr.vision.headers import read_header
from hwr.vision.photograph import decode
from hwr.vision.synthetic import Drawn, Scene, photograph

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def drawn(mnist_test: Dataset) -> Drawn:
    return photograph(Scene(rows=(4, 3), digit=30), mnist_test, np.random.default_rng(24))


def encoded(image: np.ndarray, kind: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(kind, image)[1])


def test_numbers_line_by_line_and_two_files(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(drawn.image))
    run = cli("predict", "photo.jpg")
    assert run.code == 0
    assert run.out.split() == drawn.rows
    page = json.loads((tmp_path / "photo.read.json").read_text())
    assert [line["text"] for line in page["lines"]] == drawn.rows
    picture = cv2.imread(str(tmp_path / "photo.read.png"))
    assert picture.shape[1] == drawn.image.shape[1]
    again = cli("predict", "photo.jpg")
    assert (again.code, again.out) == (2, "")
    assert "exists already; --force overwrites it" in again.err
    assert cli("predict", "photo.jpg", "--force").code == 0


def test_the_picture_of_a_tiny_one_is_large_enough_to_look_at(cli: Cli, tmp_path: Path) -> None:
    tiny = np.full((28, 28, 3), 255, np.uint8)
    cv2.line(tiny, (14, 5), (14, 22), (0, 0, 0), 2)
    (tmp_path / "one.png").write_bytes(encoded(tiny, ".png"))
    run = cli("predict", "one.png")
    assert (run.code, run.out.split()) == (0, ["1"])
    assert cv2.imread(str(tmp_path / "one.read.png")).shape[1] >= 200


def test_a_first_photograph_waits_for_no_compiler(tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(drawn.image))
    command = [sys.executable, "-m", "hwr.predict", str(tmp_path / "photo.jpg"), "--json"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert not (tmp_path / "compiled").exists()


def test_json_prints_one_object_and_writes_nothing(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(drawn.image, ".png"))
    page = json.loads(cli("predict", "photo.png", "--json").out)
    assert page["image"] == "photo.png"
    assert {"lines", "refused"} <= page.keys()
    digit = page["lines"][0]["digits"][0]
    assert digit["label"] == int(drawn.rows[0][0])
    assert 0.5 < digit["probability"] <= 1
    assert len(digit["box"]) == 4
    assert os.listdir(tmp_path) == ["photo.png"]


def test_folders_patterns_and_an_output_folder(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.png", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(encoded(drawn.image, Path(name).suffix.replace(
            ".txt", ".jpg")))  # fmt: skip
    pages = json.loads(cli("predict", "in", "--json", "--output-dir", "out").out)
    assert [page["image"] for page in pages] == ["in/a.jpg", "in/a.png"]
    assert len(list((tmp_path / "out").glob("*.read.json"))) == 2
    assert cli("predict", "in/*.png", "--json").code == 0


def test_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch, drawn: Drawn) -> None:
    data = io.BytesIO(encoded(drawn.image))
    monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": data}))
    page = json.loads(cli("predict", "-", "--json").out)
    assert [line["text"] for line in page["lines"]] == drawn.rows


def test_a_contact_sheet_explains(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(drawn.image))
    assert cli("predict", "photo.jpg", "--json", "--explain").code == 0
    assert cv2.imread(str(tmp_path / "photo.explain.png")).shape[1] == 1520


def test_no_digits_is_no_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "white.png").write_bytes(encoded(np.full((200, 300, 3), 255, np.uint8), ".png"))
    run = cli("predict", "white.png")
    assert (run.code, run.out) == (0, "no digits found\n")


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


BAD = {
    "empty.jpg": (b"", "the file is empty (0 bytes)"),
    "text.jpg": (b"not an image at all", "not an image that can be read"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(20), "export it as JPEG"),
    "bomb.png": (png_header(60_000, 60_000), "60,000 x 60,000 pixels are more than"),
    "large.png": (png_header(10_000, 10_000), "10,000 x 10,000 pixels are more than"),
    "zero.png": (png_header(0, 5), "it is damaged"),
    "header.jpg": (b"\xff\xd8\xff\xe0", "breaks off within its header"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(cli: Cli, tmp_path: Path, name: str) -> None:
    data, words = BAD[name]
    (tmp_path / name).write_bytes(data)
    run = cli("predict", name)
    assert (run.code, run.out) == (2, "")
    assert words in run.err
    assert run.err.count("\n") == 1
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_truncated_images_are_refused(cli: Cli, tmp_path: Path, drawn: Drawn, kind: str) -> None:
    data = encoded(drawn.image, kind)
    (tmp_path / f"half{kind}").write_bytes(data[: len(data) // 2])
    run = cli("predict", f"half{kind}")
    assert run.code == 2
    assert "Traceback" not in run.err
    assert "half" in run.err


def test_missing_names_and_empty_folders(cli: Cli, tmp_path: Path) -> None:
    assert "no such file, folder or match" in cli("predict", "nowhere.jpg").err
    assert "the name of an image is empty" in cli("predict", "").err
    (tmp_path / "empty").mkdir()
    assert "no image in this folder" in cli("predict", "empty").err


def test_one_bad_file_among_good_ones(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    (tmp_path / "b.jpg").write_bytes(encoded(drawn.image))
    run = cli("predict", ".")
    assert run.code == 2
    assert "a.jpg: not an image" in run.err
    assert drawn.rows[0] in run.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everywhere")
def test_permissions(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(drawn.image))
    (tmp_path / "locked").mkdir(mode=0o500)
    assert (
        "choose a folder you may write to"
        in cli("predict", "a.jpg", "--output-dir", "locked/out").err
    )
    (tmp_path / "a.jpg").chmod(0)
    assert "check the name and its permissions" in cli("predict", "a.jpg").err


def test_an_output_folder_that_is_a_file(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(drawn.image))
    (tmp_path / "file").write_text("")
    run = cli("predict", "a.jpg", "--output-dir", "file")
    assert run.code == 2
    assert "cannot write file" in run.err


def test_unknown_model_and_backend(cli: Cli, tmp_path: Path, drawn: Drawn) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(drawn.image))
    assert "there is no such run folder" in cli("predict", "a.jpg", "--model", "runs/none").err
    assert "did you mean 'numpy'" in cli("predict", "a.jpg", "--backend", "numpi").err


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".pgm", ".ppm"])
@pytest.mark.parametrize("size", [(1, 1), (31, 17), (300, 200)])
def test_headers_tell_the_size(kind: str, size: tuple[int, int]) -> None:
    w, h = size
    shape = (h, w) if kind == ".pgm" else (h, w, 3)
    header = read_header(encoded(np.full(shape, 90, np.uint8), kind))
    assert header is not None
    assert (header.width, header.height, header.complete) == (w, h, True)


def test_transparent_parts_are_paper() -> None:
    picture = np.zeros((20, 30, 4), np.uint8)
    picture[5:9, 5:9, 3] = 255
    image = decode(encoded(picture, ".png"), "a.png").image
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[6, 6].tolist() == [0, 0, 0]


def test_sixteen_bits_become_eight() -> None:
    picture = np.full((20, 30), 30_000, np.uint16)
    picture[4:8] = 1_000
    image = decode(encoded(picture, ".png"), "a.png").image
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == [117, 117, 117]


EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # turn it clockwise


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("kind", ["jpeg", "png", "png with alpha"])
def test_exif_orientation_is_obeyed(kind: str) -> None:
    picture = np.full((40, 80, 4 if "alpha" in kind else 3), 255, np.uint8)
    picture[:10, :10, :3] = 0
    if kind == "jpeg":
        data, exif = encoded(picture), b"Exif\0\0" + EXIF
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    else:
        data = encoded(picture, ".png")
        data = data[:33] + png_chunk(b"eXIf", EXIF) + data[33:]
    image = decode(data, "a").image
    assert image.shape == (80, 40, 3)
    assert image[2, -3].max() < 60


def test_what_phones_append_to_a_photograph_does_not_matter(drawn: Drawn) -> None:
    data = encoded(drawn.image)
    film = bytes(10_000)  # of a "motion photo"
    assert (decode(data + film, "a.jpg").image == decode(data, "a.jpg").image).all()


def test_several_pictures_are_announced(tmp_path: Path) -> None:
    picture = np.full((20, 30, 3), 90, np.uint8)
    cv2.imwritemulti(str(tmp_path / "a.tiff"), [picture, picture])
    assert "the first is read" in decode((tmp_path / "a.tiff").read_bytes(), "a.tiff").note
    assert decode(encoded(picture, ".tiff"), "a.tiff").note == ""
    screen = b"GIF89a" + struct.pack("<HHB", 1, 1, 0x80) + bytes(8)  # a table of two colours
    one = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    assert [read_header(screen + one * n + b";").frames for n in (1, 2)] == [False, True]


def test_bitmaps_of_the_older_kind() -> None:
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 40, 30, 1, 24)
    assert decode(head + bytes(40 * 30 * 3), "a.bmp").image.shape == (30, 40, 3)


def test_large_jpegs_are_decoded_at_a_fraction_and_boxes_fit_the_original(
    cli: Cli, tmp_path: Path, drawn: Drawn
) -> None:
    large = cv2.resize(drawn.image, (5600, 5600 * drawn.image.shape[0] // drawn.image.shape[1]))
    (tmp_path / "large.jpg").write_bytes(encoded(large))
    page = json.loads(cli("predict", "large.jpg", "--json").out)
    assert [line["text"] for line in page["lines"]] == drawn.rows
    box, true = page["lines"][0]["digits"][0]["box"], drawn.boxes[0]
    scale = 5600 / drawn.image.shape[1]
    assert box == pytest.approx([scale * side for side in true], abs=0.25 * scale * true[3])
