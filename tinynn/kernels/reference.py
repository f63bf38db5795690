"""Every kernel in plain array code. Read this first: it is the truth the fast kernels are held to.

A kernel takes and returns arrays; it knows nothing of Tensors or graphs. The same text runs on
NumPy and on any array library with NumPy's interface (CuPy): `namespace(x)` is the library that
`x` belongs to. Images are NHWC, `(N, H, W, C)`; filters are `(OC, KH, KW, C / groups)`.

Legend: `x w b y` arrays; `dy dx dw` gradients of the loss with respect to them; `N H W C` input,
`OH OW OC` output, `KH KW` filter; `M` rows of a matrix; `mean, var, rstd` statistics.

Here are convolutions, matrix products, what works element by element and the linear layer. Pooling
(`reference_pool.py`), normalisation (`reference_norm.py`), softmax and its loss
(`reference_softmax.py`), recurrent layers (`reference_rnn.py`), the CTC loss (`reference_ctc.py`),
optimisers (`reference_optim.py`) and the gathering of batches (`reference_images.py`) have their
own files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinynn.kernels.geometry import Padding, Pair, conv_output_size

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
    in_place: bool = False,
) -> Array:
    """dy (N, OH, OW, OC), w (OC, KH, KW, C/groups) -> dx of shape `x_shape` (N, H, W, C).

    `residual`: the gradient that x has by another way, such as a shortcut; it is added. `in_place`:
    dx may be written in its place, where that saves time.
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
# The linear layer, with a ReLU behind it or without
# ---------------------------------------------------------------------------------------------


@kernel
def linear(x: Array, w: Array, bias: Array | None, relu: bool) -> Array:
    """x w' [+ bias], [max(., 0)]. x (M, I), w (O, I), bias (O,) -> (M, O)."""
    y = x @ w.T
    if bias is not None:
        y += bias
    return namespace(x).maximum(y, 0) if relu else y


def linear_grad_of(
    relu_grad: Callable[..., Array], matmul: Callable[..., Array], column_sum: Callable[..., Array]
) -> Callable[..., tuple[Array | None, Array | None, Array | None]]:
    """The kernel `linear_grad`, made of three others: drop-ins for these make one for it."""

    def linear_grad(
        dy: Array, x: Array | None, w: Array | None, y: Array | None, bias: bool,
        out_dw: Array | None = None, out_db: Array | None = None, in_place: bool = False,
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """Back through y = x w' [+ bias], [max(., 0)], with dz = dy, where there was a ReLU only
        where y is positive: dx = dz w, dw = dz' x, and the bias' gradient, dz summed over M.

        dy, y (M, O), x (M, I), w (O, I) -> dx (M, I), dw (O, I), db (O,). Without y there was no
        ReLU; without w there is no dx, without x no dw, and unless `bias` no db.
        `out_dw`, `out_db`: where to put them. `in_place`: dz may be written in place of dy.
        """
        dz = dy if y is None else relu_grad(dy, y)
        dx = None if w is None else matmul(dz, w)
        dw = None if x is None else matmul(dz.T, x, out_dw)
        return dx, dw, column_sum(dz, out_db) if bias else None

    return linear_grad


linear_grad = kernel(linear_grad_of(relu_grad, matmul, column_sum))


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
