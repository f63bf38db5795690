"""CUDA drop-ins for batch normalisation, fused with addition and ReLU, and for sums over columns.

Forward: sums of x and x^2, then one pass over x. Backward: sums of dz and dz xhat, then one pass.
The ReLU's mask is read off x, or off y if there was a residual; it is never stored. A pass should
take as long as memory does, so threads read several numbers before they wait for one.
"""

from __future__ import annotations

import numpy as np

from tinynn.kernels import reference, reference_norm
from tinynn.kernels.cuda_conv import conv2d
from tinynn.kernels.cuda_launch import drop_in, float32, int32, kernel, like, per_element
from tinynn.kernels.geometry import Padding, Pair
from tinynn.kernels.reference import Array, namespace

FILE = "norm"
COLUMNS, ROWS = 32, 8  # of a block's threads, as in norm.cu
ROWS_EACH = 16  # rows that a thread sums before blocks share the work
MOST_SLICES = 256
MOST_ARRIVALS = 2048  # blocks side by side that may share their rows, as in norm.cu
EACH = 8  # elements that a thread normalises, as in norm.cu


def _column_sums(name: str, count: int, rows: int, channels: int, *arguments: object) -> None:
    """Launch a kernel that sums `count` terms over rows.

    `arguments`: the arrays it reads, None where what its blocks leave one another goes, the arrays
    it writes, the numbers behind them.
    """
    xp, columns = namespace(arguments[0]), -(-channels // COLUMNS)
    slices = min(MOST_SLICES, -(-rows // (ROWS * ROWS_EACH))) if columns <= MOST_ARRIVALS else 1
    partial = xp.empty((slices, count, channels), np.float64)
    given = tuple(partial if a is None else a for a in arguments)
    shared = 8 * count * COLUMNS * ROWS
    kernel(xp, FILE, name)((columns, slices), (COLUMNS, ROWS), given, shared_mem=shared)


@drop_in(reference.column_sum)
def column_sum(dy: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.column_sum."""
    channels = dy.shape[-1]
    rows = dy.size // channels
    sums = namespace(dy).empty(channels, dy.dtype) if out is None else out
    sizes = int32(rows), int32(channels)
    _column_sums("column_sums", 1, rows, channels, dy, None, sums, *sizes)
    return sums


def layer_norm_sums(dy: Array, x: Array, mean: Array, rstd: Array) -> tuple[Array, Array]:
    """dweight and dbias of a layer normalisation: sums over its rows."""
    (rows, channels), xp = x.shape, namespace(x)
    dweight, dbias = xp.empty(channels, x.dtype), xp.empty(channels, x.dtype)
    sizes = int32(rows), int32(channels)
    given = dy, x, mean, rstd, None, dweight, dbias, *sizes
    _column_sums("layer_norm_sums", 2, rows, channels, *given)
    return dweight, dbias


@drop_in(reference_norm.batch_norm)
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """Drop-in for reference_norm.batch_norm."""
    mean, var = like(weight), like(weight)
    channels = x.shape[-1]
    rows = x.size // channels
    sizes = int32(rows), int32(channels)
    _column_sums("statistics", 2, rows, channels, x, None, mean, var, *sizes)
    return _normalize(x, weight, bias, mean, var, residual, relu, eps), mean, var


@drop_in(reference_norm.update_running_statistics)
def update_running_statistics(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    momentum: float | None,
    count: int,
    batches: Array | None = None,
) -> None:
    """Drop-in for reference_norm.update_running_statistics: one launch in place of eight.

    Without momentum it is the reference: the kernel's threads could not read what one changes.
    """
    arrays = running_mean, running_var, mean, var
    if batches is None:
        batches = namespace(mean).empty((), np.int64)  # counted in vain
    if batches.dtype != np.int64 or momentum is None:
        return reference_norm.update_running_statistics(*arrays, momentum, count, batches)
    per_element(
        FILE, "update_running_statistics", mean.size, *arrays, batches, int32(mean.size),
        float32(momentum), float32(count / (count - 1)),
    )  # fmt: skip


@drop_in(reference_norm.batch_norm_inference)
def batch_norm_inference(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    residual: Array | None,
    relu: bool,
    eps: float,
) -> Array:
    """Drop-in for reference_norm.batch_norm_inference."""
    return _normalize(x, weight, bias, mean, var, residual, relu, eps)


def conv2d_batch_norm(
    x: Array,
    w: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    residual: Array | None,
    relu: bool,
    eps: float,
) -> Array:
    """Drop-in for reference_norm.conv2d_batch_norm."""
    y = conv2d(x, w, stride, padding, dilation, groups)
    return batch_norm_inference(y, weight, bias, mean, var, residual, relu, eps)


def _normalize(
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    residual: Array | None,
    relu: bool,
    eps: float,
) -> Array:
    y, has_residual, stride = like(x), residual is not None, _stride(x)
    per_element(
        FILE, "normalize", stride, x, weight, bias, mean, var, residual if has_residual else x, y,
        int32(x.size), int32(stride), int32(x.shape[-1]), float32(eps), int32(relu),
        int32(has_residual),
    )  # fmt: skip
    return y


def _stride(x: Array) -> int:
    """How far apart a thread's elements lie: whole rows, so that they are of one channel."""
    channels = x.shape[-1]
    return -(-x.size // channels // EACH) * channels


@drop_in(reference_norm.batch_norm_grad)
def batch_norm_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None = None,
    out_bias: Array | None = None,
    in_place: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference_norm.batch_norm_grad."""
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return _gradients(*given, training=True)


@drop_in(reference_norm.batch_norm_inference_grad)
def batch_norm_inference_grad(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None = None,
    out_bias: Array | None = None,
    in_place: bool = False,
) -> tuple[Array, Array, Array, Array | None]:
    """Drop-in for reference_norm.batch_norm_inference_grad."""
    given = dy, x, y, weight, bias, mean, var, relu, eps, needs_residual, out_weight, out_bias
    return _gradients(*given, training=False)


def _gradients(
    dy: Array,
    x: Array,
    y: Array | None,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    relu: bool,
    eps: float,
    needs_residual: bool,
    out_weight: Array | None,
    out_bias: Array | None,
    *,
    training: bool,
) -> tuple[Array, Array, Array, Array | None]:
    channels, output = x.shape[-1], x if y is None else y
    rows = x.size // channels
    dweight = like(weight) if out_weight is None else out_weight
    dbias = like(weight) if out_bias is None else out_bias
    dx, dresidual = like(x), like(x) if needs_residual else None
    sizes = int32(rows), int32(channels), float32(eps), int32(relu), int32(y is not None)
    numbers = weight, bias, mean, var
    given = dy, x, output, *numbers, None, dweight, dbias, *sizes
    _column_sums("gradient_sums", 2, rows, channels, *given)
    stride = _stride(x)
    per_element(
        FILE, "normalize_grad", stride, dy, x, output, *numbers, dweight, dbias, dx,
        dx if dresidual is None else dresidual, int32(x.size), int32(stride), *sizes,
        int32(training), int32(needs_residual),
    )  # fmt: skip
    return dx, dweight, dbias, dresidual
