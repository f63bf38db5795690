"""Loops over arrays, compiled from formulas: write `(x - mean) * scale`, get vector code.

Element-wise kernels are limited by memory, so what counts is to read and write every array once,
in whole vectors, with all else in registers. `cpu_formulas` says what formulas are; the loop around
one is written here: over flat arrays, or down the columns of a matrix (`cpu_rows` and `cpu_pixels`
have two more). numba would need ten times as long to compile each of these loops, and does not keep
sums in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, cached_property, lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinynn.kernels.cpu_formulas import Vector
from tinynn.kernels.cpu_llvm import (
    FLOAT,
    INT,
    INT32,
    Emitter,
    Tile,
    call_address,
    compile_functions,
    host_tile,
)
from tinynn.kernels.cpu_parallel import Job, job_type

INTEGERS = {"taps": ir.IntType(8), "bits": ir.IntType(16)}  # arrays of other than float32, by name
UNROLL = 4  # vectors of each array in one turn of a loop
ROWS = 64  # of a matrix, read strip by strip; so few, because their sums are float32
QUICK = 1 << 16  # elements: fewer are done before a second thread would take its share


class Loop:
    """A formula and the loop around it, compiled on first use with all others of its file.

    `address`: of the kernel.
    """

    loops: ClassVar[dict[Path, list[Loop]]] = {}  # by the file of their formula

    def __init__(self, formula: Callable[..., Any], job: np.dtype):
        self.formula, self.name = formula, formula.__name__
        self.kind, self.fields = job, job.names or ()
        self.source = Path(formula.__code__.co_filename)
        Loop.loops.setdefault(self.source, []).append(self)

    @cached_property
    def job(self) -> Job:
        """An empty job."""
        return Job(self.kind)

    @cached_property
    def address(self) -> int:
        return compiled(self.source).get_function_address(self.name)

    def emit(self, module: ir.Module, tile: Tile) -> None:
        """Write the function `name(lo, hi, thread, job)`."""
        raise NotImplementedError

    def field(self, emit: Emitter, name: str, kind: Any) -> Any:
        """A field of the job: an integer, or a float32."""
        place = emit.at(emit.pointer(emit.function.args[3], INT), self.fields.index(name))
        return emit.build.load(emit.build.bitcast(place, kind.as_pointer()))

    def array(self, emit: Emitter, name: str, offset: Any) -> Any:
        """A pointer into an array of the job."""
        return self.element(emit, name, self.field(emit, name, INT), offset)

    def element(self, emit: Emitter, name: str, address: Any, offset: Any) -> Any:
        """A pointer into the array of that name, which is known to be at `address`."""
        return emit.at(emit.pointer(address, INTEGERS.get(name, FLOAT)), offset)


@cache
def compiled(source: Path) -> Any:
    """The machine code of all formulas of a file."""

    def emit_formulas(module: ir.Module, tile: Tile) -> None:
        for loop in Loop.loops[source]:
            loop.emit(module, tile)

    emit_formulas.__name__ = source.stem
    return compile_functions(emit_formulas, host_tile(), source)


def strips(
    emit: Emitter, tile: Tile, count: Any, several: int = UNROLL
) -> Iterator[tuple[Any, range]]:
    """Write loops over `count` elements: yields an offset into the arrays, and offsets from there
    of some vectors: several; for what is left one; and then ever smaller ones."""
    done, build = INT(0), emit.build
    halves = [tile.lanes >> i for i in range(tile.lanes.bit_length())]
    for lanes, vectors in [(tile.lanes, several), *((lanes, 1) for lanes in halves)]:
        emit.lanes, emit.vector = lanes, ir.VectorType(FLOAT, lanes)
        strip = lanes * vectors
        turns = build.sdiv(build.sub(count, done), INT(strip))
        with emit.loop(turns, []) as loop:
            offset = build.add(done, build.mul(loop.index, INT(strip)))
            yield offset, range(0, strip, lanes)
        done = build.add(done, build.mul(turns, INT(strip)))


class ArrayLoop(Loop):
    """A formula from elements to elements. Its parameters name fields of the job: arrays, and
    after the `*` numbers. Its results go to the fields `outputs`, which may be parameters too."""

    def __init__(self, formula: Callable[..., Any], outputs: str, job: np.dtype | None = None):
        parameters = signature(formula).parameters.values()
        self.inputs = [p.name for p in parameters]
        self.numbers = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.outputs = outputs.split()
        self.names = list(dict.fromkeys(self.inputs + self.outputs))  # each once
        self.arrays = [name for name in self.names if name not in self.numbers]
        super().__init__(formula, job or job_type(" ".join(self.names)))

    def results(self, emit: Emitter, values: dict[str, Any]) -> dict[str, Any]:
        """The formula's results, by the name of the output."""
        vectors = {name: Vector(emit, values[name]) for name in self.inputs}
        results = self.formula(**vectors)
        results = results if isinstance(results, tuple) else (results,)
        return {name: r.value for name, r in zip(self.outputs, results, strict=True)}

    def load(self, emit: Emitter, name: str, pointer: Any) -> Any:
        """A vector of floats, whatever the array holds."""
        if name not in INTEGERS:
            return emit.load_vector(pointer)
        kind = ir.VectorType(INTEGERS[name], emit.lanes)
        load = emit.build.load(emit.build.bitcast(pointer, kind.as_pointer()))
        load.align = INTEGERS[name].width // 8
        return emit.build.uitofp(load, emit.vector)

    def store(self, emit: Emitter, value: Any, name: str, pointer: Any) -> None:
        if name not in INTEGERS:
            return emit.store_vector(value, pointer)
        kind = ir.VectorType(INTEGERS[name], emit.lanes)
        pointer = emit.build.bitcast(pointer, kind.as_pointer())
        store = emit.build.store(emit.build.fptoui(value, kind), pointer)
        store.align = INTEGERS[name].width // 8


