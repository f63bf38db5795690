"""One step of a work on each engine. An engine is made inside a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.compare import Facts, Make, Step
from benchmarks.works import Work, batches
from tinynn.backend import Backend, get_backend
from tinynn.nn import Module

BATCHES = 16  # different ones, in turn: on a single batch the loss would fall to zero


def tinynn_step(work: Work, threads: int, backend: str, seed: int) -> tuple[Step, Facts]:
    """The work's step on this engine; and how it was set up."""
    import tinynn as tn

    tn.set_num_threads(threads)
    name = "tinynn" if backend == "numpy" else f"tinynn ({backend})"
    facts = {"engine": name, "memory_format": "NHWC", "backend": backend, "threads": threads}
    return step_of(work, get_backend(backend), seed), facts


def step_of(work: Work, backend: Backend, seed: int = 0, model: Module | None = None) -> Step:
    """zero_grad, forward, loss, backward and update; or the forward pass alone."""
    import hwr.models
    import tinynn as tn
    from hwr.config import OPTIMIZERS
    from tinynn import functional as F

    with tn.use_backend(backend):
        if model is None:
            model = hwr.models.create(work.model, seed=seed, **work.options)
        model.train(work.training)
        if work.training:
            optimizer = OPTIMIZERS[work.optimizer](model.parameters(), lr=1e-4)
    feed = cycle(batches(work, BATCHES, seed))

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

    return train if work.training else infer


def torch_engines(work: Work, threads: int, seed: int, fused: bool) -> list[Make]:
    """PyTorch in both memory formats, with its default optimiser and, if asked, the fused one."""
    kinds = (False, True) if fused and work.training else (False,)
    return [(torch_step, (work, threads, last, one, seed)) for one in kinds for last in (0, 1)]


def torch_step(
    work: Work, threads: int, channels_last: bool, fused: bool, seed: int
) -> tuple[Step, Facts]:
    """The same step in PyTorch in one memory format."""
    import torch

    from benchmarks.torch_models import create

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = create(work).to(memory_format=layout).train(work.training)
    if work.training:
        make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[work.optimizer]
        optimizer = make(model.parameters(), lr=1e-4, **({"fused": True} if fused else {}))
    loss_of = torch.nn.CrossEntropyLoss()

    def tensors() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in cycle(batches(work, BATCHES, seed)):
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

    name = "PyTorch, fused optimiser" if fused else "PyTorch"
    return (train if work.training else infer), torch_facts(name, channels_last)


def torch_facts(name: str, channels_last: bool) -> Facts:
    """How PyTorch was set up in this process."""
    import torch

    return {
        "engine": name,
        "memory_format": "channels_last" if channels_last else "contiguous",
        "threads": torch.get_num_threads(),
        "flags": torch_flags(),
    }


def torch_flags() -> dict[str, Any]:
    """The switches that change PyTorch's speed on the CPU."""
    import torch

    return {
        "version": torch.__version__,
        "mkldnn": torch.backends.mkldnn.is_available(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
