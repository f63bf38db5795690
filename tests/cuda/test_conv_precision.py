"""Convolutions in TF32 and bf16 are as exact as their operands, and no less."""

from collections.abc import Iterator

import numpy as np
import pytest

import tinynn as tn
from tinynn.backend import get_backend
from tinynn.kernels import cuda_conv
from tinynn.kernels.cuda_conv import BF16, TF32, TILES, Plan, Tile

SAME = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
HALF = ((2, 2), ((0, 1), (1, 0)), (1, 1), 1)


@pytest.fixture(autouse=True)
def precision_comes_back() -> Iterator[None]:
    before = tn.get_float32_matmul_precision()
    yield
    tn.set_float32_matmul_precision(before)


LIMITS = {"highest": (0, 1e-6), "high": (5e-5, 1e-3), "medium": (5e-4, 1e-2)}


def relative_error(got: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(got - true) / np.linalg.norm(true))


def check_triplet(
    device: str, precision: str, n: int, size: int, c: int, oc: int, geometry: tuple
) -> None:
    """The triplet's errors are those of operands so precise; what is added has none."""
    rng = np.random.default_rng(0)
    reference, backend = get_backend("reference"), get_backend(device)
    x, w = rng.standard_normal((n, size, size, c)), rng.standard_normal((oc, 3, 3, c))
    y = reference.conv2d(x, w, *geometry)
    dy, residual = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    calls = [
        ("conv2d", (x, w, *geometry)),
        ("conv2d_input_grad", (dy, w, x.shape, *geometry, residual)),
        ("conv2d_weight_grad", (dy, x, w.shape, *geometry)),
    ]
    tn.set_float32_matmul_precision(precision)
    least, most = LIMITS[precision]
    for name, arguments in calls:
        true = reference.kernels[name](*arguments)
        given = [
            backend.asarray(a.astype(np.float32)) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        got = backend.to_numpy(backend.kernels[name](*given))
        assert least <= relative_error(got, true) <= most, name


@pytest.mark.parametrize(
    ("precision", "size", "c", "oc", "geometry"),
    [
        ("highest", 5, 16, 68, SAME),
        ("high", 5, 16, 68, SAME),
        ("high", 6, 4, 12, HALF),
        ("medium", 5, 16, 68, SAME),
    ],
)
def test_the_triplet_in_each_precision(
    device: str, precision: str, size: int, c: int, oc: int, geometry: tuple
) -> None:
    check_triplet(device, precision, 3, size, c, oc, geometry)


@pytest.mark.parametrize(
    ("tile", "splits", "precision", "size", "c", "oc", "geometry"),
    [
        (TILES[TF32][0], 1, "high", 5, 64, 68, SAME),
        (TILES[BF16][0], 2, "medium", 4, 64, 132, SAME),  # many taps see padding alone
        (TILES[TF32][1], 3, "high", 7, 32, 96, HALF),
        (TILES[TF32][1], 1, "high", 5, 5, 70, SAME),  # copied one by one
        (TILES[BF16][1], 2, "medium", 5, 12, 68, SAME),
        (TILES[TF32][2], 5, "high", 4, 64, 32, SAME),
        (TILES[BF16][2], 3, "medium", 7, 20, 96, HALF),
    ],
)
def test_each_tile_and_a_split_depth(
    device: str, tile: Tile, splits: int, precision: str, size: int, c: int, oc: int,
    geometry: tuple, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cuda_conv, "choose_plan", lambda *sizes: Plan(tile, splits))
    check_triplet(device, precision, 9, size, c, oc, geometry)


@pytest.mark.parametrize("precision", [TF32, BF16])
def test_large_products_get_large_tiles_and_few_tiles_split(precision: int) -> None:
    """Stages of ResNet-18 at batch 128: the last multiplies few pixels by many filters."""
    first = cuda_conv.choose_plan(128 * 28 * 28, 64, 9 * 64, precision)
    last = cuda_conv.choose_plan(128, 512, 512, precision)
    assert first.tile.rows == 128
    assert first.splits == 1
    assert last.tile == TILES[precision][-1]
    assert last.splits > 1


def test_more_taps_than_a_block_lists_are_the_reference_s(device: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 33, 33, 1)), rng.standard_normal((1, 33, 33, 1))
    backend, geometry = get_backend(device), ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    given = [backend.asarray(a.astype(np.float32)) for a in (x, w)]
    y = backend.conv2d(*given, *geometry)
    np.testing.assert_allclose(y.get(), (x * w).sum().reshape(1, 1, 1, 1), rtol=1e-4)
    dx = backend.conv2d_input_grad(y, given[1], x.shape, *geometry)
    np.testing.assert_allclose(dx.get(), w * y.get(), rtol=1e-4)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="highest, high, medium, not 'tf32'"):
        tn.set_float32_matmul_precision("tf32")