class Elementwise(ArrayLoop):
    """For every element of flat arrays of one size. A task is an element.

    Where all arrays named in `idle` are zero, the formula is known to change nothing: so nothing
    else is read there, and nothing written.
    """

    def __init__(self, formula: Callable[..., Any], outputs: str, idle: str = ""):
        super().__init__(formula, outputs)
        self.idle = idle.split()

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        lo, hi, _, _ = emit.function.args
        arrays = {name: self.array(emit, name, lo) for name in self.arrays}
        numbers = {name: self.field(emit, name, FLOAT) for name in self.numbers}
        for offset, vectors in strips(emit, tile, emit.build.sub(hi, lo)):
            here = {name: emit.at(array, offset) for name, array in arrays.items()}
            if self.idle:
                seen = [emit.load_vector(emit.at(here[n], v)) for n in self.idle for v in vectors]
                with emit.build.if_then(emit.any_bit(seen)):
                    self.emit_strip(emit, here, numbers, vectors)
            else:
                self.emit_strip(emit, here, numbers, vectors)
        emit.finish()

    def emit_strip(
        self, emit: Emitter, here: dict[str, Any], numbers: dict[str, Any], vectors: range
    ) -> None:
        """Some vectors of each array."""
        values = {name: emit.spread(number) for name, number in numbers.items()}
        for v in vectors:
            place = {name: emit.at(pointer, v) for name, pointer in here.items()}
            reads = [name for name in self.arrays if name in self.inputs]
            values |= {name: self.load(emit, name, place[name]) for name in reads}
            for name, value in self.results(emit, values).items():
                self.store(emit, value, name, place[name])

    def __call__(self, **fields: Any) -> None:
        """Arrays are contiguous float32 (`bits` uint16), numbers are floats."""
        size = fields[self.arrays[0]].size
        self.job.run(self.address, size, size < QUICK, **fields)


def elementwise(outputs: str, idle: str = "") -> Callable[[Callable[..., Any]], Elementwise]:
    return lambda formula: Elementwise(formula, outputs, idle)


