"""Max and average pooling over NHWC images."""

from __future__ import annotations

from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array
from tinynn.functions.conv import pair
from tinynn.functions.math import as_tensor
from tinynn.kernels.geometry import Pair, pool_output_size
from tinynn.tensor import Tensor


class MaxPool2d(Function):
    """The largest pixel of every window."""

    new_grads = True

    def __init__(self, *geometry: Any):
        self.geometry = geometry

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        y, tap = self.kernels.max_pool2d(x, *self.geometry)
        self.save(tap)
        return y

    def backward(self, dy: Array) -> Array:
        (tap,) = self.saved
        return self.kernels.max_pool2d_grad(dy, tap, self.x_shape, *self.geometry)


class AvgPool2d(Function):
    """The mean of every window."""

    new_grads = True

    def __init__(self, *geometry: Any):
        self.geometry = geometry

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        return self.kernels.avg_pool2d(x, *self.geometry)

    def backward(self, dy: Array) -> Array:
        return self.kernels.avg_pool2d_grad(dy, self.x_shape, *self.geometry)


class GlobalAvgPool2d(Function):
    """The mean of each image and channel."""

    new_grads = True

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        return self.kernels.global_avg_pool2d(x)

    def backward(self, dy: Array) -> Array:
        return self.kernels.global_avg_pool2d_grad(dy, self.x_shape)


def check_pool(
    name: str, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> None:
    """Raise ValueError, with the shapes and the fix, unless the windows fit."""
    if x.ndim != 4:
        raise ValueError(f"{name}: input must be (N, H, W, C), not {x.shape}")
    for axis, side in enumerate(("height", "width")):
        if 2 * padding[axis] > kernel[axis]:
            raise ValueError(
                f"{name}: padding {padding[axis]} is more than half the kernel {kernel[axis]}: "
                "some windows would hold padding alone"
            )
        size = x.shape[1 + axis]
        window = kernel[axis], stride[axis], padding[axis], dilation[axis]
        if pool_output_size(size, *window, ceil_mode) < 1:
            raise ValueError(
                f"{name}: the {side} {size} of input {x.shape} with padding {padding[axis]} is "
                f"smaller than the window of {kernel[axis]}; use a smaller kernel_size"
            )


def max_pool2d(
    input: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest pixel of every window. (N, H, W, C) -> (N, OH, OW, C).

    `stride` defaults to `kernel_size`; with `ceil_mode` a last window may hang over the end.
    """
    x, kernel = as_tensor(input), pair(kernel_size, "max_pool2d: kernel_size")
    strides = kernel if stride is None else pair(stride, "max_pool2d: stride")
    pads = pair(padding, "max_pool2d: padding", 0)
    dilations = pair(dilation, "max_pool2d: dilation")
    check_pool("max_pool2d", x, kernel, strides, pads, dilations, ceil_mode)
    return MaxPool2d(kernel, strides, pads, dilations, ceil_mode)(x)


def avg_pool2d(
    input: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window. (N, H, W, C) -> (N, OH, OW, C).

    `count_include_pad` counts padding in the divisor; `divisor_override` replaces the divisor.
    """
    x, kernel = as_tensor(input), pair(kernel_size, "avg_pool2d: kernel_size")
    strides = kernel if stride is None else pair(stride, "avg_pool2d: stride")
    pads = pair(padding, "avg_pool2d: padding", 0)
    if divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override must not be 0")
    check_pool("avg_pool2d", x, kernel, strides, pads, (1, 1), ceil_mode)
    options = (ceil_mode, count_include_pad, divisor_override)
    return AvgPool2d(kernel, strides, pads, *options)(x)


def adaptive_avg_pool2d(input: Any, output_size: int | Pair) -> Tensor:
    """The mean of each image and channel: (N, H, W, C) -> (N, 1, 1, C); only output_size 1."""
    x = as_tensor(input)
    if output_size not in (1, (1, 1)):
        raise ValueError(f"adaptive_avg_pool2d: only output_size 1 is offered, not {output_size}")
    if x.ndim != 4:
        raise ValueError(f"adaptive_avg_pool2d: input must be (N, H, W, C), not {x.shape}")
    return GlobalAvgPool2d()(x)
