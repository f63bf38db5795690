"""The feed-forward network of Arora and Bhatia (P2): 784-512-512-10."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("mlp")
class MLP(nn.Module):
    """(N, H, W, channels) -> logits (N, classes), two hidden layers of `width` with ReLU.

    669,706 parameters at 28x28. Weights by Glorot and Bengio 2010, biases 0, as Keras has them.
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
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.fc1(F.flatten(x, 1)))
        return self.fc3(F.relu(self.fc2(x)))
