"""Layers: modules that own the parameters of one function. PyTorch's names and defaults, NHWC."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn import functional as F
from tinynn.backend import current_backend
from tinynn.functions.conv import pair
from tinynn.functions.dropout import check_probability
from tinynn.nn import init
from tinynn.nn.init import Generator
from tinynn.nn.module import Module, Parameter
from tinynn.tensor import Tensor

OIHW = (0, 3, 1, 2)  # where the axes of an (OC, KH, KW, C) filter stand in PyTorch


def new_parameter(shape: tuple[int, ...], torch_axes: tuple[int, ...] | None = None) -> Parameter:
    """A float32 parameter of zeros on the current backend."""
    return Parameter(current_backend().zeros(shape, np.float32), torch_axes)


def check_positive(layer: str, **sizes: int) -> None:
    """Raise ValueError for a size that is not a positive integer."""
    for name, value in sizes.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{layer}: {name} must be a positive integer, not {value!r}")


class Linear(Module):
    """y = x w^T + b. (..., in_features) -> (..., out_features); weight (out, in).

    `layer(x, relu=True)` is relu(layer(x)) in one kernel.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: Generator = None,
    ):
        check_positive("Linear", in_features=in_features, out_features=out_features)
        self.weight = new_parameter((out_features, in_features))
        self.bias = new_parameter((out_features,)) if bias else None
        init.default_linear_(self.weight, self.bias, generator)

    def forward(self, x: Any, relu: bool = False) -> Tensor:
        return F.linear(x, self.weight, self.bias, relu=relu)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, bias={self.bias is not None}"


class Conv2d(Module):
    """Convolution over (N, H, W, C) images; weight (OC, KH, KW, C/groups).

    `padding`: an int, a pair (height, width), ((top, bottom), (left, right)), "same" or "valid".
    groups = in_channels is a depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        generator: Generator = None,
    ):
        check_positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: {in_channels} input and {out_channels} output channels must both divide "
                f"into {groups} groups"
            )
        self.kernel_size = pair(kernel_size, "Conv2d: kernel_size")
        self.stride, self.padding = pair(stride, "Conv2d: stride"), padding
        self.dilation, self.groups = pair(dilation, "Conv2d: dilation"), groups
        shape = (out_channels, *self.kernel_size, in_channels // groups)
        self.weight = new_parameter(shape, OIHW)
        self.bias = new_parameter((out_channels,)) if bias else None
        init.default_linear_(self.weight, self.bias, generator)

    def forward(self, x: Any) -> Tensor:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        oc, _, _, c = self.weight.shape
        parts = [f"{c * self.groups}, {oc}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != 0:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        return ", ".join([*parts, f"bias={self.bias is not None}"])


class MaxPool2d(Module):
    """The largest pixel of every window; see `functional.max_pool2d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Tensor:
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of every window; see `functional.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.options = (ceil_mode, count_include_pad, divisor_override)

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, *self.options)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean of each image and channel, (N, H, W, C) -> (N, 1, 1, C); only output_size 1."""

    def __init__(self, output_size: Any = 1):
        if output_size not in (1, (1, 1)):
            raise ValueError(f"AdaptiveAvgPool2d: only output_size 1 is offered, not {output_size}")

    def forward(self, x: Any) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1)


class Dropout(Module):
    """Zero elements with probability p in training; the mask is drawn from `generator`."""

    def __init__(self, p: float = 0.5, *, generator: Any = None):
        check_probability("Dropout", p)
        self.p, self.generator = p, generator

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class StochasticDepth(Module):
    """Zero a residual branch with probability p in training; see `functional.stochastic_depth`."""

    def __init__(self, p: float, mode: str = "row", *, generator: Any = None):
        check_probability("StochasticDepth", p)
        self.p, self.mode, self.generator = p, mode, generator

    def forward(self, x: Any) -> Tensor:
        return F.stochastic_depth(x, self.p, self.mode, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode}"


class Flatten(Module):
    """Merge axes; by default (N, H, W, C) -> (N, H W C)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        return F.flatten(x, self.start_dim, self.end_dim)


class Identity(Module):
    """The input."""

    def forward(self, x: Any) -> Any:
        return x


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return F.tanh(x)


class SiLU(Module):
    """x sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.silu(x)


class GELU(Module):
    """x Phi(x)."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return F.gelu(x, self.approximate)


class Softmax(Module):
    """Probabilities along `dim`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.dim)


class LogSoftmax(Module):
    """Log-probabilities along `dim`."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.log_softmax(x, self.dim)


class CrossEntropyLoss(Module):
    """Softmax cross-entropy from logits; see `functional.cross_entropy`."""

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        self.options = (weight, ignore_index, reduction, label_smoothing)

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.cross_entropy(input, target, *self.options)


class MSELoss(Module):
    """The squared difference; see `functional.mse_loss`."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class CTCLoss(Module):
    """The loss of labels that are not aligned with the steps; see `functional.ctc_loss`."""

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        self.options = (blank, reduction, zero_infinity)

    def forward(
        self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any
    ) -> Tensor:
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, *self.options)
