"""The works' networks in PyTorch, for comparison."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.works import Work
from hwr.models.efficientnet import BLOCKS, DROP, STAGES


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


def resnet18(stem: str = "7x7", width: int = 64) -> nn.Module:
    """ResNet-18 for one channel and ten classes."""
    large = stem == "7x7"
    first = nn.Conv2d(1, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    if large:
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        layers += [
            BasicBlock(inputs, outputs, 2 if stage else 1),
            BasicBlock(outputs, outputs, 1),
        ]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def mlp() -> nn.Module:
    """784-512-512-10."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def fast() -> nn.Module:
    """The network of the `fast` recipe."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1200, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def arora_cnn() -> nn.Module:
    """Two convolutions, one pooling and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def zhang_cnn() -> nn.Module:
    """One convolution without padding, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(2304, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


class SimpleRNN(nn.Module):
    """The rows of an image as steps. PyTorch's layer has a second bias vector."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(28, 128, batch_first=True)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x.squeeze(1))[1][0])


class SameConv2d(nn.Conv2d):
    """A convolution padded as Keras does: at stride 2, an odd pixel at the bottom and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (stride, _), (kernel, _) = self.stride, self.kernel_size
        if stride > 1:
            totals = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[2:]]
            top, left = (total // 2 for total in totals)
            x = F.pad(x, (left, totals[1] - left, top, totals[0] - top))
        return super().forward(x)


def normalised(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True
) -> nn.Module:
    """A convolution, its normalisation, and SiLU."""
    conv = SameConv2d(inputs, outputs, kernel, stride, groups)
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, *([nn.SiLU(inplace=True)] if activate else []))


class SqueezeExcitation(nn.Module):
    """Every channel scaled by what all of them say."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    """Widen, filter each channel, weigh the channels, narrow; a shortcut where the shape stays."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, drop: float
    ):
        super().__init__()
        middle = inputs * expand
        self.block = nn.Sequential(
            *([normalised(inputs, middle, 1)] if expand != 1 else []),
            normalised(middle, middle, kernel, stride, middle),
            SqueezeExcitation(middle, max(1, inputs // 4)),
            normalised(middle, outputs, 1, activate=False),
        )
        self.shortcut, self.drop = stride == 1 and inputs == outputs, drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        if not self.shortcut:
            return y
        if self.training and self.drop:
            keep = 1 - self.drop
            y = y * y.new_empty(len(y), 1, 1, 1).bernoulli_(keep).div_(keep)
        return x + y


def efficientnet_b0() -> nn.Module:
    """EfficientNet-B0 for 32x32 images, with the head of Zhang's paper."""
    layers, inputs = [normalised(1, 32, 3, 2)], 32
    b = 0
    for kernel, blocks, outputs, expand, stride in STAGES:
        for i in range(blocks):
            drop = DROP * b / BLOCKS
            layers.append(MBConv(inputs, outputs, kernel, 1 if i else stride, expand, drop))
            inputs, b = outputs, b + 1
    layers.append(normalised(inputs, 1280, 1))
    head = nn.Linear(1280, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 10)
    return nn.Sequential(*layers, nn.Flatten(), *head)


MODELS = {
    "resnet18": resnet18,
    "mlp": mlp,
    "fast": fast,
    "arora-cnn": arora_cnn,
    "zhang-cnn": zhang_cnn,
    "simple-rnn": SimpleRNN,
    "efficientnet-b0": efficientnet_b0,
}


def create(work: Work) -> nn.Module:
    """The work's network."""
    return MODELS[work.model](**work.options)
