"""The weights that never receive a gradient: taps of filters that only ever see padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwr.inspect.shortcuts import host
from hwr.summary import conv_axes
from tinynn import nn
from tinynn.kernels.geometry import live_taps
from tinynn.nn import Module


@dataclass(frozen=True)
class Taps:
    """One convolution's filter.

    `live[i][j]` says whether tap (i, j) sees the image at any position; this follows from sizes
    alone. `dead_gradient` is the largest |gradient| that a weight of a dead tap received, None if
    all are live, and `zero_gradients` counts all weights that received exactly 0.
    """

    name: str
    image: tuple[int, int]  # height and width that the filter passes over
    live: tuple[tuple[bool, ...], ...]
    weights: int
    dead: int
    dead_gradient: float | None
    zero_gradients: int


def taps(name: str, module: nn.Conv2d, x_shape: tuple[int, ...]) -> Taps:
    """The taps of a convolution that has read images of `x_shape` and received its gradient."""
    kernel = module.kernel_size
    live = np.zeros(kernel, bool)
    live[np.ix_(*(live_taps(*axis) for axis in conv_axes(module, x_shape)))] = True
    gradient = np.abs(host(module.weight.grad))  # (OC, KH, KW, C/groups)
    dead = gradient[:, ~live]
    return Taps(
        name,
        (x_shape[1], x_shape[2]),
        tuple(map(tuple, live.tolist())),
        gradient.size,
        dead.size,
        float(dead.max()) if dead.size else None,
        int((gradient == 0).sum()),
    )


def weights_of(model: Module) -> int:
    """The weights that multiply: without biases and normalisation, as the layer table counts."""
    return sum(p.size for p in model.parameters() if p.ndim > 1)
