"""ResNet-18, the network of Chi, Li and Huang's handwriting recogniser (P0).

Two stems: "7x7", a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2 as in the paper
(28x28 images reach the last stage as 1x1 maps, where 8 of 9 taps of a 3x3 filter see only padding),
and "3x3", one 3x3 convolution, the usual form for small images. State names are torchvision's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


def stage(
    inputs: int, outputs: int, stride: int, shortcut: bool, generator: np.random.Generator | None
) -> nn.Sequential:
    """Two BasicBlocks, the first of which changes the number of channels and halves the image."""
    return nn.Sequential(
        nn.BasicBlock(inputs, outputs, stride, shortcut, generator=generator),
        nn.BasicBlock(outputs, outputs, 1, shortcut, generator=generator),
    )


@models.register("resnet18")
class ResNet18(nn.Module):
    """(N, H, W, channels) -> logits (N, classes).

    Stages of `width`, 2, 4 and 8 `width` channels; every stage but the first halves the image.
    1 + 2 (2 + 2 + 2 + 2) + 1 = 18 layers. Without `shortcut` the blocks are plain stacks of layers.
    Source: He et al. 2015 (Deep Residual Learning), table 1; filters drawn as in its section 3.4.
    """

    def __init__(
        self,
        *,
        stem: str = "7x7",
        width: int = 64,
        shortcut: bool = True,
        classes: int = 10,
        channels: int = 1,
        generator: np.random.Generator | None = None,
    ):
        if stem not in ("7x7", "3x3"):
            raise ValueError(f"stem must be '7x7' or '3x3', not {stem!r}")
        size, stride, padding = (7, 2, 3) if stem == "7x7" else (3, 1, 1)
        self.conv1 = nn.Conv2d(
            channels, width, size, stride, padding, bias=False, generator=generator
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "7x7" else nn.Identity()
        self.layer1 = stage(width, width, 1, shortcut, generator)
        self.layer2 = stage(width, 2 * width, 2, shortcut, generator)
        self.layer3 = stage(2 * width, 4 * width, 2, shortcut, generator)
        self.layer4 = stage(4 * width, 8 * width, 2, shortcut, generator)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.0, "fan_out", "relu", generator)

    def forward(self, x: Any) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x), relu=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


@models.register("plain18")
def plain18(
    *,
    stem: str = "7x7",
    width: int = 64,
    classes: int = 10,
    channels: int = 1,
    generator: np.random.Generator | None = None,
) -> ResNet18:
    """ResNet-18 without its shortcuts: 11,001,546 parameters, and the harder to train.

    Source: He et al. 2015 (Deep Residual Learning), section 3.3, the plain network.
    """
    sizes = {"width": width, "classes": classes, "channels": channels}
    return ResNet18(stem=stem, shortcut=False, generator=generator, **sizes)
