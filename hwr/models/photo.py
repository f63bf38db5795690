"""The network that reads photographs, small enough to ship with the package."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("photo-cnn")
class PhotoCNN(nn.Module):
    """(N, 28, 28, channels) -> logits (N, classes); 245,363 parameters with 11 classes.

    conv24 5x5 -> pool -> BN -> ReLU -> conv48 3x3 -> BN -> ReLU -> pool -> conv64 3x3 -> BN ->
    ReLU -> dropout -> FC 128 -> BN -> ReLU -> FC; the last convolution padded. Quick, because a
    photograph asks for thousands of readings: every cut of touching digits is tried.
    """

    def __init__(
        self,
        *,
        classes: int = 11,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        after = ((size - 4) // 2 - 2) // 2  # height and width of the last feature maps
        self.conv1 = nn.Conv2d(channels, 24, 5, bias=False, generator=generator)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 48, 3, bias=False, generator=generator)
        self.bn2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False, generator=generator)
        self.bn3 = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(0.2, generator=generator)
        self.fc1 = nn.Linear(after * after * 64, 128, bias=False, generator=generator)
        self.bn4 = nn.BatchNorm1d(128)
        self.fc2 = nn.Linear(128, classes, generator=generator)

    def forward(self, x: Any) -> Tensor:
        x = self.bn1(F.max_pool2d(self.conv1(x), 2), relu=True)
        x = F.max_pool2d(self.bn2(self.conv2(x), relu=True), 2)
        x = self.bn3(self.conv3(x), relu=True)
        x = self.dropout(F.flatten(x, 1))
        return self.fc2(self.bn4(self.fc1(x), relu=True))
