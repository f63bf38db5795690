"""One step of a work on each engine. An engine is made inside a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from benchmarks.works import Work, batches

Step = Callable[[], None]


def tinynn_step(work: Work, threads: int, backend: str) -> tuple[Step, str]:
    """zero_grad, forward, loss, backward and update on this engine; and how it was set up."""
    import hwr.models
    import tinynn as tn
    from hwr.config import OPTIMIZERS
    from tinynn import functional as F

    tn.set_num_threads(threads)
    model = hwr.models.create(work.model, seed=0, **work.options).train(work.training)
    optimizer = OPTIMIZERS[work.optimizer](model.parameters(), lr=1e-4)
    feed = cycle(batches(work, 16))

    def train() -> None:
        images, labels = next(feed)
        with tn.use_backend(backend):
            loss = F.cross_entropy(model(tn.Tensor(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def infer() -> None:
        with tn.use_backend(backend), tn.no_grad():
            model(tn.Tensor(next(feed)[0]))

    return (train if work.training else infer), f"tinynn {tn.__version__}, backend {backend}"


def torch_step(work: Work, threads: int, channels_last: bool) -> tuple[Step, str]:
    """The same step in PyTorch in one memory format, with its default optimiser settings."""
    import torch

    from benchmarks.torch_models import create

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = create(work).to(memory_format=layout).train(work.training)
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[work.optimizer]
    optimizer = make(model.parameters(), lr=1e-4)
    loss_of = torch.nn.CrossEntropyLoss()

    def tensors() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in cycle(batches(work, 16)):
            nchw = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
            yield nchw.contiguous(memory_format=layout), torch.from_numpy(labels)

    feed = tensors()

    def train() -> None:
        images, labels = next(feed)
        loss = loss_of(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(next(feed)[0])

    name = "channels_last" if channels_last else "contiguous"
    return (train if work.training else infer), f"torch {torch.__version__}, {name}"
