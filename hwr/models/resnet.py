"""ResNet-18, the network of Chi, Li and Huang's handwriting recogniser (P0), and its relatives.

Deeper ones (34 and 50 layers), and plain ones, the same layers without shortcuts, to see what the
shortcuts do. Two stems: "7x7", a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2 as in
the paper (28x28 images reach the last stage as 1x1 maps, where 8 of 9 taps of a 3x3 filter see only
padding), and "3x3", one 3x3 convolution, the usual form for small images. State names are
torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor

Block = type[nn.BasicBlock] | type[nn.Bottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (nn.BasicBlock, (2, 2, 2, 2)),  # blocks of each stage
    34: (nn.BasicBlock, (3, 4, 6, 3)),
    50: (nn.Bottleneck, (3, 4, 6, 3)),
}


def stage(
    block: Block,
    shortcut: bool,
    generator: np.random.Generator | None,
    inputs: int,
    width: int,
    count: int,
    stride: int,
) -> nn.Sequential:
    """`count` blocks, the first of which changes the number of channels and the image's size."""
    options: dict[str, Any] = {"shortcut": shortcut, "generator": generator}
    rest = (block(block.expansion * width, width, 1, **options) for _ in range(count - 1))
    return nn.Sequential(block(inputs, width, stride, **options), *rest)


class ResNet(nn.Module):
    """(N, H, W, channels) -> logits (N, classes).

    Stages whose 3x3 convolutions have `width`, 2, 4 and 8 `width` channels; the first block of
    every stage but the first halves the image. The layers that count towards the depth are the
    stem, the convolutions of the blocks' branches and the last, fully connected one: 1 +
    2 (2 + 2 + 2 + 2) + 1 = 18. Without `shortcut` the blocks are plain stacks of layers.

    11,175,370 parameters at 18 layers, 21,283,530 at 34 and 23,522,250 at 50; without shortcuts
    11,001,546, 21,109,706 and 20,745,674.
    Source: He et al. 2015 (Deep Residual Learning), table 1; filters drawn as in its section 3.4.
    """

    def __init__(
        self,
        depth: int,
        shortcut: bool = True,
        *,
        stem: str = "7x7",
        width: int = 64,
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
        block, (n1, n2, n3, n4) = DEPTHS[depth]
        wide, make = block.expansion * width, partial(stage, block, shortcut, generator)
        self.layer1 = make(width, width, n1, 1)
        self.layer2 = make(wide, 2 * width, n2, 2)
        self.layer3 = make(2 * wide, 4 * width, n3, 2)
        self.layer4 = make(4 * wide, 8 * width, n4, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * wide, classes, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, 0.0, "fan_out", "relu", generator)

    def forward(self, x: Any) -> Tensor:
        x = self.maxpool(nn.conv_norm(self.conv1, self.bn1, x, relu=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


for depth in DEPTHS:
    models.register(f"resnet{depth}")(partial(ResNet, depth, True))
    models.register(f"plain{depth}")(partial(ResNet, depth, False))
