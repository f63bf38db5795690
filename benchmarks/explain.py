"""Which algorithm computes each layer of a model, and why: told by the kernels' own choice."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

import hwr.models
import tinynn as tn
from benchmarks.calls import Call, noting
from hwr.summary import recording
from tinynn import functional as F
from tinynn import nn
from tinynn.backend import get_backend
from tinynn.kernels import cpu_conv, cpu_linear
from tinynn.kernels.geometry import live_taps

IMAGE, STRING_WIDTH = (28, 28, 1), 256
PRODUCTS = ("forward", "input gradient", "weight gradient")
KINDS = dict(zip(("conv2d", "conv2d_input_grad", "conv2d_weight_grad"), PRODUCTS))
Explained = dict[tuple[Call, str], tuple[str, str]]  # call, product -> algorithm, reason


def explain(name: str, batch: int, options: dict[str, Any]) -> str:
    """A table of the convolutions and linear layers that a training step of the model runs."""
    model = hwr.models.create(name, seed=0, **options)
    explained: Explained = {}
    layers: list[tuple[str, nn.Module, tuple[int, ...], tuple[int, ...]]] = []

    def note_kernel(call: Call, arguments: tuple[Any, ...]) -> None:
        if call.kernel.startswith(("conv2d", "linear")):
            explained.update(((call, p), choice) for p, choice in choices(call, arguments).items())

    def note_layer(name: str, module: nn.Module, x: tn.Tensor, y: tn.Tensor) -> None:
        layers.append((name, module, x.shape, y.shape))

    # A model that reads strings says how high they are.
    image = (model.height, STRING_WIDTH, 1) if hasattr(model, "height") else IMAGE
    images = np.random.default_rng(0).standard_normal((batch, *image), np.float32)
    with tn.use_backend(noting(get_backend("numpy"), note_kernel)), recording(model, note_layer):
        logits = model.train()(tn.Tensor(images))
        F.cross_entropy(logits, np.zeros(logits.shape[:-1], np.int64)).backward()
    tables = [
        table(name, module, x_shape, y_shape, explained)
        for name, module, x_shape, y_shape in layers
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    return "\n".join([f"{name}, a training step of {batch} images, backend numpy", *tables])


def choices(call: Call, arguments: tuple[Any, ...]) -> dict[str, tuple[str, str]]:
    """For each product of a call the algorithm that the backend's own choice names, and why."""
    if call.kernel == "linear":
        x, w = arguments[:2]
        return {"forward": cpu_linear.choose(*x.shape, len(w))}
    if call.kernel == "linear_grad":
        dy, x, w = arguments[:3]
        both = cpu_linear.choose_grad(*dy.shape, (x if w is None else w).shape[1])
        wanted = w is not None, x is not None
        return {p: choice for p, choice, is_so in zip(PRODUCTS[1:], both, wanted) if is_so}
    geometry = (call.given[n] for n in ("stride", "padding", "dilation", "groups"))
    method, reason = cpu_conv.choose(call.kernel, call.shape_of("x"), call.shape_of("w"), *geometry)
    return {KINDS[call.kernel]: (name_of(method), reason)}


def name_of(method: ModuleType) -> str:
    """`cpu_direct_conv` is called direct."""
    return method.__name__.rpartition(".")[2].removeprefix("cpu_").partition("_")[0]


def table(
    name: str,
    module: nn.Conv2d | nn.Linear,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    explained: Explained,
) -> str:
    """One layer: its shapes and live taps, and a line for each of its three products."""
    w_shape = module.weight.shape
    if isinstance(module, nn.Linear):
        live, ours = "", of_linear(x_shape, w_shape, y_shape, explained)
    else:
        ours = of_conv(x_shape, w_shape, y_shape, explained)
        given = ours["forward"].given
        taps = [
            live_taps(x_shape[1 + a], w_shape[1 + a], *(
                given[n][a] for n in ("stride", "padding", "dilation")
            ))
            for a in (0, 1)
        ]  # fmt: skip
        live = f", {len(taps[0]) * len(taps[1])} of {w_shape[1] * w_shape[2]} taps see data"
        live += f", stride {given['stride'][0]}"
    products: dict[tuple[str, str], list[str]] = {}
    for product in PRODUCTS:
        call = ours.get(product)
        found = explained[call, product] if call else ("none", "nobody needs it")
        products.setdefault(found, []).append(product)
    lines = [f"{name}  {type(module).__name__} {size(x_shape)} -> {size(y_shape)}{live}"]
    lines += [
        f"    {', '.join(p):40} {method:9} {reason}" for (method, reason), p in products.items()
    ]
    return "\n".join(lines)


def size(shape: tuple[int, ...]) -> str:
    """A shape without its batch."""
    return "x".join(map(str, shape[1:]))


def of_conv(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], y_shape: tuple[int, ...],
    explained: Explained,
) -> dict[str, Call]:  # fmt: skip
    """The calls among those explained that have a convolution's shapes."""
    found = {}
    for call, product in explained:
        if call.kernel in KINDS and (call.shape_of("x"), call.shape_of("w")) == (x_shape, w_shape):
            out = call.results[0].shape if call.kernel == "conv2d" else call.shape_of("dy")
            if out == y_shape:
                found[product] = call
    return found


def of_linear(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], y_shape: tuple[int, ...],
    explained: Explained,
) -> dict[str, Call]:  # fmt: skip
    """The calls among those explained that have a linear layer's shapes."""
    filters, features = w_shape
    samples = math.prod(y_shape[:-1])  # every leading axis in one
    shapes = {"x": (samples, features), "w": w_shape, "dy": (samples, filters)}
    found = {}
    for call, product in explained:
        given = {name: call.given[name] for name in shapes if call.given.get(name)}
        if "linear" in call.kernel and all(a.shape == shapes[n] for n, a in given.items()):
            found[product] = call
    return found
