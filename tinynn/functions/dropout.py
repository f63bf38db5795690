"""Dropout of elements and of whole branches. The generator is passed; the mask is its only draw."""

from __future__ import annotations

from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor
from tinynn.random import default_generator
from tinynn.tensor import Tensor


class Mask(Function):
    """y = x mask, mask drawn as 0 or 1 / (1 - p) and broadcast over the axes of size 1."""

    def __init__(self, p: float, shape: tuple[int, ...], generator: Any):
        self.p, self.shape, self.generator = p, shape, generator

    def forward(self, x: Array) -> Array:
        mask = self.kernels.keep_mask(self.generator, self.shape, self.p, x)
        self.save(mask)
        return x * mask

    def backward(self, dy: Array) -> Array:
        (mask,) = self.saved
        return dy * mask


def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p is a probability from 0 to 1, not {p}")


def dropout(input: Any, p: float = 0.5, training: bool = True, *, generator: Any = None) -> Tensor:
    """Zero each element with probability p and scale the rest by 1 / (1 - p), in training only.

    Source: Srivastava et al. 2014 (inverted form).
    """
    check_probability("dropout", p)
    x = as_tensor(input)
    if not training or p == 0:
        return x
    return Mask(p, x.shape, generator or default_generator())(x)


def stochastic_depth(
    input: Any, p: float, mode: str = "row", training: bool = True, *, generator: Any = None
) -> Tensor:
    """Zero a residual branch (N, ...) with probability p and scale what stays by 1 / (1 - p).

    mode "row" draws for each sample, "batch" once for all: beside the shortcut, the network is
    then less deep. torchvision's name; the EfficientNet code calls it drop-connect.
    Source: Huang et al. 2016 (Deep Networks with Stochastic Depth).
    """
    check_probability("stochastic_depth", p)
    if mode not in ("row", "batch"):
        raise ValueError(f"stochastic_depth: mode must be 'row' or 'batch', not {mode!r}")
    x = as_tensor(input)
    if not training or p == 0:
        return x
    shape = (x.shape[0] if mode == "row" else 1,) + (1,) * (x.ndim - 1)
    return Mask(p, shape, generator or default_generator())(x)
