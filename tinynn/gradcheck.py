"""Gradients checked by finite differences: from Python, or `python -m tinynn.gradcheck`.

    result = gradcheck(lambda x, w: F.conv2d(x, w, stride=2), [x, w], rng=rng)
    assert result.ok, result.where

For a function f, a random direction v and a random cotangent c, both sides of

    <c, (f(x + h v) - f(x - h v)) / 2h>  =  <gradient of <c, f> at x, v>

are computed in float64; they differ by h^2 and by rounding / h. The cotangent is what makes the
check see: the gradient of sum(batch_norm(x)) is 0 for a right batch norm and for most broken ones.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinynn.autograd import no_grad
from tinynn.backend import backend_names, current_backend, use_backend
from tinynn.tensor import Tensor

TOLERANCE = 1e-6  # h^2 = 1e-12 and rounding / h = 1e-10, times the curvature of our functions
FLOOR = 1e-3  # a gradient this much smaller than the values is measured against the values
LARGEST_SEARCH = 4096  # elements of an input that is searched one by one for the worst


@dataclass(frozen=True)
class Element:
    """One element of an input: its index, and the gradient both ways."""

    index: tuple[int, ...]
    analytic: float
    numeric: float


@dataclass(frozen=True)
class GradcheckResult:
    """The worst disagreement between `backward` and finite differences, and where it is.

    error      |analytic - numeric|, relative to the larger one; inf if not finite
    input      name of the input it was found on
    direction  number of the random direction
    element    on failure, the element of that input that disagrees most (small inputs only)
    """

    error: float
    tolerance: float
    input: str = ""
    direction: int = 0
    analytic: float = 0.0
    numeric: float = 0.0
    element: Element | None = None

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    @property
    def where(self) -> str:
        """Where the worst error is, for people."""
        text = f"{self.input}, direction {self.direction}"
        if self.ok or not self.input:
            return text
        text += f": backward gives {self.analytic:.6g}, differences {self.numeric:.6g}"
        if (e := self.element) is not None:
            text += f"; worst at {self.input}{list(e.index)}: {e.analytic:.6g}, {e.numeric:.6g}"
        return text


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    eps: float = 1e-6,
    directions: int = 4,
    tolerance: float = TOLERANCE,
    rng: np.random.Generator,
) -> GradcheckResult:
    """Compare the backward pass of `function(*inputs) -> Tensor` with finite differences.

    Every floating-point array among `inputs` is checked, in float64; anything else is passed as
    it is. `function` must give the same result at each call (make random generators inside it)
    and be smooth within `eps` of the inputs (no ties, no kinks). `rng` draws the directions.
    ValueError if a gradient does not have the shape of its input.
    """
    arrays = [np.array(x, np.float64) if _is_floating(x) else x for x in inputs]
    checked = [i for i, x in enumerate(inputs) if _is_floating(x) and np.size(x)]
    if not checked:
        raise ValueError("gradcheck: none of the inputs is a floating-point array")
    names = _input_names(function, len(arrays))
    worst = GradcheckResult(0.0, tolerance, names[checked[0]])
    at: tuple[int, np.ndarray] | None = None
    for direction in range(directions):
        for i in checked:
            # Every other time the input is the only one that requires a gradient: a Function
            # saves and computes less then.
            wanted = checked if direction % 2 == 0 else [i]
            y, gradient, cotangent = _backward(function, arrays, wanted, i, rng)
            v = rng.standard_normal(arrays[i].shape)
            analytic = float((gradient * v).sum())
            numeric = _difference(function, arrays, i, v, cotangent, eps)
            typical = math.sqrt((gradient**2).sum())  # of <gradient, v> over random v
            scale = max(abs(numeric), abs(analytic), typical, FLOOR * np.abs(cotangent * y).sum())
            error = abs(analytic - numeric) / scale if scale else 0.0
            error = error if math.isfinite(error) else math.inf
            if error > worst.error:
                worst = GradcheckResult(error, tolerance, names[i], direction, analytic, numeric)
                at = i, cotangent
    if worst.ok or at is None or arrays[at[0]].size > LARGEST_SEARCH:
        return worst
    return replace(worst, element=_worst_element(function, arrays, *at, eps, rng))


def _is_floating(x: Any) -> bool:
    return isinstance(x, (float, np.ndarray, np.floating)) and np.asarray(x).dtype.kind == "f"


def _input_names(function: Callable[..., Any], count: int) -> list[str]:
    """The function's own parameter names, or input 0, input 1, ..."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind == p.VAR_POSITIONAL for p in parameters) or len(parameters) < count:
        return [f"input {i}" for i in range(count)]
    return [p.name for p in parameters]


