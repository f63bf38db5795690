"""Pictures of other formats, sizes and papers, and pictures that are not right."""

import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwr.data import images as pictures
from hwr.data.picture import png
from hwr.errors import DataError


def encode(suffix: str, image: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_format_is_read_at_the_size_its_header_states(suffix: str, channels: int) -> None:
    image = np.full((13, 22, channels), 200, np.uint8)
    data = encode(suffix, image)
    assert pictures.header_size(data, "x") == (13, 22)
    decoded = pictures.decode(data, "x")
    assert decoded.shape == (13, 22)
    assert decoded.dtype == np.uint8
    assert abs(decoded.astype(int) - 200).max() <= 2


def test_what_is_transparent_is_white() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    image[1, 1] = 0, 0, 0, 255  # the only ink
    image[2, 2] = 0, 0, 0, 128
    grey = pictures.decode(encode(".png", image), "x")
    assert grey[1, 1] == 0
    assert grey[2, 2] == 127
    assert (np.delete(grey.ravel(), [5, 10]) == 255).all()


def test_sixteen_bits_become_eight() -> None:
    image = np.full((3, 3), 0x8000, np.uint16)
    assert pictures.decode(encode(".png", image), "x").max() == 128


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_an_absurd_size_is_refused_before_decoding(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(encode(suffix, np.zeros((50, 40), np.uint8)))
    if suffix == ".png":
        data[16:24] = struct.pack(">II", 2**30, 2**30)
    else:
        monkeypatch.setattr(pictures, "MAX_PIXELS", 1999)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"big: the picture is .* pixels, expected 1 to .* in all"):
        pictures.decode(bytes(data), "big")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("length", [2, 9, 21])
def test_a_picture_cut_off_in_its_header_is_refused(suffix: str, length: int) -> None:
    data = encode(suffix, np.arange(600, dtype=np.uint8).reshape(20, 30))
    with pytest.raises(DataError, match=r"x: the picture's header is damaged|x begins with"):
        pictures.decode(data[:length], "x")


def test_a_picture_cut_off_later_is_refused() -> None:
    data = encode(".png", np.arange(600, dtype=np.uint8).reshape(20, 30))
    with pytest.raises(DataError, match="x: the picture is damaged"):
        pictures.decode(data[:40], "x")


def test_other_files_are_no_pictures() -> None:
    for data, begins in [(b"", "nothing"), (b"GIF89a....", "47 49 46"), (b"<html>", "3c 68")]:
        with pytest.raises(DataError, match=f"x begins with {begins}.*no PNG, JPEG, BMP or TIFF"):
            pictures.decode(data, "x")


def stroke(paper: int, ink: int, height: int = 40, width: int = 20) -> np.ndarray:
    image = np.full((height, width), paper, np.uint8)
    image[height // 4 : -height // 4, width // 2 - 2 : width // 2 + 2] = ink
    return image


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (180, 90), (60, 140), (110, 20)])
def test_ink_becomes_bright_on_black_whatever_the_paper(paper: int, ink: int) -> None:
    fitted = pictures.fit(stroke(paper, ink), 20)
    assert fitted.shape == (20, 20)
    assert fitted.max() == 255
    assert fitted[:, :5].max() == fitted[:, -5:].max() == 0  # the padding
    np.testing.assert_array_equal(fitted, pictures.fit(stroke(255, 0), 20))


def test_an_empty_sheet_is_not_made_bright() -> None:
    noise = np.random.default_rng(0).integers(195, 205, (50, 50), dtype=np.uint8)
    assert pictures.fit(noise, 32).max() < 20


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64))
def test_fit_keeps_the_aspect(height: int, width: int, size: int) -> None:
    fitted = pictures.fit(np.pad(np.zeros((height, width), np.uint8), 1, constant_values=0), size)
    assert fitted.shape == (size, size)
    resized = pictures.to_height(np.zeros((height, width), np.uint8), size)
    assert resized.shape == (size, max(1, round(width * size / height)))


def test_our_own_png_is_read(picture: Callable[..., bytes]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 1), dtype=np.uint8)
    np.testing.assert_array_equal(pictures.decode(png(image), "x"), image[..., 0])
    assert pictures.header_size(picture(0, 12, 9), "x") == (12, 9)
