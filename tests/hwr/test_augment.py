"""Warped images: the compiled sampling is the formula, and each amount does what its name says."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import hwr.data
from hwr.data import Dataset, Loader, Normalize, cpu_warp
from hwr.data.augment import PRESETS, VIEWS, Augment, View, affine_maps, gaussians, sample
from hwr.data.warp import warp
from hwr.errors import UserError

Images = NDArray[np.uint8]
EVERYTHING = Augment(
    rotation_deg=180, translation=0.5, shear_deg=60, scale=0.9, elastic_alpha=60, elastic_sigma=3
)


def images(*shape: int) -> Images:
    """Random pixels."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def digits() -> Images:
    """One of each class."""
    test = hwr.data.load("mnist", split="test")
    return test.images[np.unique(test.labels, return_index=True)[1]]


@given(
    n=st.integers(0, 4),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    c=st.integers(1, 3),
    sigma=st.sampled_from([None, 0.5, 2.0, 5.0]),
    seed=st.integers(0, 99),
)
def test_the_compiled_warp_is_the_formula(
    n: int, h: int, w: int, c: int, sigma: float | None, seed: int
) -> None:
    x, rng, field = images(n, h, w, c), np.random.default_rng(seed), None
    maps = affine_maps(
        rng.uniform(-180, 180, n),
        rng.uniform(-60, 60, n),
        rng.uniform(0.1, 3, (2, n)),
        rng.uniform(-w, w, (2, n)),
    )
    if sigma is not None:
        rows, columns = gaussians(h, sigma), gaussians(w, sigma)
        noise = rng.normal(0, 20, (n, 2, rows.shape[1], columns.shape[1])).astype(np.float32)
        field = noise, rows, columns
    result, expected = cpu_warp.warp(x, maps, field), warp(x, maps, field)
    assert (result.dtype, result.shape) == (np.uint8, x.shape)
    np.testing.assert_allclose(result.astype(int), expected.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("augment", [*PRESETS.values(), EVERYTHING])
def test_the_generator_decides_everything(augment: Augment, digits: Images) -> None:
    before = digits.copy()
    first, again, other = (augment(digits, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(digits, before)
    copies = augment(np.repeat(digits[:1], 5, 0), np.random.default_rng(0))
    assert len(np.unique(copies.reshape(5, -1), axis=0)) == 5  # each image has its own amounts


@pytest.mark.parametrize("shape", [(0, 28, 28, 1), (3, 6, 5, 3), (2, 1, 1, 1)])
def test_batches_of_all_shapes(shape: tuple[int, ...]) -> None:
    result = EVERYTHING(images(*shape), np.random.default_rng(0))
    assert (result.dtype, result.shape) == (np.uint8, shape)


def test_nothing_asked_is_nothing_done() -> None:
    x = images(4, 7, 6, 2)
    np.testing.assert_array_equal(Augment()(x, np.random.default_rng(0)), x)
    np.testing.assert_array_equal(View()(x, np.random.default_rng(0)), x)


def test_shifts_and_turns_are_exact_where_pixels_meet_pixels() -> None:
    x, rng = images(2, 9, 9, 1), np.random.default_rng(0)
    shifted = np.zeros_like(x)
    shifted[:, 3:, :-2] = x[:, :-3, 2:]
    np.testing.assert_array_equal(View(down=3, right=-2)(x, rng), shifted)  # black comes in
    turned = View(rotation_deg=90)(x, rng)  # counter-clockwise
    np.testing.assert_allclose(turned.astype(int), np.rot90(x, axes=(1, 2)), rtol=0, atol=1)


def moved(point: tuple[float, float], **amounts: Any) -> NDArray[np.float64]:
    """Where (y, x), in pixels from the middle, goes by an affine map."""
    plain = {"rotation_deg": [0.0], "shear_deg": [0.0], "scale": [[1.0], [1.0]]}
    given: Any = {**plain, "shift": [[0.0], [0.0]], **amounts}
    maps = affine_maps(**given)[0].astype(float)
    return np.linalg.solve(maps[:, :2], np.array(point) - maps[:, 2])


def test_each_amount_does_what_its_name_says() -> None:
    def assert_moves(to: list[float], **amounts: Any) -> None:
        np.testing.assert_allclose(moved((-10.0, 5.0), **amounts), to, atol=1e-4)

    assert_moves([-10, 5])
    assert_moves([-8, 6], shift=[[2.0], [1.0]])
    assert_moves([-5, 10], scale=[[0.5], [2.0]])
    assert_moves([-10, 15], shear_deg=[45.0])  # what is above the middle leans to the right
    assert_moves([-5, -10], rotation_deg=[90.0])  # the top goes to the left


@given(seed=st.integers(0, 99))
def test_no_warp_mirrors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles, shears = rng.uniform(-180, 180, 50), rng.uniform(-80, 80, 50)
    maps = affine_maps(angles, shears, rng.uniform(0.1, 1.9, (2, 50)), np.zeros((2, 50)))
    assert (np.linalg.det(maps[:, :, :2]) > 0).all()


def test_amounts_stay_within_their_range() -> None:
    point = np.zeros((500, 41, 41, 1), np.uint8)
    point[:, 20, 20] = 255
    shifted = Augment(translation=0.25)(point, np.random.default_rng(0))
    place = np.arange(41) - 20
    for axis in (1, 2):
        at = (shifted[..., 0].sum(3 - axis) * place).sum(1) / shifted.sum(axis=(1, 2, 3))
        assert 9.5 < np.abs(at).max() < 41 / 4 + 0.1
        assert abs(at.mean()) < 1


@pytest.mark.parametrize("sigma", [1.0, 3.0, 4.0, 7.5])
def test_the_elastic_field_is_smoothed_noise(sigma: float) -> None:
    augment = Augment(elastic_alpha=30, elastic_sigma=sigma)
    noise, rows, columns = augment._field(2000, 28, 20, np.random.default_rng(0))
    field = rows @ noise @ columns.T
    assert field.shape == (2000, 2, 28, 20)
    spread = field.std(0)
    expected = 30 / np.sqrt(3) / (2 * np.sqrt(np.pi) * sigma)  # of noise at every pixel, smoothed
    np.testing.assert_allclose(spread, expected, rtol=0.1)  # the same everywhere
    along = (field[..., 1:] * field[..., :-1]).mean() / (field**2).mean()
    assert along == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.01)
    between = (field[:, 0] * field[:, 1]).mean() / (field**2).mean()
    assert abs(between) < 0.02  # down and right are drawn apart


def test_text_and_numbers_say_the_same() -> None:
    for name, preset in PRESETS.items():
        assert Augment.parse(name) == preset
        assert Augment.parse(str(preset)) == preset
    assert Augment.parse("none") is None
    assert Augment.parse("scale=0.2, rotation_deg=5") == Augment(scale=0.2, rotation_deg=5)
    strong = Augment.parse("affine,rotation_deg=15")
    assert strong is not None
    assert (strong.rotation_deg, strong.scale) == (15, PRESETS["affine"].scale)
    assert str(Augment()) == "none"
    assert str(Augment(elastic_alpha=20)) == "elastic_alpha=20,elastic_sigma=4"


@pytest.mark.parametrize(
    "amounts",
    [
        {"rotation_deg": -1},
        {"translation": np.nan},
        {"shear_deg": 90},
        {"scale": 1},
        {"elastic_alpha": np.inf},
        {"elastic_sigma": 0},
    ],
)
def test_impossible_amounts_are_refused(amounts: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"augmentation: {next(iter(amounts))} is "):
        Augment(**amounts)


def test_other_arrays_are_refused() -> None:
    maps = affine_maps(*np.zeros((2, 1)), np.ones((2, 1)), np.zeros((2, 1)))
    for wrong in (np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4), np.uint8)):
        with pytest.raises(UserError, match=r"expected uint8 \(N, H, W, C\)"):
            sample(wrong, maps)


