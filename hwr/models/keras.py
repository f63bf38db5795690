"""What Keras does where a paper that uses it says nothing."""

from __future__ import annotations

from functools import partial

import numpy as np

from tinynn import nn

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # Keras counts momentum from 1: .99


def initialise(model: nn.Module, generator: np.random.Generator | None) -> None:
    """Weights of linear, convolution and recurrent layers by Glorot and Bengio 2010, what a
    recurrent layer multiplies its own state by orthogonal, biases 0."""
    for module in model.modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.RNN)):
            continue
        for name, parameter in module.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter, generator=generator)
            elif name.startswith("weight"):
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