class Columns(ArrayLoop):
    """For every element of a matrix with rows of `channels` (a field of the job). A task is a row.

    The numbers are rows too, one number for each column: those that are outputs as well are sums,
    carried from row to row in registers. Each thread has its own row of `scratch` numbers.
    """

    def __init__(self, formula: Callable[..., Any], outputs: str, job: np.dtype, scratch: str = ""):
        super().__init__(formula, outputs, job)
        self.scratch = scratch.split()
        self.sums = [name for name in self.outputs if name in self.numbers]

    def emit(self, module: ir.Module, tile: Tile) -> None:
        emit = Emitter(module, self.name, 4, tile.lanes)
        build = emit.build
        lo, hi, thread, _ = emit.function.args
        channels = self.field(emit, "channels", INT)
        blocks = build.sdiv(build.add(build.sub(hi, lo), INT(ROWS - 1)), INT(ROWS))
        with emit.loop(blocks, []) as loop:  # rows that are near each other are read together
            row = build.add(lo, build.mul(loop.index, INT(ROWS)))
            rows = emit.smallest(build.sub(hi, row), INT(ROWS))
            first = {name: build.mul(row, channels) for name in self.arrays}
            first |= {name: INT(0) for name in self.numbers}
            first |= {name: build.mul(thread, channels) for name in self.scratch}
            arrays = {name: self.array(emit, name, first[name]) for name in self.names}
            for offset, vectors in strips(emit, tile, channels):
                places = {name: emit.at(a, offset) for name, a in arrays.items()}
                self.emit_strip(emit, places, rows, channels, vectors)
        emit.finish()

    def emit_strip(
        self, emit: Emitter, first: dict[str, Any], rows: Any, channels: Any, vectors: range
    ) -> None:
        """All `rows` of a few columns."""
        fixed = {
            (name, v): emit.load_vector(emit.at(first[name], v))
            for name in self.numbers
            for v in vectors
        }
        sums = [(name, v) for name in self.sums for v in vectors]
        carried = [first[name] for name in self.arrays] + [fixed[key] for key in sums]
        with emit.loop(rows, carried) as loop:
            row = dict(zip([*self.arrays, *sums], loop.carried, strict=True))
            for v in vectors:
                values = {name: row.get((name, v), fixed[name, v]) for name in self.numbers}
                for name in self.arrays:
                    if name in self.inputs:
                        values[name] = emit.load_vector(emit.at(row[name], v))
                for name, value in self.results(emit, values).items():
                    if name in self.sums:
                        row[name, v] = value
                    else:
                        emit.store_vector(value, emit.at(row[name], v))
            following = [emit.at(row[name], channels) for name in self.arrays]
            loop.carried = following + [row[key] for key in sums]
        for (name, v), value in zip(sums, loop.carried[len(self.arrays) :], strict=True):
            emit.store_vector(value, emit.at(first[name], v))


def columns(
    outputs: str, job: np.dtype, scratch: str = ""
) -> Callable[[Callable[..., Any]], Columns]:
    return lambda formula: Columns(formula, outputs, job, scratch)


@lru_cache(maxsize=256)
def folds(shape: tuple[int, ...]) -> int:
    """How many rows are laid side by side: as many as fill the registers, of those there are."""
    strip = host_tile().lanes * UNROLL
    return math.gcd(math.prod(shape[:-1]), strip // math.gcd(strip, shape[-1]))


@intrinsic
def call_loop(typing_context, function, lo, hi, thread, job):
    """A loop, for its address, from numba code; `job` is a kernel's pointer to its job."""

    def generate(context, builder, signature, arguments):
        *others, pointer = arguments
        address = builder.ptrtoint(pointer, INT)
        return call_address(context, builder, signature, [*others, address])

    return types.void(*[types.int64] * 4, job), generate


@intrinsic
def as_floats(typing_context, address):
    """A pointer to float32, for numba's `carray`."""
    return _pointer(types.float32)


@intrinsic
def as_doubles(typing_context, address):
    """A pointer to float64, for numba's `carray`."""
    return _pointer(types.float64)


@intrinsic
def as_float(typing_context, bits):
    """The float32 in a field of a job."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], INT32), FLOAT)

    return types.float32(types.int64), generate


def _pointer(kind: Any) -> Any:
    pointer = types.CPointer(kind)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64), generate
