"""Functions in LLVM's language: written, compiled, kept on disk and called from numba code.

numba compiles Python, but cannot hold a tile of numbers in registers, nor write masks or shuffles.
So the innermost loops are written with llvmlite, which numba brings along (no C compiler), as
functions of integers that numba code calls by their address.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import cfunc, from_dtype, types
from numba.extending import intrinsic

from tinynn.kernels.threads import ForkSafeLock

FLOAT, INT, INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)


@dataclass(frozen=True)
class Tile:
    """`rows` x `vectors` registers of accumulators, each of `lanes` floats.

    `adjacent`: of rows that lie side by side in A as many as this; they need no address each.
    """

    lanes: int
    rows: int
    vectors: int
    adjacent: int = 0

    @property
    def width(self) -> int:
        """Columns of C in a tile, and of B in a panel."""
        return self.lanes * self.vectors

    def half(self) -> Tile:
        """One half as wide, for few columns."""
        vectors = self.vectors // 2
        return Tile(self.lanes, MOST_ROWS, vectors, adjacent=self.lanes * vectors)


# The accumulators, the vectors of one row of B and one spread number must fit the registers.
AVX2 = Tile(lanes=8, rows=6, vectors=2)  # 12 + 2 + 1 of 16 registers
AVX512 = Tile(lanes=16, rows=12, vectors=2)  # 24 + 2 + 1 of 32
NEON = Tile(lanes=4, rows=6, vectors=4)  # 24 + 4 + 1 of 32
SSE = Tile(lanes=4, rows=6, vectors=2)  # 12 + 2 + 1 of 16, and the last resort
MOST_ROWS = 12  # the addresses of more rows do not fit the other registers
NARROW = 0.9  # a narrow tile loads more numbers for each product: it must save a tenth of them


@cache
def host_tile() -> Tile:
    """The tile for this machine's vector registers."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return NEON if platform.machine().lower() in ("arm64", "aarch64") else SSE


