"""What kernels are written as: formulas, whose arithmetic writes LLVM code.

    @elementwise("w")
    def sgd(w, dw, *, lr, decay):
        return w - lr * (dw + decay * w)

A formula is a Python function. It is called once, with a `Vector` for each of its arrays, and every
operation on it writes an instruction (as a Tensor's arithmetic writes a graph). The loops around
it are those of `cpu_loops` and `cpu_rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from tinynn.kernels.cpu_llvm import INT32, Emitter

FUSE = ("contract",)  # a product and a sum may become one instruction, rounded once


class Vector:
    """Some floats of each array of a formula. Python numbers are spread over all lanes."""

    def __init__(self, emit: Emitter, value: Any):
        self.emit, self.value = emit, value

    def of(self, value: Any) -> Any:
        """`value` (a Vector or a number) as an LLVM value."""
        return value.value if isinstance(value, Vector) else self.emit.constant(value)

    def apply(self, instruction: str, *operands: Any, **options: Any) -> Vector:
        write = getattr(self.emit.build, instruction)
        return Vector(self.emit, write(*(self.of(v) for v in operands), **options))

    def __add__(self, other: Any) -> Vector:
        return self.apply("fadd", self, other, flags=FUSE)

    def __sub__(self, other: Any) -> Vector:
        return self.apply("fsub", self, other, flags=FUSE)

    def __rsub__(self, other: Any) -> Vector:
        return self.apply("fsub", other, self, flags=FUSE)

    def __mul__(self, other: Any) -> Vector:
        return self.apply("fmul", self, other, flags=FUSE)

    def __truediv__(self, other: Any) -> Vector:
        return self.apply("fdiv", self, other)

    def __rtruediv__(self, other: Any) -> Vector:
        return self.apply("fdiv", other, self)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Vector:
        return self.apply("fneg", self)

    def __gt__(self, other: Any) -> Vector:
        return self.compare(">", other)

    def __le__(self, other: Any) -> Vector:
        return self.compare("<=", other)

    def __eq__(self, other: Any) -> Vector:  # type: ignore[override]
        return self.compare("==", other)

    def __and__(self, other: Any) -> Vector:
        return self.apply("and_", self, other)

    def __lt__(self, other: Any) -> Vector:
        return self.compare("<", other)

    def compare(self, operator: str, other: Any) -> Vector:
        """A mask; false where one of the two is NaN."""
        build = self.emit.build
        return Vector(self.emit, build.fcmp_ordered(operator, self.value, self.of(other)))


def where(mask: Vector, a: Any, b: Any) -> Vector:
    chosen = mask.emit.build.select(mask.value, mask.of(a), mask.of(b))
    return Vector(mask.emit, chosen)


def larger(x: Vector, y: Vector) -> Vector:
    """Where x > y, or x alone is NaN."""
    build = x.emit.build
    greater = Vector(x.emit, build.fcmp_unordered(">", x.value, y.value))
    return greater & (y == y)


def relu(x: Vector) -> Vector:
    """max(x, 0); NaN stays."""
    return where(x <= 0, 0, x)


def _unary(name: str, x: Vector) -> Vector:
    module, kind = x.emit.module, x.value.type
    name = f"llvm.{name}.v{kind.count}f32"
    function = module.globals.get(name)
    function = function or ir.Function(module, ir.FunctionType(kind, [kind]), name)
    return Vector(x.emit, x.emit.build.call(function, [x.value]))


def sqrt(x: Vector) -> Vector:
    return _unary("sqrt", x)


def absolute(x: Vector) -> Vector:
    return _unary("fabs", x)


def exp(x: Vector) -> Vector:
    """For x <= 0, to one or two roundings; 0 below -87, where float32 ends."""
    power, q = split_exp(x)
    return where(x < -87, 0, power + power * q)


def log(x: Vector) -> Vector:
    """For normal x > 0, to one or two roundings."""
    build, integers = x.emit.build, ir.VectorType(INT32, x.value.type.count)

    def lanes(value: int) -> Any:
        return ir.Constant(integers, [value] * x.value.type.count)

    # x = 2^n m with m from sqrt(1/2) to sqrt(2), whose bits begin at 0x3f3504f3
    bits = build.sub(build.bitcast(x.value, integers), lanes(0x3F3504F3))
    exponent = build.ashr(bits, lanes(23))
    fraction = build.add(build.and_(bits, lanes(0x7FFFFF)), lanes(0x3F3504F3))
    n = Vector(x.emit, build.sitofp(exponent, x.value.type))
    m = Vector(x.emit, build.bitcast(fraction, x.value.type))
    s = (m - 1) / (m + 1)  # log m = 2 (s + s^3 / 3 + s^5 / 5 + ...)
    square = s * s
    series: Any = 1 / 11
    for odd in (9, 7, 5, 3):
        series = square * series + 1 / odd
    logarithm = n * LOG2[0] + (2 * s + (2 * s * square * series + n * LOG2[1]))
    return where(x == x, logarithm, x)  # NaN stays


def expm1(x: Vector) -> Vector:
    """exp(x) - 1 for x <= 0; near 0 nothing cancels."""
    power, q = split_exp(x)
    return (power - 1) + power * q


ROUNDER = 1.5 * 2**23  # added to a float, leaves its nearest integer in the last bits
LOG2 = 0.693145751953125, 1.42860677e-6  # log 2 as a short number and the rest


def split_exp(x: Vector) -> tuple[Vector, Vector]:
    """2^n and q with exp(x) = 2^n (1 + q), |q| < 0.42: n = round(x / log 2). For -87 < x <= 0.

    Below -87, where float32 ends, as at -87. Source: Cody and Waite 1980; q by its series.
    """
    build, integers = x.emit.build, ir.VectorType(INT32, x.value.type.count)
    x = where(x < -87, -87, x)
    shifted = x * (1 / np.log(2)) + ROUNDER
    n = shifted - ROUNDER
    r = x - n * LOG2[0] - n * LOG2[1]  # |r| <= log(2) / 2
    q: Any = 1 / 5040
    for factorial in (720, 120, 24, 6, 2, 1):
        q = r * q + 1 / factorial
    bits = build.bitcast(shifted.value, integers)
    exponent = build.shl(bits, ir.Constant(integers, [23] * x.value.type.count))
    one = ir.Constant(integers, [127 << 23] * x.value.type.count)
    power = build.bitcast(build.add(exponent, one), x.value.type)
    return Vector(x.emit, power), q * r
