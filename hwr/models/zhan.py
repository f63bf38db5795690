"""The dense network for strings of digits of Zhan et al. (P1e): no recurrence, no segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


class DenseBlock(nn.Module):
    """`layers` times BN -> ReLU -> conv 3x3, each reading all before it and adding `growth` maps.

    (N, H, W, C) -> (N, H, W, C + layers growth): the input, then what each layer has found.
    Source: Huang et al. 2017 (Densely Connected Convolutional Networks), eq. 2.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        growth: int,
        *,
        generator: np.random.Generator | None = None,
    ):
        inputs = range(channels, channels + layers * growth, growth)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in inputs)
        self.convs = nn.ModuleList(
            nn.Conv2d(c, growth, 3, padding=1, bias=False, generator=generator) for c in inputs
        )

    def forward(self, x: Any) -> Tensor:
        for norm, conv in zip(self.norms, self.convs):
            x = F.cat([x, conv(norm(x, relu=True))], 3)
        return x


class Transition(nn.Module):
    """BN -> ReLU -> conv 1x1 -> mean of 2x2 pixels: (N, H, W, C) -> (N, H/2, W/2, outputs).

    The mean is taken before the convolution: both are linear and the one is over pixels, the other
    over channels, so the result is the same for a quarter of the work.
    """

    def __init__(
        self, channels: int, outputs: int, *, generator: np.random.Generator | None = None
    ):
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, outputs, 1, bias=False, generator=generator)

    def forward(self, x: Any) -> Tensor:
        return self.conv(F.avg_pool2d(self.norm(x, relu=True), 2))


@models.register("zhan-dense")
class ZhanDense(nn.Module):
    """(N, height, W, channels) -> logits (T, N, 1 + classes), T = W/8 steps; sign 0 is the blank.

    conv `stem` 5x5 s2 -> (dense block -> transition) twice -> dense block -> BN -> ReLU -> FC. A
    step is a column of the last feature maps. `layers` of every block, or of each of the three.
    291,211 parameters; the small one, with `stem` 32, `layers` 4 and `transition` 64, 73,803. The
    paper gives no sizes. Any width of 8 or more.
    """

    def __init__(
        self,
        *,
        stem: int = 64,
        layers: int | Sequence[int] = 8,
        growth: int = 8,
        transition: int = 128,
        classes: int = 10,
        channels: int = 1,
        height: int = 32,
        generator: np.random.Generator | None = None,
    ):
        if height < 8:
            raise ValueError(f"height is halved three times: 8 or more, not {height}")
        of_block = (layers,) * 3 if isinstance(layers, int) else tuple(layers)
        if len(of_block) != 3 or min(of_block) < 1:
            raise ValueError(f"layers is {layers}, expected one number or three, of 1 or more")
        self.height = height
        self.conv1 = nn.Conv2d(channels, stem, 5, 2, 2, bias=False, generator=generator)
        self.block1 = DenseBlock(stem, of_block[0], growth, generator=generator)
        wide = stem + of_block[0] * growth
        self.transition1 = Transition(wide, transition, generator=generator)
        self.block2 = DenseBlock(transition, of_block[1], growth, generator=generator)
        wide = transition + of_block[1] * growth
        self.transition2 = Transition(wide, transition, generator=generator)
        self.block3 = DenseBlock(transition, of_block[2], growth, generator=generator)
        wide = transition + of_block[2] * growth
        self.norm = nn.BatchNorm2d(wide)
        rows = (height + 1) // 2 // 2 // 2
        self.fc = nn.Linear(rows * wide, 1 + classes, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.0, "fan_in", "relu", generator)

    def forward(self, x: Any) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.height or x.shape[2] < 7:
            raise ValueError(
                f"zhan-dense: images are {x.shape}, expected (N, {self.height}, W, channels) and "
                "W of 8 or more; make the model with another height, or resize the images"
            )
        x = self.transition1(self.block1(self.conv1(x)))
        x = self.norm(self.block3(self.transition2(self.block2(x))), relu=True)
        columns = F.flatten(F.permute(x, (0, 2, 1, 3)), 2)  # (N, T, H C)
        return F.permute(self.fc(columns), (1, 0, 2))
