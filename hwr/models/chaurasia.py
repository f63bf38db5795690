"""A convolutional network for Indian numerals, after Chaurasia and Agarwal (P1c).

They describe none; this one is of the usual kind for 32x32 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("chaurasia-cnn")
class ChaurasiaCNN(nn.Module):
    """(N, 32, 32, channels) -> logits (N, classes); 356,234 parameters.

    conv 3x3 of 32, 64 and 128 maps, each with ReLU and a 2x2 max-pool -> FC `features` ->
    ReLU -> dropout -> FC.
    """

    def __init__(
        self,
        *,
        features: int = 128,
        dropout: float = 0.5,
        classes: int = 10,
        channels: int = 1,
        size: int = 32,
        generator: np.random.Generator | None = None,
    ):
        if size < 8:
            raise ValueError(f"size is halved three times: 8 or more, not {size}")
        after = size // 8  # height and width of the pooled feature maps
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1, generator=generator)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, generator=generator)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, generator=generator)
        self.fc1 = nn.Linear(after * after * 128, features, generator=generator)
        self.dropout = nn.Dropout(dropout, generator=generator)
        self.fc2 = nn.Linear(features, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc2(self.dropout(self.fc1(F.flatten(x, 1), relu=True)))
