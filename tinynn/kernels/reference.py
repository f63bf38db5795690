"""Every kernel in plain array code. Read this first: it is the truth the fast kernels are held to.

A kernel takes and returns arrays; it knows nothing of Tensors or graphs. The same text runs on
NumPy and on any array library with NumPy's interface (CuPy): `namespace(x)` is the library that
`x` belongs to. Images are NHWC, `(N, H, W, C)`; filters are `(OC, KH, KW, C / groups)`.

Legend: `x w b y` arrays; `dy dx dw` gradients of the loss with respect to them; `N H W C` input,
`OH OW OC` output, `KH KW` filter; `M` rows of a matrix; `mean, var, rstd` statistics.

Recurrent layers (`reference_rnn.py`), the CTC loss (`reference_ctc.py`), optimisers
(`reference_optim.py`) and the gathering of batches (`reference_images.py`) have their own files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinynn.kernels.geometry import Padding, Pair, conv_output_size, pool_output_size

Array = Any  # numpy.ndarray, or another library's array with the same interface
K = TypeVar("K", bound=Callable[..., Any])

KERNELS: dict[str, Callable[..., Any]] = {}  # name -> function, in the order of the files


def kernel(function: K) -> K:
    """Enter a function into the table of kernels under its own name."""
    KERNELS[function.__name__] = function
    return function


def put(result: Array, out: Array | None) -> Array:
    """A kernel's result, in `out` if that is given, as in NumPy."""
    if out is None:
        return result
    out[...] = result
    return out


def namespace(x: Array) -> Any:
    """The array library that `x` belongs to: numpy, cupy, ..."""
    return sys.modules[type(x).__module__.partition(".")[0]]


# ---------------------------------------------------------------------------------------------
# Windows: what convolution and pooling have in common
# ---------------------------------------------------------------------------------------------


