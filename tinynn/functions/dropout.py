"""Dropout, of elements and of whole branches. What falls is the generator's only draw."""

from __future__ import annotations

from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.math import as_tensor
from tinynn.random import default_generator
from tinynn.tensor import Tensor


class Dropout(Function):
    """y = 0 with probability p and x / (1 - p) otherwise, drawn for an array of the given shape
    and broadcast over its axes of size 1."""

    def __init__(self, p: float, shape: tuple[int, ...], generator: Any):
        self.p, self.shape, self.generator = p, shape, generator

    def forward(self, x: Array) -> Array:
        bits = self.kernels.random_bits(self.generator, self.shape, x)
        self.save(bits)
        return self.kernels.dropout(x, bits, self.p)

    def backward(self, dy: Array) -> Array:
        (bits,) = self.saved
        return self.kernels.dropout(dy, bits, self.p)


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
    return Dropout(p, x.shape, generator or default_generator())(x)


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
    return Dropout(p, shape, generator or default_generator())(x)
