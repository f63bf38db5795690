"""The networks of Jin, Qian and Wang (P3) that tell from a patch of handwriting who wrote it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor

MAPS = {3: (32, 64, 128), 4: (32, 32, 64, 128)}  # of each convolution
SMALL = 56  # pixels: what a patch is reduced to
DROPOUT = (0.4, 0.4, 0.5)


@models.register("jin-writers")
class JinWriters(nn.Module):
    """(N, size, size, channels) -> logits (N, classes); 827,186 parameters at 50 writers.

    border of 1 -> 56x56 -> conv32 3x3 s2 -> pool -> conv64 3x3 -> pool -> conv128 3x3 -> pool ->
    dropout .4 -> FC 512 -> dropout .4 -> FC 256 -> dropout .5 -> FC, ReLU after each but the last.
    With `layers` 4 the maps are 32, 32, 64 and 128: 312,146 parameters. `dropout` False has none.

    The paper gives the sizes of the first and the number of parameters of both; only these widths
    make the second's, with its last map of one pixel.
    """

    def __init__(
        self,
        *,
        layers: int = 3,
        dropout: bool = True,
        classes: int = 50,
        channels: int = 1,
        size: int = 113,
        generator: np.random.Generator | None = None,
    ):
        if layers not in MAPS:
            raise ValueError(f"layers is {layers}, expected 3 or 4")
        maps = MAPS[layers]
        self.size = size
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, 1 if i else 2, "same", generator=generator)
            for i, (inputs, outputs) in enumerate(zip((channels, *maps), maps))
        )
        side = SMALL // 2 // 2**layers  # of the last maps
        widths = (side * side * maps[-1], 512, 256, classes)
        self.fcs = nn.ModuleList(nn.Linear(*pair, generator=generator) for pair in pairwise(widths))
        rates = DROPOUT if dropout else (0.0,) * len(DROPOUT)
        self.dropouts = nn.ModuleList(nn.Dropout(rate, generator=generator) for rate in rates)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        if x.ndim != 4 or x.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"jin-writers: images are {x.shape}, expected (N, {self.size}, {self.size}, "
                "channels); make the model with another size, or cut other patches"
            )
        x = F.interpolate(F.pad(x, (0, 0, 1, 1, 1, 1)), SMALL, mode="bilinear")
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = F.flatten(x, 1)
        for dropout, fc in zip(self.dropouts, self.fcs):
            x = fc(dropout(x))
            if fc is not self.fcs[-1]:
                x = F.relu(x)
        return x
