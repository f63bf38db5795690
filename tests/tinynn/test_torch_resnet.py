"""A whole ResNet-18 against PyTorch's from the same weights: logits, gradients, statistics, steps.

The PyTorch network below has torchvision's names, so that a file of torchvision's fits it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from hwr import models
from tinynn import functional as F
from tinynn import nn, optim

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")

pytestmark = [pytest.mark.torch, pytest.mark.many_numbers]

# Relative error of all numbers together, in the 2-norm.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


class Block(torch.nn.Module):  # type: ignore[name-defined]
    """torchvision's BasicBlock."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                torch.nn.BatchNorm2d(outputs),
            )
        self.relu = torch.nn.ReLU()

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class TorchBottleneck(torch.nn.Module):  # type: ignore[name-defined]
    """torchvision's Bottleneck: the stride is the 3x3 convolution's."""

    def __init__(self, inputs: int, width: int, stride: int, shortcut: bool):
        super().__init__()
        outputs = 4 * width
        self.conv1 = torch.nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.conv3 = torch.nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = torch.nn.BatchNorm2d(outputs)
        self.shortcut, self.downsample = shortcut, None
        if shortcut and (stride != 1 or inputs != outputs):
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                torch.nn.BatchNorm2d(outputs),
            )
        self.relu = torch.nn.ReLU()

    def forward(self, x: Any) -> Any:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        if self.shortcut:
            y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y)


class TorchResNet18(torch.nn.Module):  # type: ignore[name-defined]
    """torchvision's resnet18, of any width, with either stem."""

    def __init__(self, stem: str, width: int, classes: int, channels: int):
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if stem == "7x7" else (3, 1, 1)
        self.conv1 = torch.nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.relu = torch.nn.ReLU()
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1) if stem == "7x7" else torch.nn.Identity()
        stages, inputs = [], width
        for stage in range(4):
            outputs = width * 2**stage
            stages.append(
                torch.nn.Sequential(
                    Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1)
                )
            )
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = torch.nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        y = self.maxpool(self.relu(self.bn1(self.conv1(x.permute(0, 3, 1, 2)))))
        y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
        return self.fc(y.mean((2, 3)))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two libraries' idle threads would spin on the processors that the other one wants."""
    before = torch.get_num_threads(), tn.get_num_threads()
    torch.set_num_threads(1)
    tn.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    tn.set_num_threads(before[1])


def networks(stem: str, width: int, channels: int, dtype: str = "float32") -> tuple[Any, Any]:
    """Ours and PyTorch's with the same weights, and with statistics that are not all 0 and 1.

    Normalised values are shifted by about +-2, so that most channels' ReLU is mostly open or mostly
    closed: a value within rounding of 0 is then rare (see `batch`).
    """
    torch.manual_seed(0)
    theirs = TorchResNet18(stem, width, 10, channels)
    for name, tensor in theirs.state_dict().items():
        if name.endswith(("bn1.weight", "bn2.weight", "running_var")):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        elif name.endswith("running_mean"):
            torch.nn.init.uniform_(tensor, -0.5, 0.5)
        elif name.endswith(("bn1.bias", "bn2.bias")):
            tensor.copy_(2 * torch.randn(tensor.shape).sign() + 0.1 * torch.randn(tensor.shape))
    theirs.to(getattr(torch, dtype))
    ours = models.create("resnet18", stem=stem, width=width, classes=10, channels=channels)
    ours.astype(dtype)
    tn.state.from_torch(ours, theirs.state_dict())
    return ours, theirs


def distance_to_kinks(network: Any, x: Any) -> float:
    """How near any ReLU's input comes to 0, and the two largest of a max-pool window (the winner
    being positive) to each other: the derivative jumps there."""
    found: list[float] = []

    def relu(_module: Any, inputs: Any) -> None:
        found.append(inputs[0].abs().min().item())

    def pool(_module: Any, inputs: Any) -> None:
        planes = inputs[0].flatten(0, 1)[:, None]
        windows = torch.nn.functional.unfold(planes, 3, padding=1, stride=2)
        first, second = windows.topk(2, dim=1).values.unbind(1)
        found.append((first - second)[first > 0].min().item())

    probe = copy.deepcopy(network).double()
    for module in probe.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(relu)
        elif isinstance(module, torch.nn.MaxPool2d):
            module.register_forward_pre_hook(pool)
    with torch.no_grad():
        probe(x.double())
    return min(found)


