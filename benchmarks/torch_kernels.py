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
        """stride, padding and dilation; no padding where `pads` has it."""
        o = self.options
        padding = [0, 0] if self.pads else [p[0] for p in o["padding"]]
        return list(o["stride"]), padding, list(o["dilation"])

    @property
    def pads(self) -> list[int]:
        """left, right, top and bottom if they differ, which takes a call of its own: F.pad."""
        (top, bottom), (left, right) = self.options["padding"]
        return [left, right, top, bottom] if (top, left) != (bottom, right) else []


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
    x, w, groups, pads = case["x"], case["w"], case.options["groups"], case.pads
    if pads:
        return lambda: F.conv2d(F.pad(x, pads), w, None, stride, padding, dilation, groups)
    return lambda: F.conv2d(x, w, None, stride, padding, dilation, groups)


def conv_gradient(case: Case, x: Tensor, w: Tensor, wanted: list[bool]) -> Step:
    stride, padding, dilation = case.geometry
    rest = None, stride, padding, dilation, False, [0, 0], case.options["groups"], wanted
    dy = case["dy"]
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, *rest)


@op("conv2d_input_grad")
def conv2d_input_grad(case: Case) -> Step:
    x, pads = case.nchw(case.options["x_shape"]), case.pads
    gradient = conv_gradient(case, F.pad(x, pads), case["w"], [True, False, False])
    left, _, top, _ = pads or [0] * 4
    height, width = x.shape[2:]

    def step() -> Tensor:
        dx = gradient()[0][:, :, top : top + height, left : left + width]  # a view
        return dx.add_(case["residual"]) if "residual" in case.tensors else dx

    return step


@op("conv2d_weight_grad")
def conv2d_weight_grad(case: Case) -> Step:
    x, w = F.pad(case["x"], case.pads), case.nchw(case.options["w_shape"])
    return conv_gradient(case, x, w, [False, True, False])


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


@op("linear_grad")
def linear_grad(case: Case) -> Step:
    """What PyTorch's graph of a linear layer and a ReLU runs, of the results that are wanted."""
    dy, (x, w, y) = case["dy"], (case.tensors.get(name) for name in "xwy")

    def step() -> tuple[Tensor, ...]:
        dz = dy if y is None else torch.ops.aten.threshold_backward(dy, y, 0)
        dx = [] if w is None else [dz @ w]
        dw = [] if x is None else [dz.T @ x]
        return *dx, *dw, *([dz.sum(0)] if case.options["bias"] else [])

    return step


@op("mul")
def mul(case: Case) -> Step:
    a, b = case["a"], case["b"]
    return lambda: a * b


@op("mul_grad")
def mul_grad(case: Case) -> Step:
    """Of a factor of `shape`: the sum over what was broadcast."""
    dy, other, shape = case["dy"], case["other"], case.options["shape"]
    if shape == case.given["dy"].shape:
        return lambda: dy * other
    return lambda: (dy * other).sum([2, 3], keepdim=True)


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


@op("avg_pool2d")
def avg_pool2d(case: Case) -> Step:
    x, options = case["x"], case.options
    return lambda: F.avg_pool2d(x, **options)


@op("avg_pool2d_grad")
def avg_pool2d_grad(case: Case) -> Step:
    (x,) = wanting(case.nchw(case.options["x_shape"]))
    options = {n: v for n, v in case.options.items() if n != "x_shape"}
    return gradient(F.avg_pool2d(x, **options), [x], case["dy"])


def pool_options(case: Case) -> dict[str, Any]:
    """A window's geometry: PyTorch has our names."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return {n: case.options[n] for n in names}


def normalised(case: Case, x: Tensor, weight: Tensor, bias: Tensor, *residual: Tensor) -> Tensor:
    """Batch norm [+ residual], [ReLU], with the batch's statistics or, in inference, given ones."""
    training = not case.call.kernel.startswith("batch_norm_inference")
    given = [None, None] if training else [case["mean"], case["var"]]
    y = F.batch_norm(x, *given, weight, bias, training=training, eps=case.options["eps"])
    y = y.add_(residual[0]) if residual else y
    return y.relu_() if case.options["relu"] else y


@op("batch_norm")
@op("batch_norm_inference")
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
@op("batch_norm_inference_grad")
def batch_norm_grad(case: Case) -> Step:
    inputs = [case["x"], case["weight"], case["bias"]]
    if case.options["needs_residual"]:
        inputs.append(torch.randn_like(case["x"]))
    inputs = wanting(*inputs)
    return gradient(normalised(case, *inputs), inputs, case["dy"])


@op("layer_norm")
def layer_norm(case: Case) -> Step:
    x, weight, bias, eps = case["x"], case["weight"], case["bias"], case.options["eps"]
    return lambda: F.layer_norm(x, x.shape[1:], weight, bias, eps)


