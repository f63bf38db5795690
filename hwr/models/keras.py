"""What Keras does where a paper that uses it says nothing."""

from __future__ import annotations

import numpy as np

from tinynn import nn


def initialise(model: nn.Module, generator: np.random.Generator | None) -> None:
    """Weights of every linear and convolution layer by Glorot and Bengio 2010, biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
