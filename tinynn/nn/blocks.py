"""Residual blocks."""

from __future__ import annotations

from typing import Any

from tinynn.nn.init import Generator
from tinynn.nn.layers import BatchNorm2d, Conv2d
from tinynn.nn.module import Module, Sequential
from tinynn.tensor import Tensor


class BasicBlock(Module):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut), two 3x3 convolutions around a shortcut.

    (N, H, W, in_channels) -> (N, H/stride, W/stride, out_channels). The shortcut is x itself, so
    d loss/dx = d loss/dy (1 + dF/dx): the "1" reaches every layer however deep. Where the shape
    changes it is a 1x1 convolution (`downsample`), option B of the paper.
    Source: He et al. 2015 (Deep Residual Learning), figure 2 and eq. 1-2.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, generator: Generator = None
    ):
        options: dict[str, Any] = {"bias": False, "generator": generator}
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, 1, **options)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, 1, 1, **options)
        self.bn2 = BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = Sequential(
                Conv2d(in_channels, out_channels, 1, stride, **options), BatchNorm2d(out_channels)
            )

    def forward(self, x: Any) -> Tensor:
        shortcut = self.downsample(x) if self.downsample else x
        y = self.bn1(self.conv1(x), relu=True)
        return self.bn2(self.conv2(y), residual=shortcut, relu=True)
