"""The family of small convolutional networks that Ahlawat et al. search (P1a).

Their tables of layers are not available. These ones are built after what they report to vary: three
or four convolutions, their sizes, strides, padding and dilation; no pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.functions.conv import resolve_padding
from tinynn.kernels.geometry import conv_output_size
from tinynn.tensor import Tensor

MAPS = (12, 24, 32, 48)
KERNEL_SIZES = {3: (5, 5, 5), 4: (5, 5, 3, 3)}
STRIDES = (1, 2, 2, 1)  # 28x28 pixels end as 7x7


def for_each(layers: int, name: str, value: Any, default: Sequence[int]) -> list[int]:
    """One value a layer: those given, the one given for all, or if none is given the default."""
    value = default[:layers] if value is None else value
    values = list(value) if isinstance(value, Sequence) else [value] * layers
    if len(values) != layers:
        raise ValueError(f"{name} must be one number or {layers}, one a layer, not {value!r}")
    return values


@models.register("ahlawat-cnn")
class AhlawatCNN(nn.Module):
    """(N, 28, 28, channels) -> logits (N, classes); 42,458 parameters, or 51,882 with 4 `layers`.

    conv12 5x5 -> conv24 5x5 s2 -> conv32 5x5 s2 -> FC, or conv12 5x5 -> conv24 5x5 s2 ->
    conv32 3x3 s2 -> conv48 3x3 -> FC; ReLU after each convolution. `maps`, `kernel_size`, `stride`
    and `dilation` are a number for all layers or a list of one a layer; `padding` is "same",
    "valid" or pixels.
    """

    def __init__(
        self,
        *,
        layers: int = 3,
        maps: int | Sequence[int] | None = None,
        kernel_size: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        padding: int | str = "same",
        dilation: int | Sequence[int] | None = None,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        if layers not in KERNEL_SIZES:
            raise ValueError(f"layers must be 3 or 4, not {layers}")
        convolutions: list[nn.Module] = []
        inputs, side = channels, size
        table = (
            for_each(layers, "maps", maps, MAPS),
            for_each(layers, "kernel_size", kernel_size, KERNEL_SIZES[layers]),
            for_each(layers, "stride", stride, STRIDES),
            for_each(layers, "dilation", dilation, (1, 1, 1, 1)),
        )
        for i, (outputs, kernel, step, spread) in enumerate(zip(*table)):
            options: dict[str, Any] = {"stride": step, "padding": padding, "dilation": spread}
            conv = nn.Conv2d(inputs, outputs, kernel, **options, generator=generator)
            window = conv.kernel_size, conv.stride
            (rows, _) = resolve_padding(padding, (side, side), *window, conv.dilation)
            inputs, side = outputs, conv_output_size(side, kernel, step, rows, spread)
            if side < 1:
                raise ValueError(
                    f"layer {i + 1} leaves no pixel of the {size}x{size}; use "
                    "padding 'same', smaller strides or smaller kernels"
                )
            convolutions += [conv, nn.ReLU()]
        self.features = nn.Sequential(*convolutions)
        self.fc = nn.Linear(side * side * inputs, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        return self.fc(F.flatten(self.features(x), 1))