def _value(function: Callable[..., Tensor], arrays: list[Any]) -> np.ndarray:
    with no_grad():
        tensors = [Tensor(x) if isinstance(x, np.ndarray) else x for x in arrays]
        return function(*tensors).numpy()


def _backward(
    function: Callable[..., Tensor],
    arrays: list[Any],
    wanted: list[int],
    i: int,
    rng: np.random.Generator,
    cotangent: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> y, the gradient of <cotangent, y> with respect to input i, the cotangent."""
    tensors = [
        Tensor(x, requires_grad=k in wanted) if isinstance(x, np.ndarray) else x
        for k, x in enumerate(arrays)
    ]
    y = function(*tensors)
    if cotangent is None:
        cotangent = rng.standard_normal(y.shape)
    if y.requires_grad:
        y.backward(cotangent)
    grad = tensors[i].grad
    if grad is None:
        return y.numpy(), np.zeros(arrays[i].shape), cotangent
    if grad.shape != arrays[i].shape:
        raise ValueError(
            f"gradcheck: the gradient of {_input_names(function, len(arrays))[i]} has shape "
            f"{grad.shape}, the input {arrays[i].shape}"
        )
    return y.numpy(), current_backend().to_numpy(grad), cotangent


def _difference(
    function: Callable[..., Tensor],
    arrays: list[Any],
    i: int,
    v: np.ndarray,
    cotangent: np.ndarray,
    eps: float,
) -> float:
    """<cotangent, (f(x + eps v) - f(x - eps v)) / 2 eps>, moving input i."""
    ahead, behind = (
        _value(function, [*arrays[:i], np.asarray(arrays[i] + step * v), *arrays[i + 1 :]])
        for step in (eps, -eps)
    )
    return float((cotangent * (ahead - behind)).sum() / (2 * eps))


def _worst_element(
    function: Callable[..., Tensor],
    arrays: list[Any],
    i: int,
    cotangent: np.ndarray,
    eps: float,
    rng: np.random.Generator,
) -> Element:
    """The element of input i whose own difference quotient is furthest from its gradient."""
    _, gradient, _ = _backward(function, arrays, [i], i, rng, cotangent)
    numeric = np.empty_like(gradient)
    for index in np.ndindex(gradient.shape):
        v = np.zeros_like(gradient)
        v[index] = 1
        numeric[index] = _difference(function, arrays, i, v, cotangent, eps)
    gap = np.nan_to_num(np.abs(gradient - numeric), nan=math.inf)
    index = tuple(int(k) for k in np.unravel_index(int(gap.argmax()), gap.shape))
    return Element(index, float(gradient[index]), float(numeric[index]))


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


def check_operation(name: str, count: int, seed: int) -> GradcheckResult:
    """The worst result over `count` random cases of one operation, on the current backend."""
    from tinynn.gradcheck_layer_cases import CASES, Draw

    results = []
    for number in range(count):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        case = CASES[name](Draw(rng))
        results.append(gradcheck(case.function, case.inputs, rng=rng))
    return max(results, key=lambda result: result.error)


def main(argv: Sequence[str] | None = None) -> int:
    """Check operations and print a table. 0 if every gradient is right, 1 if not, 2 for misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m tinynn.gradcheck",
        description="Compare every operation's backward pass with finite differences in float64.",
    )
    parser.add_argument("--op", help="only this operation, for example conv2d")
    parser.add_argument("--backend", default=backend_names()[0], choices=backend_names())
    parser.add_argument("--cases", type=int, default=8, help="random cases for each (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the random cases (default 0)")
    options = parser.parse_args(argv)
    if options.cases < 1 or options.seed < 0:
        parser.error("--cases must be at least 1 and --seed at least 0")

    from tinynn.gradcheck_layer_cases import CASES

    if options.op is not None and options.op not in CASES:
        near = difflib.get_close_matches(options.op.lower(), CASES, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        print(f"unknown operation {options.op!r}; {hint}Known: {', '.join(CASES)}", file=sys.stderr)
        return 2
    names = [options.op] if options.op else list(CASES)
    try:
        with use_backend(options.backend) as backend:
            print(f"backend {backend.name}, tolerance {TOLERANCE:g}")
            print(f"{'operation':<22}{'cases':>5}{'worst error':>13}       where")
            passed = [_print_row(name, options.cases, options.seed) for name in names]
    except ImportError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all(passed) else 1


def _print_row(name: str, count: int, seed: int) -> bool:
    result = check_operation(name, count, seed)
    verdict = "ok" if result.ok else "FAIL"
    print(f"{name:<22}{count:>5}{result.error:>13.1e}  {verdict:<4} {result.where}", flush=True)
    return result.ok


if __name__ == "__main__":
    sys.exit(main())
