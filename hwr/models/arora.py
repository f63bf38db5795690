"""The two networks of Arora and Bhatia (P2): feed-forward, 784-512-512-10, and convolutional."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("mlp")
class MLP(nn.Module):
    """(N, H, W, channels) -> logits (N, classes), two hidden layers of `width` with ReLU.

    669,706 parameters at 28x28.
    """

    def __init__(
        self,
        *,
        width: int = 512,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        self.fc1 = nn.Linear(size * size * channels, width, generator=generator)
        self.fc2 = nn.Linear(width, width, generator=generator)
        self.fc3 = nn.Linear(width, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        x = self.fc1(F.flatten(x, 1), relu=True)
        return self.fc3(self.fc2(x, relu=True))


@models.register("arora-cnn")
class AroraCNN(nn.Module):
    """(N, 28, 28, channels) -> logits (N, classes); 1,199,882 parameters.

    conv32 3x3 -> ReLU -> conv64 3x3 -> ReLU -> pool -> dropout .25 -> FC 128 -> ReLU ->
    dropout .5 -> FC. The paper names the kinds of layers; their sizes are of Keras's MNIST example.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        after = (size - 4) // 2  # height and width of the pooled feature maps
        self.conv1 = nn.Conv2d(channels, 32, 3, generator=generator)
        self.conv2 = nn.Conv2d(32, 64, 3, generator=generator)
        self.dropout1 = nn.Dropout(0.25, generator=generator)
        self.fc1 = nn.Linear(after * after * 64, 128, generator=generator)
        self.dropout2 = nn.Dropout(0.5, generator=generator)
        self.fc2 = nn.Linear(128, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
        return self.fc2(self.dropout2(self.fc1(x, relu=True)))