@cache
def fitting_tile(columns: int) -> Tile:
    """The host's tile, or one half as wide where that leaves fewer lanes empty."""
    whole, half = host_tile(), host_tile().half()
    lanes, if_half = (-(-columns // tile.width) * tile.width for tile in (whole, half))
    return half if if_half <= NARROW * lanes else whole


# ---------------------------------------------------------------------------------------------
# Emitting LLVM code. Addresses travel as 64-bit integers; offsets count floats.
# ---------------------------------------------------------------------------------------------


class Emitter:
    """One function `name(int64, int64, ...)` under construction, with the few idioms we need."""

    def __init__(self, module: ir.Module, name: str, arguments: int, lanes: int):
        self.vector = ir.VectorType(FLOAT, lanes)
        self.lanes = lanes
        signature = ir.FunctionType(ir.VoidType(), [INT] * arguments)
        self.function = ir.Function(module, signature, name)
        self.build = ir.IRBuilder(self.function.append_basic_block())
        self.module = module

    def pointer(self, address: Any, kind: Any = FLOAT) -> Any:
        return self.build.inttoptr(address, kind.as_pointer())

    def at(self, pointer: Any, offset: Any) -> Any:
        """pointer + offset (elements)."""
        return self.build.gep(pointer, [INT(offset) if isinstance(offset, int) else offset])

    def load_vector(self, pointer: Any) -> Any:
        load = self.build.load(self.build.bitcast(pointer, self.vector.as_pointer()))
        load.align = 4
        return load

    def store_vector(self, value: Any, pointer: Any) -> None:
        store = self.build.store(value, self.build.bitcast(pointer, self.vector.as_pointer()))
        store.align = 4

    def prefetch_to_write(self, pointer: Any) -> None:
        """Have the line of memory at the pointer fetched meanwhile: it will be written."""
        pointer = self.build.bitcast(pointer, ir.IntType(8).as_pointer())
        arguments = [pointer, INT32(1), INT32(3), INT32(1)]  # to write; to be kept; data, not code
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        name = "llvm.prefetch.p0i8"
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        self.build.call(function, arguments)

    def first_lanes(self, count: Any) -> Any:
        """A mask: true in the first `count` lanes."""
        lane = ir.Constant(self.vector, [float(i) for i in range(self.lanes)])
        limit = self.spread(self.build.sitofp(count, FLOAT))
        return self.build.fcmp_ordered("<", lane, limit)

    def load_masked(self, pointer: Any, mask: Any) -> Any:
        """Zeros, and nothing read, where the mask is false."""
        return self.masked("load", pointer, [mask, self.zero()])

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        self.masked("store", pointer, [mask], value)

    def masked(self, action: str, pointer: Any, after: list[Any], *before: Any) -> Any:
        pointer = self.build.bitcast(pointer, self.vector.as_pointer())
        arguments = [*before, pointer, INT32(4), *after]  # 4: the alignment
        result = self.vector if action == "load" else ir.VoidType()
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        name = f"llvm.masked.{action}.v{self.lanes}f32.p0v{self.lanes}f32"
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        return self.build.call(function, arguments)

    def spread(self, scalar: Any) -> Any:
        """One number in every lane."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.build.insert_element(empty, scalar, INT32(0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.build.shuffle_vector(first, empty, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c in one instruction."""
        name = f"llvm.fma.v{self.lanes}f32"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        fma = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        return self.build.call(fma, [a, b, c])

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.build.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def across(self, vector: Any) -> Any:
        """The sum of its lanes, a number: halves are added until one lane is left."""
        empty = ir.Constant(self.vector, ir.Undefined)
        distance = self.lanes // 2
        while distance:
            lanes = [i ^ distance for i in range(self.lanes)]
            vector = self.build.fadd(vector, self.shuffle(vector, empty, lanes))
            distance //= 2
        return self.build.extract_element(vector, INT32(0))

    def any_bit(self, vectors: list[Any]) -> Any:
        """Whether any of the floats has a bit set: is not the zero of memory that was cleared."""
        number = ir.IntType(32 * vectors[0].type.count)
        bits = [self.build.bitcast(vector, number) for vector in vectors]
        return self.build.icmp_unsigned("!=", reduce(self.build.or_, bits), number(0))

    def smallest(self, a: Any, b: Any) -> Any:
        """The smaller of two integers."""
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [float(value)] * self.lanes)

    def zero(self) -> Any:
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def loop(self, count: Any, carried: list[Any]) -> Loop:
        return Loop(self, count, carried)

    def finish(self) -> None:
        self.build.ret_void()


class Loop:
    """`for index in range(count)`, carrying values from turn to turn (SSA phi nodes).

    with emit.loop(n, [x]) as loop:
        [x] = loop.carried
        loop.carried = [x + 1]
    [x] = loop.carried
    """

    def __init__(self, emit: Emitter, count: Any, carried: list[Any]):
        self.emit, self.count, self.initial = emit, count, carried

    def __enter__(self) -> Loop:
        build = self.emit.build
        self.before = build.block
        self.body = self.emit.function.append_basic_block()
        self.after = self.emit.function.append_basic_block()
        build.cbranch(build.icmp_signed(">", self.count, INT(0)), self.body, self.after)
        build.position_at_end(self.body)
        self.phis = []
        for value in [INT(0), *self.initial]:
            phi = build.phi(value.type)
            phi.add_incoming(value, self.before)
            self.phis.append(phi)
        self.index, *self.carried = self.phis
        return self

    def __exit__(self, *_: Any) -> None:
        build = self.emit.build
        following = [build.add(self.index, INT(1)), *self.carried]
        for phi, value in zip(self.phis, following, strict=True):
            phi.add_incoming(value, build.block)
        last = build.block
        build.cbranch(build.icmp_signed("<", following[0], self.count), self.body, self.after)
        build.position_at_end(self.after)
        for i, (initial, value) in enumerate(zip(self.initial, following[1:], strict=True)):
            self.carried[i] = build.phi(value.type)
            self.carried[i].add_incoming(initial, self.before)
            self.carried[i].add_incoming(value, last)


# ---------------------------------------------------------------------------------------------
# Compiling, once for each machine: the machine code is kept on disk
# ---------------------------------------------------------------------------------------------


@cache
def version() -> str:
    """A name for the text of the kernels' files: if any has changed, all are compiled anew, as
    hardly anyone could say what each is made of."""
    files = sorted(Path(__file__).parent.glob("cpu_*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


_compiling = ForkSafeLock()
_engines: dict[Path, Any] = {}  # what owns machine code, whose addresses are used without it


def compile_functions(
    emit: Callable[[ir.Module, Tile], None], tile: Tile, source: Path | None = None
) -> Any:
    """The machine code of what `emit` writes, compiled or read from disk; the same one for every
    thread. `source`: a file that it depends on besides the kernels'."""
    file = object_file(emit, tile, source)
    with _compiling:
        if file not in _engines:
            _engines[file] = _load(file.read_bytes() if file.is_file() else _code(emit, tile, file))
        return _engines[file]


def _code(emit: Callable[[ir.Module, Tile], None], tile: Tile, file: Path) -> bytes:
    """What `emit` writes, compiled; and kept in a file."""
    module = ir.Module(emit.__name__)
    emit(module, tile)
    code = _target_machine().emit_object(llvm.parse_assembly(str(module)))
    with suppress(OSError):  # a read-only installation compiles anew in every process (0.1 s)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(code)
        part.replace(file)  # whole or absent, also when two processes compile at once
    return code


def object_file(
    emit: Callable[[ir.Module, Tile], None], tile: Tile, source: Path | None = None
) -> Path:
    """Where its machine code is kept. The name follows from all that it depends on."""
    ingredients = (
        emit.__name__,
        version(),
        source and source.read_text(),
        tile,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        llvmlite.__version__,
    )
    name = hashlib.sha256(repr(ingredients).encode()).hexdigest()[:24]
    return cache_folder() / f"{emit.__name__}-{name}.o"


def cache_folder() -> Path:
    """Where compiled code is kept: beside this file, as numba does, or as NUMBA_CACHE_DIR says."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")


def _target_machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )


def _load(code: bytes) -> Any:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


# ---------------------------------------------------------------------------------------------
# Calling from numba code
# ---------------------------------------------------------------------------------------------


def function_of_integers(count: int, result: Any = types.void) -> Any:
    """Compile a function of so many int64 for calls by address, and keep its code on disk.

    numba compiles it anew when its own file changes, but does not see a change in what it calls
    from other files. So there is one argument more, of no use but that its type tells `version`.
    """
    of_version = np.dtype([(f"version_{version()}", np.int64)])
    signature = result(*[types.int64] * count, types.CPointer(from_dtype(of_version)))
    return cfunc(signature, cache=True, error_model="numpy")


def call_address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Code that calls the function at address arguments[0] with the other arguments (int64)."""
    kind = ir.FunctionType(ir.VoidType(), [INT] * (len(arguments) - 1))
    builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
    return context.get_dummy_value()


def element(builder: Any, arguments: Any, kind: Any) -> Any:
    array, index = arguments[:2]
    return builder.gep(builder.inttoptr(array, kind.as_pointer()), [index])


@intrinsic
def load_int(typing_context, array, index):
    """array[index], for the address of int64 numbers."""

    def generate(context, builder, signature, arguments):
        return builder.load(element(builder, arguments, INT))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def store_int(typing_context, array, index, value):
    """array[index] = value, for the address of int64 numbers."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], element(builder, arguments, INT))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def load_float(typing_context, array, index):
    """array[index], for the address of float32 numbers."""

    def generate(context, builder, signature, arguments):
        return builder.load(element(builder, arguments, FLOAT))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def store_float(typing_context, array, index, value):
    """array[index] = value, for the address of float32 numbers."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], element(builder, arguments, FLOAT))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate
