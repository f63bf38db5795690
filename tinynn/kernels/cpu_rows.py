"""Loops over the rows of a matrix, compiled from formulas that sum and compare along a row.

A formula describes one row, pass by pass; the row stays in the nearest cache meanwhile:

    @rows("x y")
    def softmax(row):
        top = row.largest(lambda x: x)
        total = row.sum(lambda x: exp(x - top))
        row.each("y", lambda x: exp(x - top) / total)

As in `cpu_loops` it is called once, with a `Row` that writes LLVM code. The arguments of a pass
name the arrays that it reads. What is left of a row after whole vectors is done under a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

from llvmlite import ir

from tinynn.kernels.cpu_formulas import Vector, where
from tinynn.kernels.cpu_llvm import FLOAT, INT, INT32, Emitter, Tile
from tinynn.kernels.cpu_loops import QUICK, UNROLL, Loop
from tinynn.kernels.cpu_parallel import job_type

Combine = Callable[[Vector, Vector], Vector]


class Row:
    """The row that a formula is about. What is one number for it is a Vector of equal lanes."""

    def __init__(self, loop: Rows, emit: Emitter, task: Any, row: Any):
        self.loop, self.emit, self.row = loop, emit, row
        build, lanes = emit.build, emit.lanes
        self.columns = loop.field(emit, "columns", INT)
        begin = build.mul(row, self.columns)
        self.arrays = {name: loop.array(emit, name, begin) for name in loop.arrays}
        begin = build.mul(task, self.columns)
        self.arrays |= {name: loop.array(emit, name, begin) for name in loop.blocks}
        self.arrays |= {name: loop.array(emit, name, INT(0)) for name in loop.shared}

        strip = lanes * UNROLL
        strips = build.sdiv(self.columns, INT(strip))
        vectors = build.sdiv(self.columns, INT(lanes))
        singles = build.sub(vectors, build.mul(strips, INT(UNROLL)))
        rest = build.sub(self.columns, build.mul(vectors, INT(lanes)))
        mask = Vector(emit, emit.first_lanes(rest))
        self.parts = [  # first column, turns of a loop, vectors in one turn, mask
            (INT(0), strips, UNROLL, None),
            (build.mul(strips, INT(strip)), singles, 1, None),
            (build.mul(vectors, INT(lanes)), emit.smallest(rest, INT(1)), 1, mask),
        ]

    # -- passes -------------------------------------------------------------------------------

    def each(self, into: str, formula: Callable[..., Any]) -> None:
        """Write the formula's results."""
        self.passes(formula, into, 0, lambda a, b: b, 0)

    def sum(self, formula: Callable[..., Any], count: int = 1, into: str = "") -> Any:
        """The sum of the formula's last `count` results; those before are written."""
        return self.passes(formula, into, count, lambda a, b: a + b, 0)

    def largest(self, formula: Callable[..., Any]) -> Vector:
        """NaN is passed over."""
        return self.passes(formula, "", 1, lambda a, b: where(b > a, b, a), -math.inf)

    def passes(
        self, formula: Callable[..., Any], into: str, count: int, combine: Combine, start: float
    ) -> Any:
        """Write the first results `into` arrays, combine the others along the row."""
        emit, outputs = self.emit, into.split()
        identity = Vector(emit, emit.constant(start))
        totals = [identity] * count
        for first, turns, vectors, mask in self.parts:
            several = totals + [identity] * (count * (vectors - 1))  # for each vector of a turn
            with emit.loop(turns, [v.value for v in several]) as loop:
                column = emit.build.mul(loop.index, INT(vectors * emit.lanes))
                column = emit.build.add(first, column)
                known = [Vector(emit, v) for v in loop.carried]
                for v in range(vectors):
                    place = emit.build.add(column, INT(v * emit.lanes))
                    for i, result in enumerate(self.apply(formula, outputs, place, mask)):
                        result = result if mask is None else where(mask, result, start)
                        known[v * count + i] = combine(known[v * count + i], result)
                loop.carried = [v.value for v in known]
            several = [Vector(emit, v) for v in loop.carried]
            totals = several[:count]
            for v in range(1, vectors):
                totals = [combine(t, w) for t, w in zip(totals, several[v * count :])]
        totals = [self.across(v, combine) for v in totals]
        return totals[0] if count == 1 else totals

    def apply(
        self, formula: Callable[..., Any], outputs: list[str], column: Any, mask: Any
    ) -> tuple[Vector, ...]:
        """The results for some columns that are not written."""
        at = {name: self.emit.at(array, column) for name, array in self.arrays.items()}
        results = formula(*(self.read(at[name], mask) for name in signature(formula).parameters))
        results = results if isinstance(results, tuple) else (results,)
        for name, result in zip(outputs, results):
            self.write(result, at[name], mask)
        return results[len(outputs) :]

    def across(self, v: Vector, combine: Combine) -> Vector:
        """All lanes combined, in each lane: with the neighbour, the next but one, the fourth ..."""
        distance = 1
        while distance < self.emit.lanes:
            lanes = [i ^ distance for i in range(self.emit.lanes)]
            v = combine(v, Vector(self.emit, self.emit.shuffle(v.value, v.value, lanes)))
            distance *= 2
        return v

    def read(self, place: Any, mask: Any) -> Vector:
        emit = self.emit
        if mask is None:
            return Vector(emit, emit.load_vector(place))
        return Vector(emit, emit.load_masked(place, mask.value))

    def write(self, value: Vector, place: Any, mask: Any) -> None:
        if mask is None:
            self.emit.store_vector(value.value, place)
        else:
            self.emit.store_masked(value.value, place, mask.value)

    # -- numbers ------------------------------------------------------------------------------

    def constant(self, name: str) -> Vector:
        """A float of the job."""
        return Vector(self.emit, self.emit.spread(self.loop.field(self.emit, name, FLOAT)))

    def integer(self, name: str) -> Any:
        """An integer of the job."""
        return self.loop.field(self.emit, name, INT)

    def number(self, name: str) -> Vector:
        """The row's number in an array of one for each row."""
        place = self.loop.array(self.emit, name, self.row)
        return Vector(self.emit, self.emit.spread(self.emit.build.load(place)))

    def index(self, name: str) -> Any:
        """The row's int64 in an array of one for each row."""
        array = self.emit.pointer(self.integer(name), INT)
        return self.emit.build.load(self.emit.at(array, self.row))

    def store(self, name: str, value: Vector) -> None:
        """The row's number in an array of one for each row."""
        self.emit.build.store(self.first(value), self.loop.array(self.emit, name, self.row))

    def element(self, name: str, column: Any) -> Vector:
        """One element of the row."""
        place = self.emit.at(self.arrays[name], column)
        return Vector(self.emit, self.emit.spread(self.emit.build.load(place)))

    def store_element(self, name: str, column: Any, value: Vector) -> None:
        self.emit.build.store(self.first(value), self.emit.at(self.arrays[name], column))

    def first(self, value: Vector) -> Any:
        return self.emit.build.extract_element(value.value, INT32(0))

    def choose(self, condition: Any, a: Any, b: Any) -> Any:
        """a or b, Vectors or integers, by an i1 of the whole row."""
        if isinstance(a, Vector):
            return Vector(self.emit, self.emit.build.select(condition, a.value, b.value))
        return self.emit.build.select(condition, a, b)