def test_views_begin_with_the_image_itself() -> None:
    for views in VIEWS.values():
        assert views[0] == View()
        assert len(set(views)) == len(views)


def test_the_loader_augments_in_its_thread_as_without_one(tiny: Dataset) -> None:
    options: dict[str, Any] = {"seed": 3, "normalize": Normalize(0, 1), "shuffle": True}
    batches = [
        list(Loader(tiny, 5, augment=EVERYTHING, prefetch=prefetch, **options).epoch(1))
        for prefetch in (0, 2)
    ]
    for (x, labels), (other, other_labels) in zip(*batches, strict=True):
        np.testing.assert_array_equal(x, other)
        np.testing.assert_array_equal(labels, other_labels)


def unpacked(path: Path) -> Images:
    """The pixels of a grey PNG file without filters."""
    data, at, chunks = path.read_bytes(), 8, {}
    while at < len(data):
        (size,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + size]
        assert data[at + 8 + size :][:4] == zlib.crc32(kind + content).to_bytes(4, "big")
        chunks[kind] = content
        at += 12 + size
    w, h, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (data[:8], form) == (b"\x89PNG\r\n\x1a\n", [8, 0, 0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(h, w + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_the_picture_shows_each_class_and_its_warps(
    cli: Callable[..., Any], digits: Images
) -> None:
    options = ["--augment", "elastic", "--versions", 3, "--seed", 5]
    run = cli("data.__main__", "augment", *options)
    assert run.code == 0, run.err
    assert run.out == f"augment.png: 10 classes of mnist, {PRESETS['elastic']}\n"
    picture = unpacked(Path("augment.png"))
    assert picture.shape == (10 * 58 + 2, 4 * 58 + 2)  # 28 pixels twice as large, gaps of 2
    cells = picture[2:, 2:].reshape(10, 58, 4, 58)[:, :56:2, :, :56:2].transpose(2, 0, 1, 3)
    train = hwr.data.load("mnist", split="train")
    first = train.images[np.unique(train.labels, return_index=True)[1]]
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(cells[0], first[..., 0])
    for version in cells[1:]:
        np.testing.assert_array_equal(version, PRESETS["elastic"](first, rng)[..., 0])


def test_a_recipe_without_augmentation_has_no_picture(cli: Callable[..., Any]) -> None:
    run = cli("data.__main__", "augment", "--recipe", "fast")
    assert run.code == 2
    assert "fast trains on the images as they are; name another --recipe, or say" in run.err
