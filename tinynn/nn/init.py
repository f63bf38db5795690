"""Initialisers: fill a parameter in place from a NumPy generator.

Shapes are this library's: (OC, KH, KW, C) filters and (out, in) matrices, so the first axis is the
outputs and the last the inputs; `fan_in` = inputs times taps, `fan_out` = outputs times taps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynn.backend import current_backend
from tinynn.random import default_generator
from tinynn.tensor import Tensor

GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
Generator = np.random.Generator | None


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight. ValueError below two dimensions."""
    if len(shape) < 2:
        raise ValueError(f"init: fans need a weight of at least 2 dimensions, not {shape}")
    taps = math.prod(shape[1:-1])
    return shape[-1] * taps, shape[0] * taps


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity, as PyTorch lists them."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        known = ", ".join([*GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: unknown {nonlinearity!r}; known: {known}")
    return GAINS[nonlinearity]


def _fill(tensor: Tensor, values: np.ndarray) -> Tensor:
    tensor.data[...] = current_backend().asarray(values.astype(tensor.dtype))
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Every element `value`."""
    tensor.data[...] = value
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Uniform on [a, b)."""
    return _fill(tensor, (generator or default_generator()).uniform(a, b, tensor.shape))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None
) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _fill(tensor, (generator or default_generator()).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
) -> Tensor:
    """Normal, drawn again until within [a, b] (as in PyTorch, not multiples of std).

    ValueError if fewer than one draw in a thousand would be.
    """
    below_b, below_a = (math.erf((v - mean) / (std * math.sqrt(2))) / 2 for v in (b, a))
    if not below_b - below_a > 1e-3:
        raise ValueError(f"trunc_normal_: hardly a draw of mean {mean}, std {std} is in [{a}, {b}]")
    rng = generator or default_generator()
    values = rng.normal(mean, std, tensor.shape)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = rng.normal(mean, std, int(outside.sum()))
    return _fill(tensor, values)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Uniform on +-gain sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010, eq. 16."""
    bound = gain * math.sqrt(6 / sum(fans(tensor.shape)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Normal with std gain sqrt(2 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(fans(tensor.shape))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', not {mode!r}")
    fan = fans(tensor.shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Uniform on +-sqrt(3) gain / sqrt(fan). Source: He et al. 2015 (Delving Deep), eq. 10."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Normal with std gain / sqrt(fan). Source: He et al. 2015 (Delving Deep), eq. 10 and 14."""
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """A (semi-)orthogonal matrix of rows = first axis. Source: Saxe et al. 2013."""
    rows = tensor.shape[0]
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: needs at least 2 dimensions, not {tensor.shape}")
    columns = tensor.size // rows
    flat = (generator or default_generator()).normal(size=(rows, columns))
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q *= np.sign(np.diag(r))  # makes the draw uniform over orthogonal matrices
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: Generator = None,
) -> Tensor:
    """Variance scale / n, n = fan_in, fan_out or their mean (fan_avg), as Keras defines it.

    distribution: "truncated_normal" (at two standard deviations), "normal" or "uniform".
    """
    fan_in, fan_out = fans(tensor.shape)
    sizes = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in sizes:
        raise ValueError(f"variance_scaling_: mode must be one of {list(sizes)}, not {mode!r}")
    std = math.sqrt(scale / sizes[mode])
    if distribution == "normal":
        return normal_(tensor, 0, std, generator)
    if distribution == "uniform":
        return uniform_(tensor, -math.sqrt(3) * std, math.sqrt(3) * std, generator)
    if distribution == "truncated_normal":
        std /= 0.87962566103423978  # the standard deviation left after cutting at two
        return trunc_normal_(tensor, 0, std, -2 * std, 2 * std, generator)
    raise ValueError(f"variance_scaling_: unknown distribution {distribution!r}")


def default_linear_(weight: Any, bias: Any, generator: Generator = None) -> None:
    """PyTorch's default for linear and convolution layers: U(+-1/sqrt(fan_in)) for both."""
    fan_in, _ = fans(weight.shape)
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    uniform_(weight, -bound, bound, generator)
    if bias is not None:
        uniform_(bias, -bound, bound, generator)