class Rows(Loop):
    """For every row of matrices with `columns` columns. A task is a block of `height` rows.

    `arrays` are the matrices, `shared` ones have one row for all, `blocks` one for each block;
    `numbers` are all other fields of the job.
    """

    def __init__(
        self, formula: Callable[[Row], None], arrays: str, shared: str, blocks: str, numbers: str
    ):
        fields = ["rows columns height", arrays, shared, blocks, numbers]
        super().__init__(formula, job_type(" ".join(fields)))
        self.arrays, self.shared, self.blocks = arrays.split(), shared.split(), blocks.split()

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        build = emit.build
        lo, hi, _, _ = emit.function.args
        rows, height = (self.field(emit, name, INT) for name in ("rows", "height"))
        with emit.loop(build.sub(hi, lo), []) as tasks:
            task = build.add(lo, tasks.index)
            begin = build.mul(task, height)
            with emit.loop(emit.smallest(height, build.sub(rows, begin)), []) as loop:
                self.formula(Row(self, emit, task, build.add(begin, loop.index)))
        emit.finish()

    def __call__(self, shape: tuple[int, int], height: int = 1, **fields: Any) -> None:
        """Matrices of that shape are contiguous float32."""
        rows, columns = shape
        quick = rows * columns < QUICK // 4  # exponentials take their time
        self.job.run(
            self.address, -(-rows // height), quick,
            rows=rows, columns=columns, height=height, **fields,
        )  # fmt: skip


def rows(
    arrays: str, *, shared: str = "", blocks: str = "", numbers: str = ""
) -> Callable[[Callable[[Row], None]], Rows]:
    return lambda formula: Rows(formula, arrays, shared, blocks, numbers)
