"""Which kernels a step calls, with which shapes, and how much work that is.

Nothing is counted by hand: a backend that notes every call runs the step once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import numpy as np

from tinynn.backend import Backend
from tinynn.kernels.geometry import tap_visits


@dataclass(frozen=True)
class ArrayOf:
    """An array's shape, and what else about it can decide how a kernel works."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    transposed: bool = False  # a matrix that lies in memory column by column

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def describe(value: Any) -> Any:
    """An array as its shape; everything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return ArrayOf(value.shape, value.dtype.name, value.ndim == 2 and not value.flags.c_contiguous)


@dataclass(frozen=True)
class Call:
    """One call of a kernel: arguments by name and results, arrays as `ArrayOf`."""

    kernel: str
    arguments: tuple[tuple[str, Any], ...]
    results: tuple[Any, ...]

    @cached_property
    def given(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self.arguments)

    @property
    def multiply_adds(self) -> int:
        """Of convolutions (on taps that see data), matrix products and recurrences; 0 for all other
        kernels."""
        if self.kernel == "matmul":
            a, b = (self.given[name].shape for name in "ab")
            return math.prod(a) * b[-1]
        if self.kernel == "linear":
            return math.prod(self.shape_of("x")) * self.shape_of("w")[0]
        if self.kernel == "linear_grad":
            others = (self.given[name] for name in "xw")  # what each product needs beside dy
            return sum(math.prod(self.shape_of("dy")) * a.shape[1] for a in others if a)
        if self.kernel.removesuffix("_grad") in ("rnn", "lstm", "gru"):
            return self.of_recurrence()
        if not self.kernel.startswith("conv2d"):
            return 0
        x_shape, (oc, *kernel_size, channels) = self.shape_of("x"), self.shape_of("w")
        stride, padding, dilation = (self.given[n] for n in ("stride", "padding", "dilation"))
        visits = math.prod(
            tap_visits(x_shape[1 + a], kernel_size[a], stride[a], padding[a], dilation[a])
            for a in (0, 1)
        )
        return x_shape[0] * visits * oc * channels

    def of_recurrence(self) -> int:
        """At each of the T steps (N, H) times (H, G H), forwards or back, G the number of gates.

        The products before and after the walk, of all steps at once, are calls of `matmul`.
        """
        (steps, n, _) = (self.given["x"] if "x" in self.given else self.results[0]).shape
        return steps * n * math.prod(self.given["w"].shape)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an array, or of what a gradient is taken with respect to."""
        return self.given[f"{name}_shape"] if f"{name}_shape" in self.given else (
            self.given[name].shape
        )  # fmt: skip

    @property
    def bytes(self) -> int:
        """The least a kernel must move: every argument read once, every result written once.

        A kernel without results writes into its arguments, all but the gradient `dw`.
        """
        arrays = {n: v.bytes for n, v in self.arguments if isinstance(v, ArrayOf)}
        read = {n: count for n, count in arrays.items() if not n.startswith("out")}  # results
        written = [v.bytes for v in self.results if isinstance(v, ArrayOf)]
        if not self.results:
            written = [count for name, count in read.items() if name not in ("dw", "lr", "step")]
        return sum(read.values()) + sum(written)

    def __str__(self) -> str:
        arrays = {n: v.shape for n, v in self.arguments if isinstance(v, ArrayOf)}
        shapes = " ".join(
            f"{name}[{'x'.join(map(str, shape))}]"
            for name, shape in arrays.items()
            if len(shape) > 1 and not name.startswith("out")
        )
        options = [f"k{self.given['kernel_size'][0]}"] if "kernel_size" in self.given else []
        options += [f"s{self.given['stride'][0]}"] if "stride" in self.given else []
        options += [f"to {self.given['shape']}"] if "shape" in self.given else []
        options += [n for n in ("relu", "residual") if self.given.get(n) not in (None, False)]
        options += ["residual"] if self.given.get("needs_residual") else []
        sizes = [f"w[{s[0]:,}]" for n, s in arrays.items() if n == "w" and len(s) == 1]
        return " ".join([*sizes, shapes, *options]).strip()


def noting(backend: Backend, note: Callable[[Call, tuple[Any, ...]], None]) -> Backend:
    """`backend` with every kernel call handed to `note`, with its arguments, after it ran."""

    def noted(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(kernel).parameters)

        @wraps(kernel)
        def call(*args: Any) -> Any:
            returned = kernel(*args)
            results = returned if isinstance(returned, tuple) else (returned,)
            note(
                Call(
                    name,
                    tuple((n, describe(a)) for n, a in zip(names, args)),
                    tuple(describe(r) for r in results if r is not None),
                ),
                args,
            )
            return returned

        return call

    kernels = {name: noted(name, kernel) for name, kernel in backend.kernels.items()}
    return backend.override(backend.name, **kernels)


def calls_of(make: Callable[[Backend], Callable[[], object]], backend: Backend) -> list[Call]:
    """The kernel calls of one step that `make` makes for a backend."""
    calls: list[Call] = []
    make(noting(backend, lambda call, _: calls.append(call)))()
    return calls
