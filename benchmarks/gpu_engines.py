"""A training step of a work on a GPU, by tinynn and by PyTorch in each way that it has of one.

A step here is `BURST` updates on batches that lie on the device, and then a wait for the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.compare import Facts, Make, Step
from benchmarks.engines import BATCHES
from benchmarks.works import Work, batches

BURST = 20  # updates between two waits: one alone would time the way to the device and back
LR = 1e-4
PRECISIONS = {"TF32": "high", "bf16": "medium"}  # what tinynn and PyTorch call them
HOW = "eager", "compiled", "graph"  # PyTorch's: as written, reduce-overhead, one graph of the step


def engines(work: Work, backend: str, seed: int, with_torch: bool) -> list[Make]:
    """All that are compared: tinynn as it is and captured, and PyTorch's."""
    makes: list[Make] = [
        (tinynn_step, (work, backend, precision, captured, seed))
        for precision in PRECISIONS
        for captured in (False, True)
    ]
    if with_torch:
        makes.append((torch_step, (work, "TF32", "eager", False, seed)))
        makes += [
            (torch_step, (work, precision, how, True, seed))
            for precision in PRECISIONS
            for how in HOW
        ]
    return makes


def burst(update: Callable[..., Any], feed: Any, wait: Callable[[Any], Any]) -> Step:
    """`BURST` updates and a wait."""

    def step() -> None:
        for _ in range(BURST):
            result = update(*next(feed))
        wait(result)

    return step


def tinynn_step(
    work: Work, backend: str, precision: str, captured: bool, seed: int
) -> tuple[Step, Facts]:
    """tinynn's, each kernel launched by the host or all by one graph."""
    import hwr.models
    import tinynn as tn
    from hwr.config import OPTIMIZERS
    from tinynn import functional as F

    tn.set_float32_matmul_precision(PRECISIONS[precision])
    found = tn.get_backend(backend)
    with tn.use_backend(found):
        model = hwr.models.create(work.model, seed=seed, **work.options)
        optimizer = OPTIMIZERS[work.optimizer](model.parameters(), lr=LR)
        feed = [tuple(map(found.asarray, batch)) for batch in batches(work, BATCHES, seed)]

        def update(images: Any, labels: Any) -> tuple[tn.Tensor]:
            loss = F.cross_entropy(model(tn.Tensor(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return (loss,)

        run = tn.capture(update, feed[0], model=model) if captured else update
        step = burst(run, cycle(feed), lambda results: results[0].item())

    def within() -> None:
        with tn.use_backend(found):
            step()

    with warnings.catch_warnings():  # a step that cannot be recorded is none of this engine
        warnings.filterwarnings("error", "capture: ", RuntimeWarning)
        within()  # compiles, and records
    pools = [found.xp.get_default_memory_pool()]
    recording = getattr(run, "recording", None)
    if recording is not None:
        pools.append(recording.pool)
    return within, {
        "engine": f"tinynn, {'captured' if captured else 'eager'}, {precision}",
        "memory_format": "NHWC",
        "captured": recording is not None,
        "device_mib": sum(pool.total_bytes() for pool in pools) / 2**20,
        "flags": {
            "float32_matmul_precision": PRECISIONS[precision],
            found.xp.__name__: getattr(found.xp, "__version__", None),
        },
    }


def torch_step(
    work: Work, precision: str, how: str, channels_last: bool, seed: int, device: str = "cuda"
) -> tuple[Step, Facts]:
    """PyTorch's step; `how` is one of HOW."""
    import torch

    from benchmarks.torch_models import create

    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = create(work).to(device, memory_format=layout)
    options = {"capturable": True} if how == "graph" and work.optimizer == "adam" else {}
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[work.optimizer]
    optimizer = make(model.parameters(), lr=LR, fused=True, **options)
    criterion = torch.nn.CrossEntropyLoss()

    def loss_of(images: Any, labels: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return criterion(model(images), labels)

    forward = torch.compile(loss_of, mode="reduce-overhead") if how == "compiled" else loss_of

    def update(images: Any, labels: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        return loss

    feed = []
    for images, labels in batches(work, BATCHES, seed):
        nchw = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
        feed.append((nchw.contiguous(memory_format=layout), torch.from_numpy(labels).to(device)))
    run = torch_graph(update, feed[0]) if how == "graph" else update
    step = burst(run, cycle(feed), lambda loss: loss.item())
    step()
    reserved = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    return step, {
        "engine": f"PyTorch, {how}, {precision}",
        "memory_format": "channels_last" if channels_last else "contiguous",
        "device_mib": reserved / 2**20,
        "flags": {"optimizer": "fused", **torch_flags()},
    }


def torch_graph(update: Callable[..., Any], example: tuple[Any, Any]) -> Callable[..., Any]:
    """The whole update recorded by hand as one CUDA graph, as PyTorch's documentation does."""
    import torch

    inputs = [array.clone() for array in example]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            update(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = update(*inputs)

    def replay(*arrays: Any) -> Any:
        for static, array in zip(inputs, arrays):
            static.copy_(array)
        graph.replay()
        return loss

    return replay


def torch_flags() -> dict[str, Any]:
    """The switches that change PyTorch's speed on a GPU."""
    import torch

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
