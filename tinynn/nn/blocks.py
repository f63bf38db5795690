"""Blocks that networks are built of: residual ones, and the parts of MobileNets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynn import functional as F
from tinynn.nn.init import Generator
from tinynn.nn.layers import Conv2d, SiLU, StochasticDepth
from tinynn.nn.module import Module, Sequential
from tinynn.nn.norm import BatchNorm2d, conv_norm
from tinynn.tensor import Tensor


class ResidualBlock(Module):
    """y = relu(F(x) + shortcut), as BasicBlock and Bottleneck; these define F in `branch`.

    The shortcut is x itself, so d loss/dx = d loss/dy (1 + dF/dx): the "1" reaches every layer
    however deep. Where the shape changes it is a 1x1 convolution (`downsample`), option B of the
    paper. With `shortcut` False there is none: the plain networks that the paper compares with.
    Source: He et al. 2015 (Deep Residual Learning), eq. 1-2.
    """

    expansion = 1  # channels of the output over those of the 3x3 convolutions
    shortcut: bool
    downsample: Sequential | None

    def add_shortcut(
        self, in_channels: int, out_channels: int, stride: int, shortcut: bool, options: Any
    ) -> None:
        """Define the shortcut; after the branch, whose weights come first in torchvision."""
        self.shortcut, self.downsample = shortcut, None
        if shortcut and (stride != 1 or in_channels != out_channels):
            self.downsample = Sequential(
                Conv2d(in_channels, out_channels, 1, stride, **options), BatchNorm2d(out_channels)
            )

    def branch(self, x: Any, residual: Any = None, relu: bool = False) -> Tensor:
        """F(x), and optionally the sum and the ReLU after it in the same kernel."""
        raise NotImplementedError(f"{type(self).__name__} does not define branch")

    def carried(self, x: Any) -> Any:
        """What the shortcut adds to F(x): x, its projection, or None in a plain block."""
        if not self.shortcut:
            return None
        if self.downsample is None:
            return x
        projection: Any = self.downsample
        return conv_norm(projection[0], projection[1], x)

    def forward(self, x: Any) -> Tensor:
        return self.branch(x, residual=self.carried(x), relu=True)


class BasicBlock(ResidualBlock):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut), two 3x3 convolutions around a shortcut.

    (N, H, W, in_channels) -> (N, H/stride, W/stride, channels).
    Source: He et al. 2015 (Deep Residual Learning), figure 2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: bool = True,
        *,
        generator: Generator = None,
    ):
        options: dict[str, Any] = {"bias": False, "generator": generator}
        self.conv1 = Conv2d(in_channels, channels, 3, stride, 1, **options)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, **options)
        self.bn2 = BatchNorm2d(channels)
        self.add_shortcut(in_channels, channels, stride, shortcut, options)

    def branch(self, x: Any, residual: Any = None, relu: bool = False) -> Tensor:
        y = conv_norm(self.conv1, self.bn1, x, relu=True)
        return conv_norm(self.conv2, self.bn2, y, residual, relu)


class Bottleneck(ResidualBlock):
    """relu(bn3(conv3(relu(bn2(conv2(relu(bn1(conv1 x))))))) + shortcut): 1x1, 3x3, 1x1.

    (N, H, W, in_channels) -> (N, H/stride, W/stride, 4 channels): the first convolution narrows
    to `channels`, so that the 3x3 one is cheap, and the last widens. The stride is the 3x3's, as
    torchvision has it ("v1.5"); in the paper it is the first one's.
    Source: He et al. 2015 (Deep Residual Learning), figure 5.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: bool = True,
        *,
        generator: Generator = None,
    ):
        out_channels = self.expansion * channels
        options: dict[str, Any] = {"bias": False, "generator": generator}
        self.conv1 = Conv2d(in_channels, channels, 1, **options)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, stride, 1, **options)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, out_channels, 1, **options)
        self.bn3 = BatchNorm2d(out_channels)
        self.add_shortcut(in_channels, out_channels, stride, shortcut, options)

    def branch(self, x: Any, residual: Any = None, relu: bool = False) -> Tensor:
        y = conv_norm(self.conv1, self.bn1, x, relu=True)
        y = conv_norm(self.conv2, self.bn2, y, relu=True)
        return conv_norm(self.conv3, self.bn3, y, residual, relu)


