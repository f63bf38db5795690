"""`python -m benchmarks.kernels --explain`: the choice of an algorithm, printed."""

from collections.abc import Callable
from typing import Any

import pytest

import hwr.models
from tinynn import nn
from tinynn.kernels import cpu_conv, cpu_direct_conv, cpu_dot_conv, cpu_winograd


@pytest.mark.parametrize("stem", ["7x7", "3x3"])
def test_every_layer_is_explained(bench: Callable[..., Any], stem: str) -> None:
    options = ("--stem", stem, "--width", 8, "--batch-size", 4)
    result = bench("kernels", "--explain", "resnet18", *options)
    assert result.code == 0
    assert result.saved is None  # nothing was timed
    model = hwr.models.create("resnet18", stem=stem, width=8)
    named = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    lines = result.out.splitlines()
    assert sorted(named) == sorted(line.split()[0] for line in lines[1:] if line[0] != " ")
    for product in ("forward", "input gradient", "weight gradient"):
        assert result.out.count(product) == len(named)
    assert result.out.count("nobody needs it") == 1  # the gradient of the images
    assert "1 of 9 taps see data" in result.out or stem == "3x3"


def test_layers_of_one_size_are_told_apart(bench: Callable[..., Any]) -> None:
    """512 -> 512: forward and both gradients have the same shapes at batch 512."""
    out = bench("kernels", "--explain", "mlp", "--batch-size", 512).out
    assert out.count("forward") == out.count("weight gradient") == 3
    assert out.count("nobody needs it") == 1


@pytest.mark.parametrize(
    ("images", "size", "method", "why"),
    [  # 7x7 tiles of 16 products beside (14 + 13 + 13)^2 taps inside the image; a tile, a tap
        (16, 14, cpu_winograd, "fewer products: 784 products instead of the 1600 "),
        (40, 1, cpu_direct_conv, "Winograd saves too little: 16 products instead of the 1 "),
        (1, 4, cpu_dot_conv, "16 pixels do not repay the packing"),
    ],
)
def test_what_is_named_is_what_runs(
    monkeypatch: pytest.MonkeyPatch, images: int, size: int, method: Any, why: str
) -> None:
    import numpy as np

    x, w = np.ones((images, size, size, 32), np.float32), np.ones((32, 3, 3, 32), np.float32)
    geometry = (1, 1), ((1, 1), (1, 1)), (1, 1)
    chosen, reason = cpu_conv.choose("conv2d", x.shape, w.shape, *geometry, 1)
    assert chosen is method
    assert reason.startswith(why)
    ran, kernel = [], method.conv2d
    monkeypatch.setattr(method, "conv2d", lambda *args: ran.append(1) or kernel(*args))
    cpu_conv.conv2d(x, w, *geometry, 1)
    assert ran == [1]


def test_a_model_that_reads_strings_is_explained(bench: Callable[..., Any]) -> None:
    result = bench("kernels", "--explain", "zhan-dense", "--batch-size", 2)
    assert result.code == 0
    assert "block1.convs.0" in result.out
    assert result.out.count("nobody needs it") == 1  # the gradient of the images
