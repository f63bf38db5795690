"""A training step of a work on other engines that compute with NumPy, each in its own process.

Each is written as its documentation has it, in float32, on the same batches in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.compare import Facts, Step
from benchmarks.engines import BATCHES
from benchmarks.works import Work, batches

LR = 1e-4  # as the other engines' steps
MLP_SIZES = (784, 512, 512, 10)


@dataclass(frozen=True)
class Peer:
    """An engine of the package index: what to install, and the networks it has the layers for."""

    package: str
    networks: tuple[str, ...]
    step: Callable[[Work, int], tuple[Step, str]]  # (work, seed) -> a step, the memory format


def peer_step(name: str, work: Work, threads: int, seed: int) -> tuple[Step, Facts]:
    """A training step of a peer."""
    threadpool_limits(threads, user_api="blas")
    np.random.seed(seed)  # noqa: NPY002  (where these engines draw their weights)
    step, memory_format = PEERS[name].step(work, seed)
    engine = f"{name} {version(PEERS[name].package)}"
    return step, {"engine": engine, "memory_format": memory_format, "threads": threads}


def nchw(work: Work, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The work's batches again and again, images (N, C, H, W)."""
    for images, labels in cycle(batches(work, BATCHES, seed)):
        yield np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels


# ---------------------------------------------------------------------------------------------
# DeZero: a graph of Function instances; convolution by im2col, NCHW
# ---------------------------------------------------------------------------------------------


def dezero(work: Work, seed: int) -> tuple[Step, str]:
    """DeZero as it ran on the NumPy of its time; on today's it names a lost alias, and computes in
    float64 as soon as a Python number takes part."""
    vars(np)["int"] = int  # dropped in NumPy 1.24
    from dezero import core, optimizers
    from dezero import functions as F

    def as_array(x: Any, array_module: Any = np) -> Any:  # a number does not widen an array
        return array_module.array(x, np.float32) if np.isscalar(x) else x

    core.as_array = as_array
    model = dezero_model(work)
    optimizer = {"sgd": optimizers.SGD, "adam": optimizers.Adam}[work.optimizer](LR).setup(model)
    feed = nchw(work, seed)
    model(next(feed)[0])  # draws the weights, in float64
    for parameter in model.params():
        if parameter.data is not None:
            parameter.data = parameter.data.astype(np.float32)

    def step() -> None:
        images, labels = next(feed)
        # Of labels with more bits it makes a gradient in float64.
        loss = F.softmax_cross_entropy(model(images), labels.astype(np.uint8))
        model.cleargrads()
        loss.backward()
        optimizer.update()

    return step, "NCHW"


def dezero_model(work: Work) -> Any:
    """The work's network out of DeZero's layers."""
    from dezero import functions as F
    from dezero import layers as L
    from dezero.models import Sequential

    def conv(channels: int, size: int, stride: int = 1, pad: int = 0) -> Any:
        return L.Conv2d(channels, size, stride, pad, nobias=True)

    def pool(size: int, stride: int, pad: int = 0) -> Callable[[Any], Any]:
        return lambda x: F.pooling(x, size, stride, pad)

    class BasicBlock(L.Layer):
        def __init__(self, channels: int, stride: int, changes: bool):
            super().__init__()
            self.conv1, self.bn1 = conv(channels, 3, stride, 1), L.BatchNorm()
            self.conv2, self.bn2 = conv(channels, 3, 1, 1), L.BatchNorm()
            self.downsample = Sequential(conv(channels, 1, stride), L.BatchNorm())
            self.changes = changes

        def forward(self, x: Any) -> Any:
            shortcut = self.downsample(x) if self.changes else x
            y = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.bn2(self.conv2(y)) + shortcut)

    if work.model == "mlp":
        return Sequential(F.flatten, L.Linear(512), F.relu, L.Linear(512), F.relu, L.Linear(10))
    if work.model == "fast":
        return Sequential(
            conv(24, 5), pool(2, 2), L.BatchNorm(), F.relu,
            conv(48, 3), L.BatchNorm(), F.relu, pool(2, 2),
            F.flatten, L.Linear(128, nobias=True), L.BatchNorm(), F.relu, L.Linear(10),
        )  # fmt: skip
    blocks = [
        BasicBlock(64 * 2**stage, 2 if stage and not i else 1, stage > 0 and not i)
        for stage in range(4)
        for i in range(2)
    ]
    return Sequential(
        conv(64, 7, 2, 3), L.BatchNorm(), F.relu, pool(3, 2, 1), *blocks,
        F.flatten, L.Linear(10),  # on 28x28 images the last maps have one pixel: no average
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Those with the layers of the feed-forward network only
# ---------------------------------------------------------------------------------------------


def mlp_weights() -> list[np.ndarray]:
    """w1, b1, w2, b2, ... of the feed-forward network."""
    weights: list[np.ndarray] = []
    for inputs, outputs in pairwise(MLP_SIZES):
        w = np.random.randn(inputs, outputs) / np.sqrt(inputs)  # noqa: NPY002
        weights += [w.astype(np.float32), np.zeros(outputs, np.float32)]
    return weights


def autograd(work: Work, seed: int) -> tuple[Step, str]:
    """HIPS autograd: NumPy's own functions, traced."""
    import autograd.numpy as anp
    from autograd import grad

    def loss(weights: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> Any:
        x = images.reshape(len(images), -1)
        for i in range(0, len(weights), 2):
            x = anp.dot(x, weights[i]) + weights[i + 1]
            x = anp.maximum(x, 0) if i + 2 < len(weights) else x
        x = x - anp.max(x, axis=1, keepdims=True)
        log_p = x - anp.log(anp.sum(anp.exp(x), axis=1, keepdims=True))
        return -anp.mean(log_p[np.arange(len(labels)), labels])

    weights, gradient, feed = mlp_weights(), grad(loss), nchw(work, seed)

    def step() -> None:
        for w, dw in zip(weights, gradient(weights, *next(feed))):
            w -= np.float32(LR) * dw

    return step, "rows"


def smallpebble(work: Work, seed: int) -> tuple[Step, str]:
    """SmallPebble: variables that remember their local gradients."""
    import smallpebble as sp

    weights, feed = [sp.Variable(w) for w in mlp_weights()], nchw(work, seed)

    def step() -> None:
        images, labels = next(feed)
        x = sp.Variable(images.reshape(len(images), -1))
        for i in range(0, len(weights), 2):
            x = sp.matmul(x, weights[i]) + weights[i + 1]
            x = sp.leaky_relu(x, np.float32(0)) if i + 2 < len(weights) else x
        gradients = sp.get_gradients(sp.cross_entropy(sp.softmax(x), labels))
        sp.sgd_step(weights, gradients, np.float32(LR / len(labels)))  # its loss is a sum

    return step, "rows"


PEERS = {
    "DeZero": Peer("dezero", ("mlp", "fast", "resnet18"), dezero),
    "autograd": Peer("autograd", ("mlp",), autograd),
    "SmallPebble": Peer("smallpebble", ("mlp",), smallpebble),
}
UNUSABLE = {  # tried, with the package index's newest version, on Python 3.11 and NumPy 2.4
    "Chainer": "chainer 7.8.1 cannot be installed: its build needs pkg_resources of old",
    "numpy-ml": "numpy-ml 0.1.2 cannot be imported: it takes Hashable from collections",
}
