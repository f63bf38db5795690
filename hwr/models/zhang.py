"""The small networks of Zhang's comparison (P4); the third has a file of its own, efficientnet."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("zhang-cnn")
class ZhangCNN(nn.Module):
    """(N, 28, 28, channels) -> logits (N, classes).

    conv16 5x5 -> ReLU -> pool -> dropout .25 -> FC 128 -> ReLU -> dropout .5 -> FC. `padding`,
    which the paper leaves out, is "valid" (296,746 parameters) or "same" (403,242).
    """

    def __init__(
        self,
        *,
        padding: str = "valid",
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', not {padding!r}")
        after = (size if padding == "same" else size - 4) // 2  # of the pooled feature maps
        self.conv1 = nn.Conv2d(channels, 16, 5, padding=padding, generator=generator)
        self.dropout1 = nn.Dropout(0.25, generator=generator)
        self.fc1 = nn.Linear(after * after * 16, 128, generator=generator)
        self.dropout2 = nn.Dropout(0.5, generator=generator)
        self.fc2 = nn.Linear(128, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.flatten(self.dropout1(x), 1)
        return self.fc2(self.dropout2(self.fc1(x, relu=True)))


@models.register("simple-rnn")
class SimpleRNN(nn.Module):
    """(N, H, size, channels) -> logits (N, classes); 21,386 parameters at 28x28.

    Reads an image row by row, from the top: 28 steps of 28 pixels into `width` hidden units with
    tanh, whose last state is classified. One bias vector, as Keras has it (PyTorch has two).
    """

    def __init__(
        self,
        *,
        width: int = 128,
        classes: int = 10,
        channels: int = 1,
        size: int = 28,
        generator: np.random.Generator | None = None,
    ):
        self.rnn = nn.RNN(size * channels, width, batch_first=True, generator=generator)
        self.rnn.bias_hh_l0 = None  # type: ignore[attr-defined]  # made under its name
        self.fc = nn.Linear(width, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        _, last = self.rnn(F.flatten(x, 2))  # (N, H, W C): a step is a row
        return self.fc(last[0])
