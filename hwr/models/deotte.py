"""A reference for what one convolutional network reaches on MNIST; no paper's.

Chris Deotte's public network: 99.641 +- .047 % over seeds, trained with augmentation.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("deotte-cnn")
class DeotteCNN(nn.Module):
    """(N, 28, 28, channels) -> logits (N, classes); 326,410 parameters.

    Twice conv 3x3, conv 3x3, conv 5x5 s2, dropout .4, with 32 and then 64 maps; conv128 4x4 over
    the 4x4 pixels that are left, dropout .4, FC. ReLU and then batch norm after each convolution;
    strides take the place of pooling.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 1,
        generator: np.random.Generator | None = None,
    ):
        conv = partial(nn.Conv2d, generator=generator)
        dropout = partial(nn.Dropout, 0.4, generator=generator)
        parts: list[nn.Module] = []
        inputs = channels
        for maps in (32, 64):
            parts += [conv(inputs, maps, 3), nn.ReLU(), keras.batch_norm(maps)]
            parts += [conv(maps, maps, 3), nn.ReLU(), keras.batch_norm(maps)]
            parts += [conv(maps, maps, 5, 2, "same"), nn.ReLU(), keras.batch_norm(maps), dropout()]
            inputs = maps
        parts += [conv(inputs, 128, 4), nn.ReLU(), keras.batch_norm(128), dropout()]
        self.features = nn.Sequential(*parts)
        self.fc = nn.Linear(128, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        return self.fc(F.flatten(self.features(x), 1))
