"""Batch and layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinynn.autograd import Function
from tinynn.backend import Array, current_backend
from tinynn.functions.conv import Geometry, conv_geometry, conv_shape
from tinynn.functions.math import as_tensor
from tinynn.functions.shape import reshape
from tinynn.tensor import Tensor


class BatchNorm(Function):
    """y = weight (x - mean) rstd + bias [+ residual], [ReLU], with the batch's own statistics.

    After `forward`, `mean` and `var` hold those statistics, var the biased one.
    """

    new_grads = True

    def __init__(self, relu: bool, eps: float):
        self.relu, self.eps = relu, eps

    def forward(self, x: Array, weight: Array, bias: Array, residual: Array | None) -> Array:
        y, self.mean, self.var = self.kernels.batch_norm(
            x, weight, bias, residual, self.relu, self.eps
        )
        output = y if self.relu and residual is not None else None
        self.save(x, output, weight, bias, self.mean, self.var)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.kernels.batch_norm_grad(
            dy, *self.saved, self.relu, self.eps, self.needs[3],
            self.grad_storage(1), self.grad_storage(2), self.owns_dy,
        )  # fmt: skip


class BatchNormInference(Function):
    """The same with given statistics: evaluation mode."""

    new_grads = True

    def __init__(self, mean: Array, var: Array, relu: bool, eps: float):
        self.mean, self.var, self.relu, self.eps = mean, var, relu, eps

    def forward(self, x: Array, weight: Array, bias: Array, residual: Array | None) -> Array:
        y = self.kernels.batch_norm_inference(
            x, weight, bias, self.mean, self.var, residual, self.relu, self.eps
        )
        self.save(x, y if self.relu and residual is not None else None, weight, bias)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.kernels.batch_norm_inference_grad(
            dy, *self.saved, self.mean, self.var, self.relu, self.eps, self.needs[3],
            self.grad_storage(1), self.grad_storage(2), self.owns_dy,
        )  # fmt: skip


class ConvNorm(Function):
    """BatchNormInference of a convolution, which is not kept: a gradient computes it again."""

    new_grads = True

    def __init__(self, geometry: Geometry, mean: Array, var: Array, relu: bool, eps: float):
        self.geometry, self.mean, self.var, self.relu, self.eps = geometry, mean, var, relu, eps

    def forward(
        self, x: Array, w: Array, weight: Array, bias: Array, residual: Array | None
    ) -> Array:
        norm = weight, bias, self.mean, self.var, residual, self.relu, self.eps
        y = self.kernels.conv2d_batch_norm(x, w, *self.geometry, *norm)
        self.save(x, w, y if self.relu and residual is not None else None, weight, bias)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, w, y, weight, bias = self.saved
        z = self.kernels.conv2d(x, w, *self.geometry)
        norm = weight, bias, self.mean, self.var, self.relu, self.eps, self.needs[4]
        storage = self.grad_storage(2), self.grad_storage(3)
        dz, *others = self.kernels.batch_norm_inference_grad(
            dy, z, y, *norm, *storage, self.owns_dy
        )
        geometry, dx, dw = self.geometry, None, None
        if self.needs[0]:
            dx = self.kernels.conv2d_input_grad(dz, w, x.shape, *geometry, *self.take_grad(0))
        if self.needs[1]:
            dw = self.kernels.conv2d_weight_grad(dz, x, w.shape, *geometry, self.grad_storage(1))
        return dx, dw, *others


class LayerNorm(Function):
    """y = weight (x - mean) rstd + bias for each row of x (M, D)."""

    def __init__(self, eps: float):
        self.eps = eps

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        y, mean, rstd = self.kernels.layer_norm(x, weight, bias, self.eps)
        self.save(x, weight, mean, rstd)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return self.kernels.layer_norm_grad(dy, *self.saved)


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    relu: bool = False,
    num_batches_tracked: Tensor | None = None,
) -> Tensor:
    """Normalise each channel (the last axis) over all others, then optionally add and rectify.

    input (N, C) or (N, H, W, C). In training the batch's mean and biased variance are used, and
    running = (1 - momentum) running + momentum batch is updated in place (with the unbiased
    variance), and `num_batches_tracked`, an integer, counts on; otherwise the running statistics
    are used. With momentum None the running statistics are the plain average of all batches that
    were counted. relu(bn(x) + residual) is one fused kernel. ValueError in training if a channel
    has a single value: its variance is 0.
    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """
    x = as_tensor(input)
    channels = x.shape[-1] if x.ndim else 0
    xp = current_backend().xp
    w = as_tensor(weight) if weight is not None else Tensor(xp.ones(channels, x.dtype))
    b = as_tensor(bias) if bias is not None else Tensor(xp.zeros(channels, x.dtype))
    names = "weight", "bias", "running_mean", "running_var"
    for name, t in zip(names, (w, b, running_mean, running_var)):
        if t is not None and t.data.shape != (channels,):
            raise ValueError(
                f"batch_norm: input {x.shape} has {channels} channels, {name} has shape {t.shape}; "
                f"use BatchNorm(num_features={channels})"
            )
    if residual is not None:
        residual = as_tensor(residual)
        if residual.shape != x.shape:
            raise ValueError(
                f"batch_norm: residual {residual.shape} and input {x.shape} must have one shape"
            )
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: evaluation mode needs running_mean and running_var")
        fixed = BatchNormInference(running_mean.data, running_var.data, relu, eps)
        return fixed(x, w, b, residual)
    count = x.size // channels if channels else 0
    if count <= 1:
        raise ValueError(
            f"batch_norm: input {x.shape} has {count} value(s) for each channel, whose variance is "
            "0; train with a larger batch, or call eval() for a single sample"
        )
    function = BatchNorm(relu, eps)
    y = function(x, w, b, residual)
    if running_mean is not None and running_var is not None:
        running = running_mean.data, running_var.data
        update = function.kernels.update_running_statistics
        batches = None if num_batches_tracked is None else num_batches_tracked.data
        if momentum is None and batches is None:
            raise ValueError("batch_norm: an average of all batches needs num_batches_tracked")
        update(*running, function.mean, function.var, momentum, count, batches)
    return y


def conv2d_batch_norm(
    input: Any,
    filters: Tensor,
    options: tuple[Any, ...],
    statistics: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    relu: bool = False,
) -> Tensor:
    """`batch_norm` of `conv2d` in evaluation, in one kernel.

    `options` are conv2d's: stride, padding, dilation, groups; `statistics` the running mean and
    variance. All else as in `batch_norm`.
    """
    x = as_tensor(input)
    geometry = conv_geometry(x.shape, filters.shape, *options)
    shape = conv_shape(x.shape, filters.shape, geometry)
    if residual is not None:
        residual = as_tensor(residual)
        if residual.shape != shape:
            raise ValueError(
                f"conv2d_batch_norm: residual {residual.shape} and output {shape} must have one "
                "shape"
            )
    for t in (*statistics, weight, bias):
        if t.shape != shape[3:]:
            raise ValueError(
                f"conv2d_batch_norm: {shape[3]} filters, but statistics or weights of {t.shape}; "
                f"use BatchNorm2d(num_features={shape[3]})"
            )
    mean, var = statistics
    function = ConvNorm(geometry, mean.data, var.data, relu, eps)
    return function(x, filters, weight, bias, residual)


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the trailing axes `normalized_shape`. Source: Ba et al. 2016, eq. 4."""
    x = as_tensor(input)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"layer_norm: input {x.shape} does not end in normalized_shape {shape}")
    xp, d = current_backend().xp, math.prod(shape)
    w = as_tensor(weight) if weight is not None else Tensor(xp.ones(d, x.dtype))
    b = as_tensor(bias) if bias is not None else Tensor(xp.zeros(d, x.dtype))
    for name, t in (("weight", w), ("bias", b)):
        if t.size != d:
            raise ValueError(f"layer_norm: {name} has shape {t.shape}, expected {shape}")
    y = LayerNorm(eps)(reshape(x, (-1, d)), reshape(w, (d,)), reshape(b, (d,)))
    return reshape(y, x.shape)