@op("layer_norm_grad")
def layer_norm_grad(case: Case) -> Step:
    dy, x, mean, rstd, weight = (case[n] for n in ("dy", "x", "mean", "rstd", "weight"))
    bias, wanted = torch.zeros_like(weight), [True, True, True]
    backward = torch.ops.aten.native_layer_norm_backward
    return lambda: backward(dy, x, x.shape[1:], mean, rstd, weight, bias, wanted)


@op("dropout")
def dropout(case: Case) -> Step:
    """With bits that are drawn, as ours: F.dropout draws its own each time."""
    x, drop = case["x"], case.options["drop"]
    kept = case["bits"].int() >= round(2**16 * drop)
    return lambda: torch.ops.aten.native_dropout_backward(x, kept, 1 / (1 - drop))


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


def normalised_exponential(function: Callable[..., Tensor], backwards: Any) -> tuple[Op, Op]:
    """softmax or log_softmax, and its gradient."""

    def forward(case: Case) -> Step:
        x, axis = case["x"], case.options["axis"]
        return lambda: function(x, axis)

    def backward(case: Case) -> Step:
        dy, y, axis = case["dy"], case["y"], case.options["axis"]
        return lambda: backwards(dy, y, axis, y.dtype)

    return forward, backward


for name, function, backwards in (
    ("softmax", torch.softmax, torch.ops.aten._softmax_backward_data),
    ("log_softmax", torch.log_softmax, torch.ops.aten._log_softmax_backward_data),
):
    OPS[name], OPS[f"{name}_grad"] = normalised_exponential(function, backwards)


def ctc(case: Case, log_probs: Tensor) -> Tensor:
    """The losses."""
    names = "targets", "input_lengths", "target_lengths"
    options = {"blank": case.options["blank"], "reduction": "none"}
    return F.ctc_loss(log_probs, *(case[n] for n in names), **options)


def recurrence(x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """The steps, one after the other: PyTorch's own multiplies the input as well."""
    states = []
    for step in x:
        h = torch.tanh(torch.addmm(step, h, w.T))
        states.append(h)
    return torch.stack(states)


@op("rnn")
def rnn(case: Case) -> Step:
    return lambda: recurrence(case["x"], case["h"], case["w"])


@op("rnn_grad")
def rnn_grad(case: Case) -> Step:
    x, h = wanting(torch.randn_like(case["y"]), torch.zeros_like(case["y"][0]))
    return gradient(recurrence(x, h, case["w"]), [x, h], case["dy"])


def gated(case: Case, gates: Tensor) -> tuple[torch.nn.LSTM | torch.nn.GRU, list[Tensor]]:
    """PyTorch's layer with the recurrent weights, and x and the first states for it. It multiplies
    the input as well: so that this is little, there is one number at each step."""
    hidden, lstm = case["w"].shape[1], case.call.kernel.startswith("lstm")
    layer = (torch.nn.LSTM if lstm else torch.nn.GRU)(1, hidden).requires_grad_(False)
    layer.weight_hh_l0.copy_(case["w"])
    states = [torch.randn(1, gates.shape[1], hidden) for _ in range(2 if lstm else 1)]
    return layer, [torch.randn(*gates.shape[:2], 1), *states]


def run_gated(layer: torch.nn.LSTM | torch.nn.GRU, x: Tensor, *states: Tensor) -> Tensor:
    """Every h."""
    return layer(x, states if len(states) > 1 else states[0])[0]


@op("lstm")
@op("gru")
def gated_layer(case: Case) -> Step:
    layer, given = gated(case, case["x"])
    return lambda: run_gated(layer, *given)


@op("lstm_grad")
@op("gru_grad")
def gated_layer_grad(case: Case) -> Step:
    layer, given = gated(case, case["gates"])
    given = wanting(*given)
    y = run_gated(layer, *given)
    return gradient(y, given, torch.randn_like(y))


@op("ctc_loss")
def ctc_loss(case: Case) -> Step:
    return lambda: ctc(case, case["log_probs"])


@op("ctc_loss_grad")
def ctc_loss_grad(case: Case) -> Step:
    """PyTorch's adds the part of log_softmax to ours."""
    (log_probs,) = wanting(case["log_probs"])
    return gradient(ctc(case, log_probs), [log_probs], case["dlosses"])


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
    return update(case, torch.optim.SGD, momentum=case.options["momentum"], fused=True)


@op("update_adam")
def update_adam(case: Case) -> Step:
    return update(case, torch.optim.Adam, fused=True)


@op("update_adagrad")
def update_adagrad(case: Case) -> Step:
    return update(case, torch.optim.Adagrad, fused=True)


@op("update_rmsprop")
def update_rmsprop(case: Case) -> Step:
    return update(case, torch.optim.RMSprop)


@op("update_adadelta")
def update_adadelta(case: Case) -> Step:
    return update(case, torch.optim.Adadelta)


def update(case: Case, optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Step:
    """One long parameter, as our flat storage has it; the fused update where there is one."""
    weights = case["w"].requires_grad_()
    weights.grad = case["dw"]
    return optimizer([weights], lr=1e-4, **options).step
