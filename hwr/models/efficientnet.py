"""EfficientNet-B0 for small images, the largest network of Zhang's comparison (P4).

The trunk is Keras's (its padding, batch norm and initial weights) under torchvision's state names;
the head is the paper's.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor

STAGES = (  # kernel, blocks, channels, expansion, stride of the first block
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
BLOCKS = sum(blocks for _, blocks, *_ in STAGES)
DROP = 0.2  # probability that the branch of block b of BLOCKS is dropped: DROP b / BLOCKS


@models.register("efficientnet-b0")
class EfficientNetB0(nn.Module):
    """(N, size, size, channels) -> logits (N, classes); 4,667,974 parameters at 32x32.

    Stem conv32 3x3 s2, 16 MBConv blocks, conv1280 1x1; flatten -> FC 512 -> ReLU -> dropout .2 ->
    FC. The image is halved five times, so that 32x32 pixels end as one. The stem has `width`
    channels, and all other layers of the trunk their share, in multiples of 8.
    Source: Tan and Le 2019 (EfficientNet), table 1.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        classes: int = 10,
        channels: int = 1,
        size: int = 32,
        generator: np.random.Generator | None = None,
    ):
        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 32 / 8) * 8)

        norm = keras.batch_norm
        conv = partial(nn.Conv2dNormActivation, norm_layer=norm, generator=generator)
        block = partial(nn.MBConv, norm_layer=norm, generator=generator)
        parts: list[nn.Module] = [conv(channels, width, 3, 2)]
        inputs, b = width, 0
        for kernel, blocks, outputs, expand, stride in STAGES:
            stage = []
            for i in range(blocks):
                shape = inputs, scaled(outputs), kernel, 1 if i else stride
                stage.append(block(*shape, expand, DROP * b / BLOCKS))
                inputs, b = scaled(outputs), b + 1
            parts.append(nn.Sequential(*stage))
        self.features = nn.Sequential(*parts, conv(inputs, scaled(1280), 1))
        after = math.ceil(size / 32)  # height and width of the last feature maps
        self.fc1 = nn.Linear(after * after * scaled(1280), 512, generator=generator)
        self.dropout = nn.Dropout(0.2, generator=generator)
        self.fc2 = nn.Linear(512, classes, generator=generator)
        keras.initialise(self, generator)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):  # fan_out of one group, as Keras counts it
                scale = 2.0 * module.groups
                nn.init.variance_scaling_(module.weight, scale, "fan_out", generator=generator)

    def forward(self, x: Any) -> Tensor:
        x = F.flatten(self.features(x), 1)
        return self.fc2(self.dropout(self.fc1(x, relu=True)))