class Conv2dNormActivation(Sequential):
    """A convolution without bias, padded "same", its normalisation, and an activation if any.

    `norm_layer` makes the normalisation from the number of channels. Names are torchvision's:
    `0.weight` is the filter, `1` the normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        norm_layer: Callable[[int], Module] = BatchNorm2d,
        activation_layer: Callable[[], Module] | None = SiLU,
        *,
        generator: Generator = None,
    ):
        options: dict[str, Any] = {"groups": groups, "bias": False, "generator": generator}
        conv = Conv2d(in_channels, out_channels, kernel_size, stride, "same", **options)
        activation = () if activation_layer is None else (activation_layer(),)
        super().__init__(conv, norm_layer(out_channels), *activation)


class SqueezeExcitation(Module):
    """y = x sigmoid(fc2(silu(fc1(mean of x over H and W)))): each channel scaled by all channels.

    (N, H, W, C) -> the same; fc1 and fc2 are 1x1 convolutions of the (N, 1, 1, C) means.
    Source: Hu et al. 2018 (Squeeze-and-Excitation Networks), with SiLU as EfficientNet has it.
    """

    def __init__(self, input_channels: int, squeeze_channels: int, *, generator: Generator = None):
        self.fc1 = Conv2d(input_channels, squeeze_channels, 1, generator=generator)
        self.fc2 = Conv2d(squeeze_channels, input_channels, 1, generator=generator)

    def forward(self, x: Any) -> Tensor:
        squeezed = F.silu(self.fc1(F.adaptive_avg_pool2d(x, 1)))  # (N, 1, 1, squeeze_channels)
        return x * F.sigmoid(self.fc2(squeezed))


class MBConv(Module):
    """The mobile inverted bottleneck: 1x1 widens, depthwise filters, channels weigh each other,
    1x1 narrows without an activation; around it a shortcut where the shape stays.

    (N, H, W, in_channels) -> (N, ceil(H/stride), ceil(W/stride), out_channels). The middle has
    `expand_ratio` in_channels, the squeeze max(1, in_channels / 4). In training the branch is
    dropped for a sample with probability `drop_probability`. Names are torchvision's.
    Source: Sandler et al. 2018 (MobileNetV2), figure 4d; Tan and Le 2019 (EfficientNet).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        expand_ratio: int = 1,
        drop_probability: float = 0.0,
        norm_layer: Callable[[int], Module] = BatchNorm2d,
        *,
        generator: Generator = None,
    ):
        def conv(inputs: int, outputs: int, kernel_size: int, **options: Any) -> Module:
            options |= {"norm_layer": norm_layer, "generator": generator}
            return Conv2dNormActivation(inputs, outputs, kernel_size, **options)

        middle, squeeze = in_channels * expand_ratio, max(1, in_channels // 4)
        self.block = Sequential(
            *([conv(in_channels, middle, 1)] if expand_ratio != 1 else []),
            conv(middle, middle, kernel_size, stride=stride, groups=middle),
            SqueezeExcitation(middle, squeeze, generator=generator),
            conv(middle, out_channels, 1, activation_layer=None),
        )
        self.stochastic_depth = StochasticDepth(drop_probability, "row", generator=generator)
        self.shortcut = stride == 1 and in_channels == out_channels

    def branch(self, x: Any) -> Tensor:
        """F(x), before the sum."""
        y = self.block(x)
        return self.stochastic_depth(y) if self.shortcut else y

    def carried(self, x: Any) -> Any:
        """What the shortcut adds to F(x): x, or None where the shape changes."""
        return x if self.shortcut else None

    def forward(self, x: Any) -> Tensor:
        y = self.branch(x)
        return x + y if self.shortcut else y
