"""Images of another size: every output row is a mix of input rows, and every column of columns."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tinynn.autograd import Function
from tinynn.backend import Array, Backend
from tinynn.functions.conv import pair
from tinynn.functions.math import as_tensor
from tinynn.kernels.geometry import Pair
from tinynn.tensor import Tensor

MODES = ("nearest", "bilinear", "area")
Mixing = tuple[int, int, str, bool, float | None]  # what `mixing_matrix` is given


class Interpolate(Function):
    """Rows mixed by one matrix and columns by another; the gradient flows by their transposes."""

    def __init__(self, rows: Mixing, columns: Mixing):
        self.axes = rows, columns

    def forward(self, x: Array) -> Array:
        rows, columns = (shares(self.kernels, x.dtype, axis) for axis in self.axes)
        return self.kernels.interpolate(x, rows, columns)

    def backward(self, dy: Array) -> Array:
        rows, columns = (
            shares(self.kernels, dy.dtype, axis, transposed=True) for axis in self.axes
        )
        return self.kernels.interpolate(dy, rows, columns)


@cache  # for good: a recorded step finds them here, as nothing is copied to a device then
def shares(backend: Backend, dtype: Any, axis: Mixing, transposed: bool = False) -> Array:
    """The `mixing_matrix` of an axis as an array of a backend, or its transpose."""
    matrix = mixing_matrix(*axis)
    return backend.asarray(np.ascontiguousarray(matrix.T if transposed else matrix), dtype)


def mixing_matrix(
    size: int, out: int, mode: str, align_corners: bool, scale: float | None
) -> np.ndarray:
    """(out, size): the share of each of `size` pixels along an axis in each of `out`.

    Pixel i covers [i, i + 1] and its value lies at i + .5; output pixel j covers
    [j step, (j + 1) step] of the input, where step = size / out, or 1 / scale where that is given.
    "area" is the mean of all pixels it touches; "bilinear" lies between the two nearest its
    middle; "nearest" is, as in PyTorch, the one at its beginning. With `align_corners` the values
    of the first and last pixels coincide instead.
    """
    j, step = np.arange(out), 1 / scale if scale else size / out
    matrix = np.zeros((out, size))
    if mode == "area":
        for row, (begin, end) in enumerate(zip(j * size // out, -(-(j + 1) * size // out))):
            matrix[row, begin:end] = 1 / (end - begin)
    elif mode == "nearest":  # in single precision, where PyTorch's products round down too
        begin = np.floor(j.astype(np.float32) * np.float32(step)).astype(int)
        matrix[j, np.minimum(begin, size - 1)] = 1
    else:
        at = j * ((size - 1) / max(out - 1, 1)) if align_corners else (j + 0.5) * step - 0.5
        at = np.clip(at, 0, size - 1)
        left = at.astype(int)
        matrix[j, left] = 1 - (at - left)
        matrix[j, np.minimum(left + 1, size - 1)] += at - left
    return matrix


def interpolate(
    input: Any,
    size: int | Pair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """Images of another size. (N, H, W, C) -> (N, OH, OW, C).

    `size` is (OH, OW), or one number for both; or else `scale_factor` multiplies height and width,
    rounded down. `mode` is "nearest", "bilinear" (for enlarging) or "area" (the mean of the pixels
    covered, for reducing); `align_corners` is for "bilinear".
    """
    x = as_tensor(input)
    if x.ndim != 4 or x.shape[1] < 1 or x.shape[2] < 1:
        raise ValueError(f"interpolate: input must be (N, H, W, C) with pixels, not {x.shape}")
    if mode not in MODES or (align_corners and mode != "bilinear"):
        raise ValueError(
            f"interpolate: mode must be one of {', '.join(MODES)}, and align_corners goes with "
            f"bilinear alone, not mode={mode!r}, align_corners={align_corners}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: give size or scale_factor, one of them, not size={size}, "
            f"scale_factor={scale_factor}"
        )
    scales: tuple[float | None, float | None] = (None, None)
    if scale_factor is not None:
        both = scale_factor if isinstance(scale_factor, tuple) else (scale_factor, scale_factor)
        scales, size = both, (math.floor(x.shape[1] * both[0]), math.floor(x.shape[2] * both[1]))
    out = pair(size, "interpolate: size")  # type: ignore[arg-type]
    rows, columns = (
        (x.shape[1 + axis], out[axis], mode, align_corners, scales[axis]) for axis in (0, 1)
    )
    return Interpolate(rows, columns)(x)
