"""The convolutional network of Niu and Suen (P1b), whose features a support vector machine reads.

Source: Niu and Suen 2012 (A novel hybrid CNN-SVM classifier for recognizing handwritten digits).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwr.models import keras
from hwr.models.registry import models
from tinynn import functional as F
from tinynn import nn
from tinynn.tensor import Tensor


@models.register("niu-suen-cnn")
class NiuSuenCNN(nn.Module):
    """(N, 29, 29, channels) -> logits (N, classes); 158,060 parameters.

    conv25 5x5 s2 -> conv50 5x5 s2 -> FC 100 -> FC, ReLU after each but the last; no padding.
    Strides take the place of pooling: 29 pixels become 13 and then 5. Its features are the 100.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 1,
        size: int = 29,
        generator: np.random.Generator | None = None,
    ):
        if size < 13:
            raise ValueError(f"size must be 13 or more, not {size}: two 5x5 convolutions of step 2")
        after = ((size - 3) // 2 - 3) // 2  # height and width of the last feature maps
        self.conv1 = nn.Conv2d(channels, 25, 5, 2, generator=generator)
        self.conv2 = nn.Conv2d(25, 50, 5, 2, generator=generator)
        self.fc1 = nn.Linear(after * after * 50, 100, generator=generator)
        self.fc2 = nn.Linear(100, classes, generator=generator)
        keras.initialise(self, generator)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc2(self.fc1(F.flatten(x, 1), relu=True))
