"""What a network is made of: layers, shapes, parameters, work, and weights that can never learn."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinynn as tn
from hwr.run import Run
from tinynn import nn
from tinynn.functions.conv import resolve_padding
from tinynn.kernels.geometry import live_taps, tap_visits
from tinynn.nn import Module


@dataclass(frozen=True)
class Layer:
    """One layer as a single image passes it.

    `multiply_adds` counts every tap, `valid_multiply_adds` only those that see the image;
    `live_weights` are the weights that some gradient can ever reach.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weights: int
    live_weights: int
    multiply_adds: int
    valid_multiply_adds: int


def layers(model: Module, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers that run, in order, for an image (H, W, C)."""
    calls: list[tuple[str, Module, tuple[int, ...], tuple[int, ...]]] = []

    def note(name: str, module: Module, x: tn.Tensor, y: tn.Tensor) -> None:
        calls.append((name, module, x.shape, y.shape))

    with recording(model, note), tn.no_grad():
        model.eval()
        model(tn.Tensor(np.zeros((1, *image_shape), np.float32)))
    return [describe(*call) for call in calls]


@contextmanager
def recording(model: Module, note: Callable[[str, Module, Any, Any], None]) -> Iterator[None]:
    """Within the block, every call y = module(x) of a layer of the model is told to `note`.

    `note(name, module, x, y)`; of a recurrent layer y is the output, without the last state.
    """
    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]

    def wrap(name: str, module: Module) -> None:
        forward = module.forward

        def noted(x: Any, *args: Any, **options: Any) -> Any:
            y = forward(x, *args, **options)
            note(name, module, x, y[0] if isinstance(y, tuple) else y)
            return y

        vars(module)["forward"] = noted  # found before the class's own

    for name, module in leaves:
        wrap(name, module)
    try:
        yield
    finally:
        for _, module in leaves:
            del vars(module)["forward"]


def describe(
    name: str, module: Module, x_shape: tuple[int, ...], y_shape: tuple[int, ...]
) -> Layer:
    """The sizes of one call."""
    parameters = sum(p.size for p in module.parameters())
    weights = live = work = valid = 0
    if isinstance(module, nn.Conv2d):
        weights, live, work, valid = conv_sizes(module, x_shape, y_shape)
    elif isinstance(module, nn.Linear):
        weights = live = module.weight.size
        work = valid = weights * (int(np.prod(y_shape)) // y_shape[-1])
    elif isinstance(module, nn.RNNBase):
        weights = live = sum(p.size for p in module.parameters() if p.ndim == 2)
        work = valid = weights * y_shape[1 if module.batch_first else 0]  # once a step
    kind = type(module).__name__
    return Layer(name, kind, y_shape[1:], parameters, weights, live, work, valid)


def conv_sizes(
    module: nn.Conv2d, x_shape: tuple[int, ...], y_shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """weights, live weights, multiply-adds and valid multiply-adds of a convolution."""
    oc, kh, kw, c = module.weight.shape
    axes = conv_axes(module, x_shape)
    live = oc * c * len(live_taps(*axes[0])) * len(live_taps(*axes[1]))
    work = oc * c * kh * kw * y_shape[1] * y_shape[2]
    return module.weight.size, live, work, oc * c * tap_visits(*axes[0]) * tap_visits(*axes[1])


def conv_axes(module: nn.Conv2d, x_shape: tuple[int, ...]) -> list[Any]:
    """What `live_taps` and `tap_visits` ask of a convolution's height, and of its width."""
    size = x_shape[1], x_shape[2]
    window = module.kernel_size, module.stride, module.dilation
    padding = resolve_padding(module.padding, size, *window)
    kernel, stride, dilation = window
    return [(size[a], kernel[a], stride[a], padding[a], dilation[a]) for a in (0, 1)]


def table(rows: list[Layer]) -> str:
    """The layers as text, with totals."""
    lines = [
        f"{'layer':28} {'kind':18} {'output':>14} {'parameters':>12} {'mult-adds':>12} {'live':>6}"
    ]
    for row in rows:
        shape = "x".join(map(str, row.output_shape))
        share = f"{100 * row.live_weights / row.weights:.0f} %" if row.weights else ""
        lines.append(
            f"{row.name:28} {row.kind:18} {shape:>14} {row.parameters:12,} "
            f"{row.multiply_adds:12,} {share:>6}"
        )
    weights, live = sum(r.weights for r in rows), sum(r.live_weights for r in rows)
    work, valid = sum(r.multiply_adds for r in rows), sum(r.valid_multiply_adds for r in rows)
    parameters = sum(r.parameters for r in rows)
    lines += [
        f"{parameters:,} parameters; {work / 1e6:.3f} million multiply-adds an image, "
        f"{valid / 1e6:.3f} million of them on pixels, the rest on padding",
        f"{100 * live / weights:.0f} % of the weights can ever receive a gradient; "
        f"{100 - 100 * live / weights:.0f} % only ever see padding",
    ]
    return "\n".join(lines)


def dry_run(run: Run, train_step: Callable[[Run, np.ndarray, np.ndarray], Any]) -> int:
    """Print the layer table and the memory of one training step; write nothing."""
    images, labels = next(iter(run.loader.epoch(0)))
    print(table(layers(run.model, images.shape[1:])))
    if run.config.recipe.refinements:
        print(run.config.recipe.refinements)
    run.model.train()
    train_step(run, images[:2], labels[:2])  # kernels compile now, and are not counted
    taken = memory_of(lambda: train_step(run, images, labels))
    print(f"peak memory of a training step at batch {len(labels)}: {taken}")
    if run.config.capture and tn.current_backend().has_device:
        print("the recorded step keeps up to as much again beside that; none with --no-capture")
    return 0


def memory_of(step: Callable[[], Any]) -> str:
    """What a step takes at most, of the memory that the arrays lie in."""
    backend = tn.current_backend()
    if backend.has_device:
        step()
        taken = backend.device_bytes
        return f"{taken / 2**20:,.0f} MiB of the GPU, with the model, its moments and the images"
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (
        f"{peak / 2**20:,.0f} MiB of arrays beside the model's; the whole process "
        f"{resident_bytes() / 2**20:,.0f} MiB"
    )


def resident_bytes() -> int:
    """The most memory this process has held."""
    import resource  # Unix has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts kilobytes
