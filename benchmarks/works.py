"""The works that are timed: a network, its input and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import hwr.data
from hwr.data import Loader, Normalize


@dataclass(frozen=True, kw_only=True)
class Work:
    """A network trained (or only run) on batches of MNIST."""

    name: str
    model: str
    batch: int
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None  # pixels that images are padded to; None for as they are
    optimizer: str = "adam"
    training: bool = True


WORKS = {
    work.name: work
    for work in (
        Work(name="resnet18-7x7", model="resnet18", batch=128),
        Work(name="resnet18-7x7-batch64", model="resnet18", batch=64),
        Work(name="resnet18-3x3", model="resnet18", batch=128, options={"stem": "3x3"}),
        Work(
            name="resnet18-3x3-width16",
            model="resnet18",
            batch=128,
            options={"stem": "3x3", "width": 16},
        ),
        Work(name="mlp", model="mlp", batch=128, optimizer="sgd"),
        Work(name="fast", model="fast", batch=256),
        Work(name="zhang-cnn", model="zhang-cnn", batch=64),
        Work(name="simple-rnn", model="simple-rnn", batch=32),
        Work(name="arora-cnn", model="arora-cnn", batch=128),
        Work(name="efficientnet-b0", model="efficientnet-b0", batch=128, size=32),
        Work(name="inference-batch128", model="resnet18", batch=128, training=False),
        Work(name="inference-batch1", model="resnet18", batch=1, training=False),
    )
}


def batches(work: Work, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` different batches: float32 images (N, H, W, 1) and int64 labels (N,)."""
    data = hwr.data.load("mnist", split="train")
    normalize = Normalize(0.1307, 0.3081, work.size)
    loader = Loader(data, work.batch, seed=seed, normalize=normalize, shuffle=True, prefetch=0)
    return [batch for _, batch in zip(range(count), loader.epoch(0))]
