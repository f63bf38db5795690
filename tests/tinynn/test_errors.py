"""What does not fit is refused with one message that holds both values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F
from tinynn import nn


def zeros(*shape: int) -> tn.Tensor:
    return tn.Tensor(np.zeros(shape, "float32"))


# what is called; what the message must hold
FUNCTIONS: list[tuple[Callable[[], Any], list[str]]] = [
    (lambda: zeros(2, 3) + zeros(2, 4), ["add:", "(2, 3)", "(2, 4)"]),
    (lambda: zeros(2, 3) / zeros(4), ["div:", "(2, 3)", "(4,)"]),
    (lambda: F.where(np.ones(3, bool), zeros(2), 0.0), ["where:", "(3,)", "(2,)"]),
    (lambda: F.clip(zeros(2)), ["clip:", "min, max or both"]),
    (lambda: zeros(2, 3).reshape(4, -1), ["reshape:", "(2, 3)", "6 elements", "(4, -1)"]),
    (lambda: zeros(2, 3).reshape(-1, -1), ["reshape:", "(2, 3)", "(-1, -1)"]),
    (lambda: zeros(2, 3).flatten(1, 0), ["flatten:", "start_dim 1", "end_dim 0"]),
    (lambda: zeros(2, 3).flatten(5), ["flatten:", "dim 5", "2 dimensions"]),
    (lambda: zeros(2, 3).permute(0, 0), ["permute:", "(0, 0)", "(2, 3)"]),
    (lambda: zeros(2, 3).permute(0, 3), ["permute:", "dim 3", "2 dimensions"]),
    (lambda: zeros(2, 3).transpose(0, 2), ["transpose:", "dim 2", "2 dimensions"]),
    (lambda: zeros(2, 3, 4).T, ["T:", "(2, 3, 4)", "permute"]),
    (lambda: F.cat([zeros(2, 3), zeros(2, 4)]), ["cat:", "(2, 3)", "(2, 4)", "dim 0"]),
    (lambda: F.cat([zeros(2), zeros(2)], 1), ["cat:", "dim 1", "1 dimensions"]),
    (lambda: F.cat([]), ["cat:", "no tensors"]),
    (lambda: F.stack([zeros(2), zeros(3)]), ["stack:", "(2,)", "(3,)", "cat"]),
    (lambda: F.stack([zeros(2)], 3), ["stack:", "dim 3"]),
    (lambda: F.pad(zeros(2, 3), [1]), ["pad:", "1 widths", "2 dimensions"]),
    (lambda: F.pad(zeros(2, 3), [-2, -2]), ["pad:", "(-2, -2)", "(2, 3)"]),
    (lambda: F.pad(zeros(2, 3), [1, 1], mode="reflect"), ["pad:", "'reflect'", "'constant'"]),
    (lambda: F.take_along_dim(zeros(2, 3), [0], 1), ["take_along_dim:", "(1,)", "(2, 3)"]),
    (lambda: F.take_along_dim(zeros(2), zeros(1), 0), ["take_along_dim:", "float32"]),
    (lambda: zeros(2, 3).sum(2), ["sum:", "dim 2", "2 dimensions"]),
    (lambda: zeros(2, 3).mean((0, -2)), ["mean:", "(0, -2)", "twice"]),
    (lambda: zeros(1, 3).var(0), ["var:", "1 element", "(1, 3)", "correction=0"]),
    (lambda: zeros(2, 3).softmax(2), ["softmax:", "dim 2", "2 dimensions"]),
    (lambda: F.gelu(zeros(2), "exact"), ["gelu:", "'exact'", "'none' or 'tanh'"]),
    (lambda: zeros(2, 3) @ zeros(2, 3), ["matmul:", "(2, 3)", "3 columns", "2 rows"]),
    (lambda: zeros(2, 3, 4) @ zeros(3, 4, 5), ["matmul:", "(2, 3, 4)", "(3, 4, 5)"]),
    (lambda: zeros() @ zeros(3), ["matmul:", "()", "(3,)"]),
    (lambda: F.linear(zeros(2, 3), zeros(5, 4)), ["linear:", "3 features", "(5, 4)", "expects 4"]),
    (lambda: F.linear(zeros(2, 3), zeros(5, 3), zeros(4)), ["linear: bias", "(4,)", "(5,)"]),
    (
        lambda: F.conv2d(zeros(8, 28, 28, 3), zeros(64, 3, 3, 1)),
        ["3 channels", "expects 1", "(8, 28, 28, 3)", "(64, 3, 3, 1)", "in_channels=3"],
    ),
    (lambda: F.conv2d(zeros(28, 28, 1), zeros(4, 3, 3, 1)), ["conv2d:", "(N, H, W, C)"]),
    (
        lambda: F.conv2d(zeros(1, 2, 9, 1), zeros(4, 3, 3, 1), dilation=2),
        ["conv2d:", "height 2", "3 taps", "dilation 2"],
    ),
    (
        lambda: F.conv2d(zeros(1, 5, 5, 2), zeros(3, 3, 3, 1), groups=2),
        ["conv2d:", "3 filters", "2 groups"],
    ),
    (
        lambda: F.conv2d(zeros(1, 5, 5, 1), zeros(4, 3, 3, 1), zeros(3)),
        ["conv2d: bias", "(3,)", "(4,)"],
    ),
    (lambda: F.conv2d(zeros(1, 5, 5, 1), zeros(1, 3, 3, 1), padding="full"), ["'full'"]),
    (lambda: F.conv2d(zeros(1, 5, 5, 1), zeros(1, 3, 3, 1), stride=0), ["stride", "0"]),
    (lambda: F.conv2d(zeros(1, 5, 5, 1), zeros(1, 3, 3, 1), padding=-1), ["padding", "-1"]),
    (lambda: F.max_pool2d(zeros(5, 5, 1), 2), ["max_pool2d:", "(5, 5, 1)", "(N, H, W, C)"]),
    (lambda: F.max_pool2d(zeros(1, 2, 9, 1), 3), ["max_pool2d:", "height 2", "window of 3"]),
    (lambda: F.avg_pool2d(zeros(1, 9, 2, 1), 3), ["avg_pool2d:", "width 2", "window of 3"]),
    (lambda: F.max_pool2d(zeros(1, 9, 9, 1), 3, padding=2), ["padding 2", "kernel 3"]),
    (lambda: F.avg_pool2d(zeros(1, 9, 9, 1), 3, divisor_override=0), ["divisor_override"]),
    (lambda: F.adaptive_avg_pool2d(zeros(1, 9, 9, 1), 2), ["adaptive_avg_pool2d:", "not 2"]),
    (lambda: F.interpolate(zeros(5, 5, 1), 2), ["interpolate:", "(N, H, W, C)", "(5, 5, 1)"]),
    (lambda: F.interpolate(zeros(1, 5, 5, 1)), ["interpolate:", "size or scale_factor"]),
    (lambda: F.interpolate(zeros(1, 5, 5, 1), 0), ["interpolate: size", "at least 1", "0"]),
    (lambda: F.interpolate(zeros(1, 5, 5, 1), scale_factor=0.1), ["interpolate: size", "(0, 0)"]),
    (lambda: F.interpolate(zeros(1, 5, 5, 1), 2, mode="cubic"), ["nearest", "'cubic'"]),
    (
        lambda: F.interpolate(zeros(1, 5, 5, 1), 2, mode="area", align_corners=True),
        ["align_corners", "bilinear", "'area'"],
    ),
    (
        lambda: F.batch_norm(zeros(4, 3), zeros(2), zeros(2), training=True),
        ["batch_norm:", "3 channels", "running_mean", "(2,)", "num_features=3"],
    ),
    (
        lambda: F.batch_norm(zeros(4, 3), None, None, training=True, residual=zeros(4, 1)),
        ["batch_norm:", "(4, 1)", "(4, 3)"],
    ),
    (
        lambda: F.conv2d_batch_norm(
            zeros(1, 5, 5, 2),
            zeros(4, 3, 3, 2),
            ((1, 1), 0, (1, 1), 1),
            (zeros(4), zeros(4)),
            zeros(4),
            zeros(4),
            residual=zeros(1, 5, 5, 4),
        ),
        ["conv2d_batch_norm:", "residual (1, 5, 5, 4)", "(1, 3, 3, 4)"],
    ),
    (
        lambda: F.conv2d_batch_norm(
            zeros(1, 5, 5, 2),
            zeros(4, 3, 3, 2),
            ((1, 1), 0, (1, 1), 1),
            (zeros(3), zeros(3)),
            zeros(3),
            zeros(3),
        ),
        ["conv2d_batch_norm:", "4 filters", "(3,)", "num_features=4"],
    ),
    (lambda: F.batch_norm(zeros(4, 3), None, None), ["batch_norm:", "running_mean"]),
    (lambda: F.batch_norm(zeros(1, 3), None, None, training=True), ["(1, 3)", "1 value"]),
    (lambda: F.layer_norm(zeros(2, 3), 4), ["layer_norm:", "(2, 3)", "(4,)"]),
    (lambda: F.layer_norm(zeros(2, 3), 3, zeros(2)), ["layer_norm: weight", "(2,)", "(3,)"]),
    (lambda: F.cross_entropy(zeros(2, 3), [0]), ["cross_entropy:", "(1,)", "(2, 3)", "(2,)"]),
    (lambda: F.cross_entropy(zeros(2, 3), [0, 3]), ["label 3", "sample 1", "3 classes"]),
    (lambda: F.cross_entropy(zeros(2, 3), zeros(2, 4)), ["(2, 4)", "(2, 3)"]),
    (lambda: F.cross_entropy(zeros(2, 3), [0, 1], zeros(2)), ["weight", "(2,)", "(3,)"]),
    (lambda: F.cross_entropy(zeros(2, 3), [0, 1], reduction="avg"), ["'avg'", "'mean'"]),
    (lambda: F.cross_entropy(zeros(2, 3), [0, 1], label_smoothing=2), ["label_smoothing 2"]),
    (lambda: F.nll_loss(zeros(2, 3), [0]), ["nll_loss:", "(1,)", "(2, 3)"]),
    (lambda: F.mse_loss(zeros(2, 1), zeros(2)), ["mse_loss:", "(2, 1)", "(2,)"]),
    (lambda: F.multi_margin_loss(zeros(2, 3), [0]), ["multi_margin_loss:", "(2, 3)", "(1,)"]),
    (lambda: F.dropout(zeros(2), 1.5), ["dropout:", "1.5"]),
    (lambda: F.stochastic_depth(zeros(2), -0.1), ["stochastic_depth:", "-0.1"]),
    (lambda: F.stochastic_depth(zeros(2), 0.1, "rows"), ["'row'", "'batch'", "'rows'"]),
    (lambda: zeros(2, 3).item(), ["item:", "6 elements", "(2, 3)"]),
]

LAYERS: list[tuple[Callable[[], Any], list[str]]] = [
    (lambda: nn.Linear(3, 2)(zeros(1, 4)), ["linear:", "4 features", "expects 3"]),
    (lambda: nn.Linear(0, 2), ["Linear:", "in_features", "0"]),
    (lambda: nn.Linear(3, 2.5), ["Linear:", "out_features", "2.5"]),  # type: ignore[arg-type]
    (lambda: nn.Conv2d(3, 2, 3)(zeros(1, 9, 9, 1)), ["1 channels", "expects 3"]),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ["Conv2d:", "3 input", "4 output", "2 groups"]),
    (lambda: nn.Conv2d(1, 1, 0), ["Conv2d: kernel_size", "0"]),
    (lambda: nn.BatchNorm2d(3)(zeros(4, 3)), ["BatchNorm2d:", "4 dimensions", "(4, 3)"]),
    (lambda: nn.BatchNorm1d(3)(zeros(1, 2, 2, 3)), ["BatchNorm1d:", "2 dimensions"]),
    (lambda: nn.BatchNorm2d(3)(zeros(1, 2, 2, 4)), ["4 channels", "(3,)", "num_features=4"]),
    (lambda: nn.LayerNorm(3)(zeros(2, 4)), ["layer_norm:", "(2, 4)", "(3,)"]),
    (lambda: nn.MaxPool2d(3)(zeros(1, 2, 2, 1)), ["max_pool2d:", "height 2", "window of 3"]),
    (lambda: nn.AdaptiveAvgPool2d(2), ["AdaptiveAvgPool2d:", "not 2"]),
    (lambda: nn.Dropout(2), ["Dropout:", "2"]),
    (lambda: nn.BasicBlock(2, 2)(zeros(1, 4, 4, 3)), ["3 channels", "expects 2"]),
]


def numbered(cases: list[Any]) -> list[Any]:
    """Each case under the beginning of its message."""
    return [pytest.param(*case, id=f"{i}-{case[1][0]}") for i, case in enumerate(cases)]


@pytest.mark.parametrize(("call", "parts"), numbered(FUNCTIONS + LAYERS))
def test_the_message_holds_both_values(call: Callable[[], Any], parts: list[str]) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the parts are looked for below)
        call()
    message = str(raised.value)
    missing = [part for part in parts if part not in message]
    assert not missing, message
    assert "\n" not in message


def wrong(value: Any) -> Any:
    """A value of a type that the type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (
            lambda: F.conv2d(zeros(1, 5, 5, 1), zeros(1, 3, 3, 1), stride=wrong(1.5)),
            ["stride", "1.5"],
        ),
        (lambda: F.max_pool2d(zeros(1, 5, 5, 1), wrong("2")), ["max_pool2d: kernel_size", "'2'"]),
        (lambda: F.max_pool2d(zeros(1, 5, 5, 1), 2, dilation=wrong(0.5)), ["max_pool2d: dilation"]),
        (lambda: F.where(zeros(2), zeros(2), zeros(2)), ["where:", "boolean", "float32"]),
        (lambda: tn.Tensor([1], requires_grad=True), ["int64", "dtype='float32'"]),
    ],
)
def test_wrong_types_are_type_errors(call: Callable[[], Any], parts: list[str]) -> None:
    with pytest.raises(TypeError) as raised:
        call()
    assert all(part in str(raised.value) for part in parts)


def test_nothing_is_counted_by_a_batch_norm_that_refuses_its_input() -> None:
    layer = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="1 value"):
        layer(zeros(1, 1, 1, 3))
    assert layer.num_batches_tracked is not None
    assert layer.num_batches_tracked.item() == 0