@cache
def batch(stem: str, width: int, channels: int, n: int, size: int) -> tuple[Any, Any]:
    """Images of noise and labels. The first ones that stay clear of every kink: within rounding of
    one, two correct float32 networks may take different sides and differ in their gradients."""
    _, network = networks(stem, width, channels)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, size, size, channels)).astype("float32")
        if distance_to_kinks(network, torch.tensor(x)) > 1e-5:
            return x, rng.integers(0, 10, n)
    raise AssertionError("no images stay clear of the kinks: take fewer or smaller ones")


def host(array: Any) -> Any:
    """The array, fetched from the device if it is on one."""
    return array.get() if hasattr(array, "get") else array


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """|ours - theirs| / |theirs| over all arrays as one long vector."""
    assert list(ours) == list(theirs)
    a, b = (
        np.concatenate([np.asarray(host(v), float).ravel() for v in each.values()])
        for each in (ours, theirs)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def gradients(ours: Any, theirs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every parameter's gradient by name, in PyTorch's layout."""
    mine = {
        name: p.grad if p.torch_axes is None else p.grad.transpose(p.torch_axes)
        for name, p in ours.named_parameters()
    }
    return mine, {name: p.grad.numpy() for name, p in theirs.named_parameters()}


def states(ours: Any, theirs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights, running statistics and counters by name, in PyTorch's layout."""
    return tn.state.to_torch(ours), dict(theirs.state_dict())


def statistics(ours: Any, theirs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Running means and variances, and counters."""
    return {n: b.data for n, b in ours.named_buffers()}, dict(theirs.named_buffers())


def forward(ours: Any, theirs: Any, x: np.ndarray, labels: np.ndarray) -> tuple[Any, Any, float]:
    """Both losses, and how far the logits are apart."""
    mine, yours = ours(tn.Tensor(x)), theirs(torch.tensor(x))
    assert mine.dtype == x.dtype
    loss = torch.nn.functional.cross_entropy(yours, torch.tensor(labels))
    apart = distance({"logits": mine.data}, {"logits": yours.detach().numpy()})
    return F.cross_entropy(mine, labels), loss, apart


NETWORKS = [  # stem, width, channels, number of images, their size
    ("3x3", 16, 1, 8, 8),
    ("3x3", 8, 3, 6, 12),
    ("7x7", 16, 1, 16, 28),
    ("7x7", 8, 3, 8, 36),
    ("7x7", 64, 1, 6, 34),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("stem", "width", "channels", "n", "size"), NETWORKS)
def test_forward_and_backward(
    stem: str, width: int, channels: int, n: int, size: int, dtype: str, backend: Any
) -> None:
    if (backend.name, dtype) == ("numpy", "float64"):
        pytest.skip("its float64 is the reference's")
    if (backend.name, dtype, width) == ("reference", "float32", 64):
        pytest.skip("slow; the other widths have it")
    ours, theirs = networks(stem, width, channels, dtype)
    x, labels = batch(stem, width, channels, n, size)
    mine, yours, apart = forward(ours, theirs, x.astype(dtype), labels)
    mine.backward()
    yours.backward()
    tolerance = TOLERANCE[dtype]
    assert apart < tolerance
    assert abs(mine.item() - yours.item()) < tolerance
    assert distance(*gradients(ours, theirs)) < tolerance
    assert distance(*statistics(ours, theirs)) < tolerance
    # Alone, a tensor whose sums nearly cancel has fewer digits than all tensors together.
    a, b = gradients(ours, theirs)
    for name in a:
        assert distance({name: a[name]}, {name: b[name]}) < 100 * tolerance, name


BOTTLENECKS = [  # input channels, width, stride, shortcut
    (16, 4, 1, True),  # the shortcut is x itself
    (6, 4, 2, True),
    (16, 4, 1, False),
    (6, 4, 2, False),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("inputs", "width", "stride", "shortcut"), BOTTLENECKS)
def test_bottleneck(
    inputs: int, width: int, stride: int, shortcut: bool, dtype: str, backend: Any
) -> None:
    torch.manual_seed(0)
    theirs = TorchBottleneck(inputs, width, stride, shortcut).to(getattr(torch, dtype))
    ours = nn.Bottleneck(inputs, width, stride, shortcut)
    ours.astype(dtype)
    tn.state.from_torch(ours, theirs.state_dict())
    for seed in range(200):  # the first that stay clear of the kinks, as in `batch`
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(3, 6, 5, inputs)).astype(dtype)
        nchw = torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_()
        if distance_to_kinks(theirs, nchw) > 1e-5:
            break
    mine, nhwc = tn.Tensor(x, requires_grad=True), (0, 2, 3, 1)
    y, expected = ours(mine), theirs(nchw)
    dy = rng.normal(size=y.shape).astype(dtype)
    y.backward(dy)
    expected.backward(torch.tensor(dy).permute(0, 3, 1, 2))
    tolerance = TOLERANCE[dtype]
    output = expected.detach().permute(nhwc).numpy()
    assert distance({"y": y.data}, {"y": output}) < tolerance
    assert distance({"dx": mine.grad}, {"dx": nchw.grad.permute(nhwc).numpy()}) < tolerance
    assert distance(*gradients(ours, theirs)) < tolerance
    assert distance(*statistics(ours, theirs)) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stem", ["3x3", "7x7"])
def test_evaluation_mode(stem: str, dtype: str, backend: Any) -> None:
    ours, theirs = networks(stem, 16, 1, dtype)
    x = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(dtype)
    _, _, apart = forward(ours.eval(), theirs.eval(), x, np.zeros(3, int))
    assert apart < TOLERANCE[dtype]


OPTIMIZERS = {
    "SGD": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True},
    "Adam": {"lr": 1e-3, "eps": 1e-4},
    "AdamW": {"lr": 1e-3, "eps": 1e-4, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("stem", "size"), [("3x3", 9), ("7x7", 33)])
def test_training_steps_stay_together(stem: str, size: int, name: str) -> None:
    """Four steps in float64: weights and running statistics remain PyTorch's."""
    ours, theirs = networks(stem, 8, 1, "float64")
    mine = getattr(optim, name)(ours.parameters(), **OPTIMIZERS[name])
    yours = getattr(torch.optim, name)(theirs.parameters(), **OPTIMIZERS[name])
    rng = np.random.default_rng(1)
    for _ in range(4):
        x, labels = rng.normal(size=(8, size, size, 1)), rng.integers(0, 10, 8)
        my_loss, your_loss, _ = forward(ours, theirs, x, labels)
        mine.zero_grad()
        yours.zero_grad()
        my_loss.backward()
        your_loss.backward()
        mine.step()
        yours.step()
    assert distance(*states(ours, theirs)) < 1e-9  # each step amplifies the last one's rounding


def test_training_steps_in_float32_stay_together(backend: Any) -> None:
    """Three small steps of SGD, which moves the weights by far more than the tolerance."""
    ours, theirs = networks("3x3", 16, 1)
    x, labels = batch("3x3", 16, 1, 8, 8)
    before = {k: v.clone() for k, v in theirs.state_dict().items()}
    mine = optim.SGD(ours.parameters(), lr=1e-3, momentum=0.9)
    yours = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(3):
        my_loss, your_loss, _ = forward(ours, theirs, x, labels)
        mine.zero_grad()
        yours.zero_grad()
        my_loss.backward()
        your_loss.backward()
        mine.step()
        yours.step()
    assert distance(before, dict(theirs.state_dict())) > 1e-3
    assert distance(*states(ours, theirs)) < 1e-5


@pytest.mark.parametrize("stem", ["3x3", "7x7"])
def test_weights_cross_both_ways(stem: str) -> None:
    """Names, order, shapes and values: to_torch gives back what from_torch was given."""
    ours, theirs = networks(stem, 8, 3)
    back = tn.state.to_torch(ours)
    expected = theirs.state_dict()
    assert list(back) == list(expected)
    for name, tensor in expected.items():
        assert back[name].dtype == str(tensor.dtype).removeprefix("torch."), name
        assert back[name].shape == tuple(tensor.shape), name
        assert np.array_equal(back[name], tensor.numpy()), name
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_our_file_loads_into_pytorch(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch", reason="reads files as PyTorch does")
    ours, theirs = networks("7x7", 8, 1)
    tn.state.save(ours, tmp_path / "ours.safetensors", {"epoch": 3})
    other = TorchResNet18("7x7", 8, 10, 1)
    other.load_state_dict(files.load_file(tmp_path / "ours.safetensors"), strict=True)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_pytorchs_file_loads_here(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch", reason="reads files as PyTorch does")
    ours, theirs = networks("3x3", 8, 3)
    files.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    other = models.create("resnet18", stem="3x3", width=8, classes=10, channels=3)
    assert tn.state.load(other, tmp_path / "theirs.safetensors") == {}
    for name, array in ours.state_dict().items():
        assert np.array_equal(other.state_dict()[name], array), name
