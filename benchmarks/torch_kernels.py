"""PyTorch's op for each of our kernels, on the same numbers in PyTorch's layout.

Where PyTorch has no single op (batch norm + shortcut + ReLU) it is what its users write. A gradient
is one call of autograd's on a graph that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.calls import Call
from benchmarks.compare import Step

Op = Callable[["Case"], Step]
OPS: dict[str, Op] = {}  # kernel -> what makes the step


class Case:
    """A call's arguments as PyTorch's tensors: images and filters NCHW, in one memory format."""

    def __init__(self, call: Call, arrays: dict[str, Any], layout: torch.memory_format):
        self.call, self.given, self.layout = call, call.given, layout
        self.tensors = {
            name: self.tensor(array)
            for name, array in arrays.items()
            if isinstance(array, np.ndarray)
        }
        self.options = {n: v for n, v in self.given.items() if n not in self.tensors}

    def tensor(self, array: np.ndarray) -> Tensor:
        """(N, H, W, C) becomes NCHW; other arrays stay as they are."""
        made = torch.from_numpy(array)
        if made.ndim == 4:
            made = made.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        return made

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def nchw(self, shape: tuple[int, int, int, int]) -> Tensor:
        """Random numbers of a shape given as (N, H, W, C)."""
        return self.tensor(torch.randn(shape).numpy())

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int]]:
        """stride, padding and dilation, padding alike on both sides."""
        o = self.options
        return list(o["stride"]), [p[0] for p in o["padding"]], list(o["dilation"])


def op(name: str) -> Callable[[Op], Op]:
    """Enter PyTorch's counterpart of a kernel."""

    def enter(make: Op) -> Op:
        OPS[name] = make
        return make

    return enter


def gradient(y: Tensor, inputs: list[Tensor], dy: Tensor) -> Step:
    """The gradient of y with respect to the inputs, again and again."""
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def wanting(*tensors: Tensor) -> list[Tensor]:
    """The tensors, with gradients asked for."""
    return [t.detach().requires_grad_() for t in tensors]


@op("conv2d")
def conv2d(case: Case) -> Step:
    stride, padding, dilation = case.geometry
    x, w, groups = case["x"], case["w"], case.options["groups"]
    return lambda: F.conv2d(x, w, None, stride, padding, dilation, groups)


def conv_gradient(case: Case, x: Tensor, w: Tensor, wanted: list[bool]) -> Step:
    stride, padding, dilation = case.geometry
    rest = None, stride, padding, dilation, False, [0, 0], case.options["groups"], wanted
    dy = case["dy"]
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, *rest)


@op("conv2d_input_grad")
def conv2d_input_grad(case: Case) -> Step:
    x = case.nchw(case.options["x_shape"])
    gradient = conv_gradient(case, x, case["w"], [True, False, False])
    if "residual" not in case.tensors:
        return gradient
    residual = case["residual"]
    return lambda: (gradient()[0].add_(residual), None, None)


@op("conv2d_weight_grad")
def conv2d_weight_grad(case: Case) -> Step:
    return conv_gradient(case, case["x"], case.nchw(case.options["w_shape"]), [False, True, False])


@op("matmul")
def matmul(case: Case) -> Step:
    a, b = case["a"], case["b"]
    return lambda: a @ b


@op("linear")
def linear(case: Case) -> Step:
    x, w, bias = case["x"], case["w"], case.tensors.get("bias")
    if case.options["relu"]:
        return lambda: F.linear(x, w, bias).relu_()
    return lambda: F.linear(x, w, bias)


@op("relu_bias_grad")
def relu_bias_grad(case: Case) -> Step:
    dy, y = case["dy"], case["y"]

    def step() -> tuple[Tensor, Tensor]:
        dz = torch.ops.aten.threshold_backward(dy, y, 0)
        return dz, dz.sum(0)

    return step


@op("add")
def add(case: Case) -> Step:
    a, b = case["a"], case["b"]
    return lambda: a + b


@op("add_bias")
def add_bias(case: Case) -> Step:
    y, bias = case["y"], case["bias"]
    bias = bias[:, None, None] if y.ndim == 4 else bias
    return lambda: y.add_(bias)


@op("column_sum")
def column_sum(case: Case) -> Step:
    dy = case["dy"]
    axes = [0, 2, 3] if dy.ndim == 4 else [0]
    return lambda: dy.sum(axes)


@op("global_avg_pool2d")
def global_avg_pool2d(case: Case) -> Step:
    x = case["x"]
    return lambda: F.adaptive_avg_pool2d(x, 1)


