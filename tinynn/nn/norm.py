"""Modules that normalise: over a batch, folded into the convolution before it, or over each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynn import functional as F
from tinynn.autograd import is_grad_enabled
from tinynn.backend import current_backend
from tinynn.nn.layers import Conv2d, check_positive, new_parameter
from tinynn.nn.module import Buffer, Module, Parameter
from tinynn.tensor import Tensor


class BatchNorm(Module):
    """Batch normalisation over all axes but the last: (N, C) or (N, H, W, C).

    `bn(x, residual=shortcut, relu=True)` is relu(bn(x) + shortcut) in one fused kernel.

    momentum None: the running statistics are the plain average of all batches.
    """

    ndim: int

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        check_positive(type(self).__name__, num_features=num_features)
        xp = current_backend().xp
        self.eps, self.momentum, self.num_features = eps, momentum, num_features
        self.weight = Parameter(xp.ones(num_features, np.float32)) if affine else None
        self.bias = new_parameter((num_features,)) if affine else None
        tracked = track_running_stats
        self.running_mean = Buffer(xp.zeros(num_features, np.float32)) if tracked else None
        self.running_var = Buffer(xp.ones(num_features, np.float32)) if tracked else None
        self.num_batches_tracked = Buffer(xp.zeros((), np.int64)) if tracked else None

    def forward(self, x: Any, residual: Any = None, relu: bool = False) -> Tensor:
        if x.ndim != self.ndim:
            raise ValueError(
                f"{type(self).__name__}: input must have {self.ndim} dimensions, not {x.shape}"
            )
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self.momentum,
            self.eps,
            residual=residual,
            relu=relu,
            num_batches_tracked=self.num_batches_tracked,
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(BatchNorm):
    """Batch normalisation of (N, C)."""

    ndim = 2


class BatchNorm2d(BatchNorm):
    """Batch normalisation of (N, H, W, C)."""

    ndim = 4


def conv_norm(
    conv: Conv2d, norm: BatchNorm2d, x: Any, residual: Any = None, relu: bool = False
) -> Tensor:
    """norm(conv(x), residual, relu): in evaluation without gradients one kernel.

    Not if somebody watches the layers, each of which has its output then.
    """
    w, b, mean, var = norm.weight, norm.bias, norm.running_mean, norm.running_var
    plain = norm.training or is_grad_enabled() or conv.bias is not None
    watched = "forward" in vars(conv) or "forward" in vars(norm)
    if plain or watched or w is None or b is None or mean is None or var is None:
        return norm(conv(x), residual=residual, relu=relu)
    options = conv.stride, conv.padding, conv.dilation, conv.groups
    return F.conv2d_batch_norm(
        x, conv.weight, options, (mean, var), w, b, norm.eps, residual=residual, relu=relu
    )


class LayerNorm(Module):
    """Normalisation over the trailing axes `normalized_shape`."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        given = normalized_shape
        shape = (given,) if isinstance(given, int) else tuple(given)
        xp = current_backend().xp
        self.normalized_shape, self.eps = shape, eps
        self.weight = Parameter(xp.ones(shape, np.float32)) if elementwise_affine else None
        self.bias = new_parameter(shape) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