def taps(kernel_size: Pair, stride: Pair, dilation: Pair, out: Pair):
    """Yield (kh, kw, slices): the pixels of a padded image under tap (kh, kw) of every window."""
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (out[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (out[1] - 1) * stride[1] + 1, stride[1])
            yield i, j, (slice(None), rows, columns)


def pad_image(x: Array, padding: Padding, value: float = 0) -> Array:
    """(N, H, W, C) -> (N, top + H + bottom, left + W + right, C)."""
    if padding == ((0, 0), (0, 0)):
        return x
    return namespace(x).pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def im2col(x: Array, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Array:
    """(N, H, W, C) -> (N, OH, OW, KH, KW, C): the patch of x under every output pixel."""
    n, h, w, c = x.shape
    oh = conv_output_size(h, kernel_size[0], stride[0], padding[0], dilation[0])
    ow = conv_output_size(w, kernel_size[1], stride[1], padding[1], dilation[1])
    columns = namespace(x).empty((n, oh, ow, *kernel_size, c), x.dtype)
    padded = pad_image(x, padding)
    for i, j, under_tap in taps(kernel_size, stride, dilation, (oh, ow)):
        columns[:, :, :, i, j] = padded[under_tap]
    return columns


def col2im(
    columns: Array, x_shape: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair
) -> Array:
    """The adjoint of `im2col`: add every patch back onto the pixels it was read from."""
    n, h, w, c = x_shape
    _, oh, ow, kh, kw, _ = columns.shape
    (top, bottom), (left, right) = padding
    padded = namespace(columns).zeros((n, top + h + bottom, left + w + right, c), columns.dtype)
    for i, j, under_tap in taps((kh, kw), stride, dilation, (oh, ow)):
        padded[under_tap] += columns[:, :, :, i, j]
    return namespace(columns).ascontiguousarray(padded[:, top : top + h, left : left + w])


def by_group(columns: Array, groups: int) -> Array:
    """(..., KH, KW, C) -> (groups, M, KH KW C/groups): one matrix of patches for each group."""
    kh, kw, c = columns.shape[-3:]
    split = columns.reshape(-1, kh * kw, groups, c // groups).transpose(2, 0, 1, 3)
    return split.reshape(groups, split.shape[1], kh * kw * (c // groups))


# ---------------------------------------------------------------------------------------------
# Convolution: one matrix product of patches and filters
# ---------------------------------------------------------------------------------------------


@kernel
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """y[n,i,j,o] = sum over kh,kw,c of x[n, i s - p + kh d, j s - p + kw d, c] w[o,kh,kw,c].

    x (N, H, W, C), w (OC, KH, KW, C/groups) -> y (N, OH, OW, OC). Cross-correlation, as
    everywhere in the field: the filter is not flipped.
    """
    oc = w.shape[0]
    columns = im2col(x, w.shape[1:3], stride, padding, dilation)
    patches = by_group(columns, groups)  # (G, M, KH KW C/G)
    filters = w.reshape(groups, oc // groups, -1).transpose(0, 2, 1)  # (G, KH KW C/G, OC/G)
    y = patches @ filters  # (G, M, OC/G)
    return namespace(x).ascontiguousarray(y.transpose(1, 0, 2)).reshape(*columns.shape[:3], oc)


@kernel
def conv2d_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    residual: Array | None = None,
) -> Array:
    """dy (N, OH, OW, OC), w (OC, KH, KW, C/groups) -> dx of shape `x_shape` (N, H, W, C).

    `residual`: the gradient that x has by another way, such as a shortcut; it is added.
    """
    oc, kh, kw, cg = w.shape
    dy_groups = dy.reshape(-1, groups, oc // groups).transpose(1, 0, 2)  # (G, M, OC/G)
    dpatches = dy_groups @ w.reshape(groups, oc // groups, -1)  # (G, M, KH KW C/G)
    dcolumns = dpatches.reshape(groups, -1, kh * kw, cg).transpose(1, 2, 0, 3)
    dcolumns = dcolumns.reshape(*dy.shape[:3], kh, kw, groups * cg)
    dx = col2im(dcolumns, x_shape, stride, padding, dilation)
    return dx if residual is None else dx + residual


@kernel
def conv2d_weight_grad(
    dy: Array,
    x: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    out: Array | None = None,
) -> Array:
    """dy (N, OH, OW, OC), x (N, H, W, C) -> dw of shape `w_shape` (OC, KH, KW, C/groups).

    `out`: where to put it, as in NumPy.
    """
    oc = w_shape[0]
    patches = by_group(im2col(x, w_shape[1:3], stride, padding, dilation), groups)
    dy_groups = dy.reshape(-1, groups, oc // groups).transpose(1, 2, 0)  # (G, OC/G, M)
    return put((dy_groups @ patches).reshape(w_shape), out)


@kernel
def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a (..., M, K) @ b (..., K, N) -> (..., M, N); leading axes broadcast.

    `out`: where to put it, as in NumPy.
    """
    return namespace(a).matmul(a, b, out=out)


@kernel
def linear(x: Array, w: Array, bias: Array | None, relu: bool) -> Array:
    """x w' [+ bias], [max(., 0)]. x (M, I), w (O, I), bias (O,) -> (M, O)."""
    y = x @ w.T
    if bias is not None:
        y += bias
    return namespace(x).maximum(y, 0) if relu else y


@kernel
def add(a: Array, b: Array) -> Array:
    """a + b, broadcast."""
    return a + b


@kernel
def add_bias(y: Array, bias: Array) -> None:
    """y += bias, in place. y (..., C), bias (C,)."""
    y += bias


@kernel
def column_sum(dy: Array, out: Array | None = None) -> Array:
    """The sum over all axes but the last: a bias' gradient. dy (..., C) -> (C,).

    `out`: where to put it, as in NumPy.
    """
    axes = tuple(range(dy.ndim - 1))
    return put(dy.sum(axis=axes, dtype=np.float64).astype(dy.dtype), out)


@kernel
def relu_bias_grad(dy: Array, y: Array, out: Array | None = None) -> tuple[Array, Array]:
    """Back through y = max(z + bias, 0): dz, which is dy where y is positive, and its column sum,
    the bias' gradient. dy, y (..., C) -> dz (..., C), dbias (C,).

    `out`: where to put dbias.
    """
    dz = relu_grad(dy, y)
    return dz, column_sum(dz, out)


# ---------------------------------------------------------------------------------------------
# Products element by element
# ---------------------------------------------------------------------------------------------


@kernel
def mul(a: Array, b: Array) -> Array:
    """a b, broadcasting; one of the two may be a number."""
    return a * b


@kernel
def mul_grad(dy: Array, other: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of a product with respect to the factor of that `shape`: dy `other`."""
    return unbroadcast(dy * other, shape)


def unbroadcast(dy: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes that broadcasting stretched, back to `shape`."""
    if dy.shape == shape:
        return dy
    extra = dy.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and dy.shape[extra + i] != 1
    )
    return dy.sum(axis=axes, keepdims=True).reshape(shape)


# ---------------------------------------------------------------------------------------------
# Pooling
# ---------------------------------------------------------------------------------------------


def pool_geometry(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Pair, Padding]:
    """Output size, and the padding (after an overhanging last window too) it needs."""
    oh, ow = (
        pool_output_size(
            x_shape[1 + a], kernel_size[a], stride[a], padding[a], dilation[a], ceil_mode
        )
        for a in (0, 1)
    )
    after = [
        max(
            (o - 1) * stride[a]
            + dilation[a] * (kernel_size[a] - 1)
            + 1
            - x_shape[1 + a]
            - padding[a],
            0,
        )
        for a, o in enumerate((oh, ow))
    ]
    return (oh, ow), ((padding[0], after[0]), (padding[1], after[1]))


@kernel
def max_pool2d(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """The largest pixel of every window and the tap where it stood (the first, among equals).

    x (N, H, W, C) -> y (N, OH, OW, C), tap uint8 or int32 of the same shape (kh KW + kw).
    NaN counts as the largest; padding never wins.
    """
    xp = namespace(x)
    out, padding_used = pool_geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    padded = pad_image(x, padding_used, -math.inf)
    count = kernel_size[0] * kernel_size[1]
    y = xp.full((x.shape[0], *out, x.shape[3]), -math.inf, x.dtype)
    tap = xp.zeros(y.shape, np.uint8 if count <= 256 else np.int32)
    for i, j, under_tap in taps(kernel_size, stride, dilation, out):
        candidate = padded[under_tap]
        better = (candidate > y) | (xp.isnan(candidate) & ~xp.isnan(y))
        y = xp.where(better, candidate, y)
        tap = xp.where(better, tap.dtype.type(i * kernel_size[1] + j), tap)
    return y, tap


@kernel
def max_pool2d_grad(
    dy: Array,
    tap: Array,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> Array:
    """Each output's gradient goes to the pixel that won its window. dy, tap (N, OH, OW, C)."""
    xp = namespace(dy)
    out, used = pool_geometry(x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    n, h, w, c = x_shape
    (top, bottom), (left, right) = used
    padded = xp.zeros((n, top + h + bottom, left + w + right, c), dy.dtype)
    for i, j, under_tap in taps(kernel_size, stride, dilation, out):
        padded[under_tap] += xp.where(tap == i * kernel_size[1] + j, dy, 0)
    return xp.ascontiguousarray(padded[:, top : top + h, left : left + w])


def pool_divisor(
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    out: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """(OH, OW, 1): the pixels each window is averaged over, as PyTorch counts them: an
    overhang beyond the padding never counts, padding only with `count_include_pad`."""
    sides = []
    for a in (0, 1):
        size, begin = x_shape[1 + a], np.arange(out[a]) * stride[a] - padding[a]
        end = np.minimum(begin + kernel_size[a], size + padding[a])
        if not count_include_pad:
            begin, end = np.maximum(begin, 0), np.minimum(end, size)
        sides.append(np.maximum(end - begin, 0))
    return np.maximum(np.outer(*sides), 1)[:, :, None]


@kernel
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """The mean of every window. x (N, H, W, C) -> y (N, OH, OW, C)."""
    xp = namespace(x)
    out, used = pool_geometry(x.shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    divisor = divisor_override or xp.asarray(
        pool_divisor(x.shape, kernel_size, stride, padding, out, count_include_pad), x.dtype
    )
    padded = pad_image(x, used)
    y = xp.zeros((x.shape[0], *out, x.shape[3]), x.dtype)
    for _, _, under_tap in taps(kernel_size, stride, (1, 1), out):
        y += padded[under_tap]
    return y / divisor


@kernel
def avg_pool2d_grad(
    dy: Array,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Each output's gradient in equal shares to its window. dy (N, OH, OW, C) -> dx."""
    xp = namespace(dy)
    out, used = pool_geometry(x_shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    divisor = divisor_override or xp.asarray(
        pool_divisor(x_shape, kernel_size, stride, padding, out, count_include_pad), dy.dtype
    )
    share = (dy / divisor)[:, :, :, None, None, :]
    columns = xp.broadcast_to(share, (*dy.shape[:3], *kernel_size, dy.shape[3]))
    return col2im(columns, x_shape, stride, used, (1, 1))


@kernel
def interpolate(x: Array, rows: Array, columns: Array) -> Array:
    """y[n,i,j,c] = sum over h,w of rows[i,h] columns[j,w] x[n,h,w,c]: an image of another size.

    x (N, H, W, C), rows (OH, H), columns (OW, W) -> y (N, OH, OW, C). Its own gradient, with the
    matrices transposed.
    """
    n, h, w, c = x.shape
    y = rows @ x.reshape(n, h, w * c)  # (N, OH, W*C)
    return columns @ y.reshape(n, len(rows), w, c)


@kernel
def global_avg_pool2d(x: Array) -> Array:
    """The mean of each image and channel. x (N, H, W, C) -> y (N, 1, 1, C)."""
    return x.mean(axis=(1, 2), keepdims=True)


@kernel
def global_avg_pool2d_grad(dy: Array, x_shape: tuple[int, ...]) -> Array:
    """Each gradient in equal shares to its image. dy (N, 1, 1, C) -> dx (N, H, W, C)."""
    dx = namespace(dy).empty(x_shape, dy.dtype)
    dx[...] = dy / (x_shape[1] * x_shape[2])
    return dx


# ---------------------------------------------------------------------------------------------
# Normalisation. Sums over many rows run in float64: in float32 a plain column sum of 100,000
# numbers loses three digits.
# ---------------------------------------------------------------------------------------------


@kernel
def batch_norm(
    x: Array, weight: Array, bias: Array, residual: Array | None, relu: bool, eps: float
) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) / sqrt(var + eps) + bias [+ residual], [max(., 0)]; training mode.

    x (..., C), statistics over all other axes -> y (..., C), mean (C,), biased var (C,).
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    rows = x.reshape(-1, x.shape[-1])  # (M, C)
    mean = rows.mean(axis=0, dtype=np.float64).astype(x.dtype)
    var = ((rows - mean) ** 2).mean(axis=0, dtype=np.float64).astype(x.dtype)
    y = batch_norm_inference(x, weight, bias, mean, var, residual, relu, eps)
    return y, mean, var


@kernel
def update_running_statistics(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    momentum: float,
    count: int,
    batches: Array | None = None,
) -> None:
    """running <- (1 - momentum) running + momentum batch, in place. All (C,).

    Of the variance the unbiased one is averaged: `var` times count / (count - 1). `batches` (),
    integer: how many there were; it counts on.
    """
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)
    if batches is not None:
        batches += 1


@kernel
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
) -> tuple[Array, Array, Array, Array | None]:
    """-> dx (..., C), dweight (C,), dbias (C,), and dresidual (..., C) or None if not needed.

    dx = weight rstd (dz - mean(dz) - xhat mean(dz xhat)) with xhat = (x - mean) rstd and dz the
    gradient before the ReLU, which is also dresidual: the statistics depend on x too. y, needed
    only with a residual and relu, tells where the ReLU was open; else x does, with one array less
    to read. `out_weight`, `out_bias`: where to put dweight and dbias.
    """
    rstd = (var + eps) ** -0.5
    dz, dweight, dbias, xhat = batch_norm_sums(dy, x, y, weight, bias, mean, rstd, relu)
    m = x.size // x.shape[-1]
    dx = (weight * rstd) * (dz - dbias / m - xhat * (dweight / m))
    return dx, put(dweight, out_weight), put(dbias, out_bias), dz if needs_residual else None


@kernel
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
    """The same formula with given statistics: evaluation mode. x (..., C) -> y (..., C)."""
    y = (x - mean) * (weight * (var + eps) ** -0.5) + bias
    if residual is not None:
        y = y + residual
    return namespace(x).maximum(y, 0) if relu else y


@kernel
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
    """`batch_norm_inference` of `conv2d`."""
    y = conv2d(x, w, stride, padding, dilation, groups)
    return batch_norm_inference(y, weight, bias, mean, var, residual, relu, eps)


@kernel
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
) -> tuple[Array, Array, Array, Array | None]:
    """As `batch_norm_grad` with constant statistics: dx = weight rstd dz."""
    rstd = (var + eps) ** -0.5
    dz, dweight, dbias, _ = batch_norm_sums(dy, x, y, weight, bias, mean, rstd, relu)
    dx, dweight, dbias = dz * (weight * rstd), put(dweight, out_weight), put(dbias, out_bias)
    return dx, dweight, dbias, dz if needs_residual else None


def batch_norm_sums(
    dy: Array, x: Array, y: Array | None, weight: Array, bias: Array, mean: Array, rstd: Array,
    relu: bool,
):  # fmt: skip
    """-> dz (..., C) through the ReLU, sum(dz xhat) (C,), sum(dz) (C,), xhat (..., C)."""
    xhat = (x - mean) * rstd
    if y is None:
        y = (x - mean) * (weight * rstd) + bias
    dz = relu_grad(dy, y) if relu else dy
    axes = tuple(range(x.ndim - 1))
    dweight = (dz * xhat).sum(axis=axes, dtype=np.float64).astype(x.dtype)
    return dz, dweight, dz.sum(axis=axes, dtype=np.float64).astype(x.dtype), xhat


@kernel
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """y = weight (x - mean) rstd + bias for each row. x (M, D) -> y (M, D), mean, rstd (M, 1)."""
    mean = x.mean(axis=1, keepdims=True)
    rstd = (((x - mean) ** 2).mean(axis=1, keepdims=True) + eps) ** -0.5
    return (x - mean) * rstd * weight + bias, mean, rstd


@kernel
def layer_norm_grad(
    dy: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """-> dx (M, D), dweight (D,), dbias (D,)."""
    xhat = (x - mean) * rstd
    dxhat = dy * weight
    dx = rstd * (
        dxhat
        - dxhat.mean(axis=1, keepdims=True)
        - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
    )
    return dx, (dy * xhat).sum(axis=0), dy.sum(axis=0)


# ---------------------------------------------------------------------------------------------
# Activations
# ---------------------------------------------------------------------------------------------


@kernel
def relu(x: Array) -> Array:
    """max(x, 0)."""
    return namespace(x).maximum(x, 0)


@kernel
def relu_grad(dy: Array, y: Array) -> Array:
    """dy where the output was positive: the derivative at 0 is taken as 0."""
    return dy * (y > 0)


@kernel
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow: exp only ever sees -|x|."""
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


@kernel
def sigmoid_grad(dy: Array, y: Array) -> Array:
    """dy y (1 - y)."""
    return dy * y * (1 - y)


@kernel
def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return namespace(x).tanh(x)


@kernel
def tanh_grad(dy: Array, y: Array) -> Array:
    """dy (1 - y^2)."""
    return dy * (1 - y * y)


@kernel
def silu(x: Array) -> Array:
    """x sigmoid(x), also called swish. Source: Ramachandran et al. 2017."""
    return x * sigmoid(x)


@kernel
def silu_grad(dy: Array, x: Array) -> Array:
    """dy s (1 + x (1 - s)) with s = sigmoid(x)."""
    s = sigmoid(x)
    return dy * s * (1 + x * (1 - s))


@kernel
def erf(x: Array) -> Array:
    """The error function, by its series of positive terms (nothing cancels):

    erf(x) = 2/sqrt(pi) exp(-x^2) sum over n of 2^n x^(2n+1) / (1 3 5 ... (2n+1)).
    Beyond |x| = 6 it is +-1 to the last bit of float64.
    """
    xp = namespace(x)
    bounded = xp.clip(x, -6, 6)
    term, total = bounded, bounded
    for n in range(1, 140):  # at |x| = 6 the terms grow until n = 36, then vanish by n = 140
        term = term * (bounded * bounded * (2 / (2 * n + 1)))
        total = total + term
    return (2 / math.sqrt(math.pi)) * xp.exp(-bounded * bounded) * total


@kernel
def gelu(x: Array, approximate: str) -> Array:
    """x Phi(x), Phi the normal distribution; "tanh" is the usual approximation.

    Source: Hendrycks and Gimpel 2016.
    """
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + namespace(x).tanh(inner))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@kernel
def gelu_grad(dy: Array, x: Array, approximate: str) -> Array:
    """dy (Phi(x) + x phi(x)), or the derivative of the approximation."""
    xp = namespace(x)
    if approximate == "tanh":
        t = xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
    density = xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return dy * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density)


# ---------------------------------------------------------------------------------------------
# Softmax and its loss
# ---------------------------------------------------------------------------------------------


@kernel
def log_softmax(x: Array, axis: int) -> Array:
    """x - log(sum(exp(x))) along `axis`, shifted by the maximum so that exp cannot overflow."""
    xp = namespace(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


@kernel
def log_softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """dy - softmax(x) sum(dy), with softmax(x) = exp(y)."""
    return dy - namespace(y).exp(y) * dy.sum(axis=axis, keepdims=True)


@kernel
def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    e = namespace(x).exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@kernel
def softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """y (dy - sum(dy y))."""
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


@kernel
def cross_entropy(logits: Array, target: Array) -> Array:
    """loss[m] = -sum over c of target[m,c] log softmax(logits[m])[c], in nats.

    logits, target (M, C) -> (M,). `target` holds probabilities times class weights; a row of
    zeros is a sample to ignore.
    """
    log_p = namespace(logits).where(target == 0, 0, log_softmax(logits, 1))  # 0 (-inf) is NaN
    return -(target * log_p).sum(axis=1)


@kernel
def cross_entropy_grad(dloss: Array, logits: Array, target: Array) -> Array:
    """dlogits[m] = dloss[m] (softmax(logits[m]) sum(target[m]) - target[m]). dloss (M,)."""
    p = softmax(logits, 1)
    return dloss[:, None] * (p * target.sum(axis=1, keepdims=True) - target)


@kernel
def label_cross_entropy(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array, Array]:
    """`cross_entropy` of the target (1 - e) onehot(label) + e / C, e = label_smoothing.

    logits (M, C), integer labels (M,) -> losses (M,); and top and total (M,) for the gradient:
    softmax(logits[m]) = exp(logits[m] - top[m]) / total[m]. A label `ignore_index` gives 0.
    """
    xp = namespace(logits)
    target, counts = label_target(logits, labels, ignore_index, label_smoothing)
    losses = xp.where(counts, cross_entropy(logits, target), 0)
    top = logits.max(axis=1)
    return losses, top, xp.exp(logits - top[:, None]).sum(axis=1)


@kernel
def label_cross_entropy_grad(
    dlosses: Array,
    logits: Array,
    labels: Array,
    top: Array,
    total: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """dlogits[m] = dlosses[m] (softmax(logits[m]) - target[m]); 0 for an ignored label."""
    xp = namespace(logits)
    target, counts = label_target(logits, labels, ignore_index, label_smoothing)
    p = xp.exp(logits - top[:, None]) / total[:, None]
    return xp.where(counts[:, None], dlosses[:, None] * (p - target), 0)


@kernel
def mean_over_labels(losses: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """The mean of the losses (M,) whose labels are not to be ignored; and how many these are.

    The others are 0. Both stay where the losses lie: the host would wait for an `int`.
    """
    xp = namespace(losses)
    count = xp.asarray(xp.count_nonzero(labels != ignore_index), losses.dtype)
    return xp.asarray(losses.sum() / count), count


def label_target(
    logits: Array, labels: Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array]:
    """-> target probabilities (M, C), and which labels count (M,)."""
    classes = logits.shape[1]
    onehot = (labels[:, None] == namespace(logits).arange(classes)).astype(logits.dtype)
    target = onehot * (1 - label_smoothing) + label_smoothing / classes
    return target, labels != ignore_index


# ---------------------------------------------------------------------------------------------
# Dropout
# ---------------------------------------------------------------------------------------------


@kernel
def random_bits(generator: Any, shape: tuple[int, ...], like: Array) -> Array:
    """16 random bits for each element of an array, as uint16, in `like`'s library.

    Drawn by NumPy's `generator` in words of 64 bits: a quarter of a draw for each element.
    """
    count = math.prod(shape)
    words = generator.integers(0, 2**64, -(-count // 4), np.uint64)
    return namespace(like).asarray(words.view(np.uint16)[:count].reshape(shape))


@kernel
def dropout(x: Array, bits: Array, drop: float) -> Array:
    """0 with probability `drop` and x / (1 - drop) otherwise, which keeps the expectation.

    x (...), uint16 `bits` of a shape that broadcasts to it. An element falls if its bits, as a
    number, are less than 2^16 drop, rounded: with the probability `drop` to within 2^-17.
    The same kernel is its own gradient.
    """
    if drop >= 1:
        return namespace(x).zeros_like(x)
    return namespace(x).where(bits < round(2**16 * drop), 0, x * (1 / (1 - drop)))