@op("global_avg_pool2d_grad")
def global_avg_pool2d_grad(case: Case) -> Step:
    (x,) = wanting(case.nchw(case.options["x_shape"]))
    return gradient(F.adaptive_avg_pool2d(x, 1), [x], case["dy"])


@op("max_pool2d")
def max_pool2d(case: Case) -> Step:
    x, options = case["x"], pool_options(case)
    return lambda: F.max_pool2d(x, **options)


@op("max_pool2d_grad")
def max_pool2d_grad(case: Case) -> Step:
    (x,) = wanting(case.nchw(case.options["x_shape"]))
    return gradient(F.max_pool2d(x, **pool_options(case)), [x], case["dy"])


def pool_options(case: Case) -> dict[str, Any]:
    """A window's geometry: PyTorch has our names."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return {n: case.options[n] for n in names}


def normalised(case: Case, x: Tensor, weight: Tensor, bias: Tensor, *residual: Tensor) -> Tensor:
    """Batch norm [+ residual], [ReLU], with the batch's statistics."""
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=case.options["eps"])
    y = y.add_(residual[0]) if residual else y
    return y.relu_() if case.options["relu"] else y


@op("batch_norm")
def batch_norm(case: Case) -> Step:
    given = [case[n] for n in ("x", "weight", "bias")]
    given += [case["residual"]] if "residual" in case.tensors else []
    return lambda: normalised(case, *given)


@op("update_running_statistics")
def update_running_statistics(case: Case) -> Step:
    unbias, momentum = case.options["count"] / (case.options["count"] - 1), case.options["momentum"]
    running_mean, running_var, mean, var = (
        case[n] for n in ("running_mean", "running_var", "mean", "var")
    )
    batches = case["batches"]

    def step() -> None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * unbias, momentum)
        batches.add_(1)

    return step


@op("conv2d_batch_norm")
def conv2d_batch_norm(case: Case) -> Step:
    stride, padding, dilation = case.geometry
    x, w, groups = case["x"], case["w"], case.options["groups"]
    statistics = case["mean"], case["var"], case["weight"], case["bias"]
    residual, relu, eps = (case.tensors.get("residual"), *map(case.options.get, ("relu", "eps")))

    def step() -> Tensor:
        y = F.conv2d(x, w, None, stride, padding, dilation, groups)
        y = F.batch_norm(y, *statistics, eps=eps)
        y = y if residual is None else y.add_(residual)
        return y.relu_() if relu else y

    return step


@op("batch_norm_grad")
def batch_norm_grad(case: Case) -> Step:
    inputs = [case["x"], case["weight"], torch.zeros_like(case["weight"])]
    if case.options["needs_residual"]:
        inputs.append(torch.randn_like(case["x"]))
    inputs = wanting(*inputs)
    return gradient(normalised(case, *inputs), inputs, case["dy"])


def activation(function: Callable[..., Tensor]) -> tuple[Op, Op]:
    """An element-wise function and its gradient."""

    def options(case: Case) -> dict[str, Any]:
        return {n: v for n, v in case.options.items() if n == "approximate"}

    def forward(case: Case) -> Step:
        x = case["x"]
        return lambda: function(x, **options(case))

    def backward(case: Case) -> Step:
        (x,) = wanting(torch.randn_like(case["dy"]))
        return gradient(function(x, **options(case)), [x], case["dy"])

    return forward, backward


for name, function in {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
}.items():
    OPS[name], OPS[f"{name}_grad"] = activation(function)


@op("label_cross_entropy")
def label_cross_entropy(case: Case) -> Step:
    logits, labels = case["logits"], case["labels"]
    return lambda: F.cross_entropy(logits, labels, reduction="none")


@op("label_cross_entropy_grad")
def label_cross_entropy_grad(case: Case) -> Step:
    (logits,) = wanting(case["logits"])
    loss = F.cross_entropy(logits, case["labels"], reduction="none")
    return gradient(loss, [logits], case["dlosses"])


@op("mean_over_labels")
def mean_over_labels(case: Case) -> Step:
    losses, labels, ignored = case["losses"], case["labels"], case.options["ignore_index"]
    return lambda: losses.sum() / (labels != ignored).sum()


@op("update_sgd")
def update_sgd(case: Case) -> Step:
    return update(case, torch.optim.SGD, momentum=case.options["momentum"])


@op("update_adam")
def update_adam(case: Case) -> Step:
    return update(case, torch.optim.Adam)


def update(case: Case, optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Step:
    """One long parameter, as our flat storage has it, and the fused update."""
    weights = case["w"].requires_grad_()
    weights.grad = case["dw"]
    return optimizer([weights], lr=1e-4, fused=True, **options).step
