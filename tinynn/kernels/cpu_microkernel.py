"""The one fast loop of the CPU kernels: a small tile of a matrix product, held in registers.

A CPU core multiplies and adds two vectors (8 floats each with AVX2) every cycle, but reads
memory far more slowly: the product is fast only if every float read is used several times.
So a *tile* of C stays in registers from the first product to the last. Each step k reads one row
of B as vectors and one number of A for each row of C, and updates all rows x vectors of the tile:

                          B[k]   [ b b b b b b b b | b b b b b b b b ]     2 vector loads
          A[0,k]  a -> spread    [ c c c c c c c c | c c c c c c c c ]     12 multiply-adds
          A[1,k]  a -> spread    [ c c c c c c c c | c c c c c c c c ]     for 8 loads:
           ...                                ...                          arithmetic bound
          A[5,k]  a -> spread    [ c c c c c c c c | c c c c c c c c ]

Three things make the same tile serve convolution, its two gradients and linear layers:
*rows* of A and C are wherever two tables say (any set of pixels, so no im2col); the sum runs over
a list of *pairs* (offset in A, offset in B), one for each filter tap that sees data (so padding
costs nothing); and within a pair over `depth` steps of `a_step` and `b_step` floats.

numba cannot hold such a tile in registers, so it is written in LLVM's language (llvmlite, which
numba brings along; no C compiler) and compiled here, once for each number of rows. numba code
calls it by address, and so never needs compiling again when the tile changes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from tinynn.kernels.cpu_llvm import (
    INT,
    Emitter,
    Tile,
    call_address,
    compile_functions,
    element,
    function_of_integers,
    host_tile,
    load_float,
    load_int,
    object_file,
    store_float,
)

STEPS = 4  # of k in one turn of a dense tile's loop
TILE_ARGUMENTS = "a a_rows a_pairs b b_pairs pairs depth a_step b_step c c_rows columns added"


def emit_tile(module: ir.Module, tile: Tile, rows: int, kind: str) -> None:
    """C[r, :] = [D[r, :] +] sum over p < pairs, k < depth of A[r, p, k] B[p, k, :], r < rows, with

    A[r, p, k] = a[a_rows[r] + a_pairs[p] + k a_step]     one number
    B[p, k, :] = b[b_pairs[p] + k b_step :][: width]      `vectors` vectors
    C[r, :]    = c[c_rows[r] :][: columns]                at most as many
    D[r, :]    = added[c_rows[r] :][: columns]            nothing if `added` is 0

    The sum starts at zero, and D is added at the end. If D is C itself, blocks of a long sum are
    added as wholes, which keeps float32 accurate. What is known costs no registers:

    kind "any"       nothing is known
    kind "dense"     a_step = 1, b_step = width; several steps make one turn of the loop, and the
                     first turns have C fetched, row by row, before it is written
    kind "adjacent"  a_rows[r] = a_rows[0] + r
    """
    emit = Emitter(module, f"{kind}_{rows}", len(TILE_ARGUMENTS.split()), tile.lanes)
    build = emit.build
    a, a_rows, a_pairs, b, b_pairs, pairs, depth, a_step, b_step, c, c_rows, columns, added = (
        emit.function.args
    )
    a_rows, a_pairs, b_pairs, c_rows = (
        emit.pointer(table, INT) for table in (a_rows, a_pairs, b_pairs, c_rows)
    )
    a, b, c = emit.pointer(a), emit.pointer(b), emit.pointer(c)
    if kind == "dense":
        a_step, b_step = INT(1), INT(tile.width)
    if kind == "adjacent":
        first = emit.at(a, build.load(a_rows))
        row_of_a = [emit.at(first, r) for r in range(rows)]
    else:
        row_of_a = [emit.at(a, build.load(emit.at(a_rows, r))) for r in range(rows)]

    def multiply_add_row(a_offset: Any, row_of_b: Any, sums: list[Any]) -> list[Any]:
        """One step of k."""
        vectors = [emit.load_vector(emit.at(row_of_b, v * tile.lanes)) for v in range(tile.vectors)]
        products = []
        for r in range(rows):
            number = emit.spread(build.load(emit.at(row_of_a[r], a_offset)))
            products += [(number, vector) for vector in vectors]
        return [emit.multiply_add(*pair, s) for pair, s in zip(products, sums, strict=True)]

    with emit.loop(pairs, [emit.zero()] * (rows * tile.vectors)) as over_pairs:
        a_offset = build.load(emit.at(a_pairs, over_pairs.index))
        row_of_b = emit.at(b, build.load(emit.at(b_pairs, over_pairs.index)))
        carried = [a_offset, row_of_b, *over_pairs.carried]
        loops = [(depth, 1, False)]
        if kind == "dense":
            turns = build.sdiv(depth, INT(STEPS))
            rest = build.sub(depth, build.mul(turns, INT(STEPS)))
            fetching = emit.smallest(turns, INT(rows))
            first_pair = build.icmp_signed("==", over_pairs.index, INT(0))
            fetching = build.select(first_pair, fetching, INT(0))
            loops = [(fetching, STEPS, True), (build.sub(turns, fetching), STEPS, False)]
            loops.append((rest, 1, False))
        for count, steps, fetches in loops:
            with emit.loop(count, carried) as over_depth:
                a_offset, row_of_b, *sums = over_depth.carried
                if fetches:
                    row_of_c = emit.at(c, build.load(emit.at(c_rows, over_depth.index)))
                    for v in range(tile.vectors):
                        emit.prefetch_to_write(emit.at(row_of_c, v * tile.lanes))
                for _ in range(steps):
                    sums = multiply_add_row(a_offset, row_of_b, sums)
                    a_offset, row_of_b = build.add(a_offset, a_step), emit.at(row_of_b, b_step)
                over_depth.carried = [a_offset, row_of_b, *sums]
            carried = over_depth.carried
        over_pairs.carried = carried[2:]

    def places(base: Any) -> list[Any]:
        in_rows = [emit.at(base, build.load(emit.at(c_rows, r))) for r in range(rows)]
        return [emit.at(row, v * tile.lanes) for row in in_rows for v in range(tile.vectors)]

    adds = build.icmp_signed("!=", added, INT(0))
    whole = build.icmp_signed("==", columns, INT(tile.width))
    with build.if_else(whole) as (all_lanes, some_lanes):
        with all_lanes, build.if_else(adds) as (add, overwrite):
            with add:
                for place, value, old in zip(
                    places(c), over_pairs.carried, places(emit.pointer(added)), strict=True
                ):
                    emit.store_vector(build.fadd(value, emit.load_vector(old)), place)
            with overwrite:
                for place, value in zip(places(c), over_pairs.carried, strict=True):
                    emit.store_vector(value, place)
        with some_lanes:
            counts = [build.sub(columns, INT(v * tile.lanes)) for v in range(tile.vectors)]
            masks = [emit.first_lanes(count) for count in counts] * rows
            nowhere = ir.Constant(masks[0].type, [0] * tile.lanes)
            # Nothing is read where a mask is false, but slowly if there is no memory.
            other = build.select(adds, emit.pointer(added), c)
            for place, value, old, mask in zip(
                places(c), over_pairs.carried, places(other), masks, strict=True
            ):
                numbers = emit.load_masked(old, build.select(adds, mask, nowhere))
                emit.store_masked(build.fadd(value, numbers), place, mask)
    emit.finish()


def emit_copy_rows(module: ir.Module, tile: Tile) -> None:
    """copy_rows(source, source_step, target, target_step, rows): `width` floats of each row."""
    emit = Emitter(module, "copy_rows", 5, tile.lanes)
    source, source_step, target, target_step, rows = emit.function.args
    with emit.loop(rows, [emit.pointer(source), emit.pointer(target)]) as loop:
        read, write = loop.carried
        for v in range(tile.vectors):
            value = emit.load_vector(emit.at(read, v * tile.lanes))
            emit.store_vector(value, emit.at(write, v * tile.lanes))
        loop.carried = [emit.at(read, source_step), emit.at(write, target_step)]
    emit.finish()


def emit_transpose(module: ir.Module, tile: Tile) -> None:
    """transpose(source, source_step, target, target_step): lanes x lanes floats, in registers."""
    emit = Emitter(module, "transpose", 4, tile.lanes)
    source, source_step, target, target_step = emit.function.args
    read, write = emit.pointer(source), emit.pointer(target)
    rows = [
        emit.load_vector(emit.at(read, emit.build.mul(INT(r), source_step)))
        for r in range(tile.lanes)
    ]
    for r, row in enumerate(transposed(emit, rows)):
        emit.store_vector(row, emit.at(write, emit.build.mul(INT(r), target_step)))
    emit.finish()


def transposed(emit: Emitter, rows: list[Any]) -> list[Any]:
    """As many vectors as there are lanes, row for column.

    Exchange the halves of rows `half` apart, then quarters, ... (log2(lanes) rounds of shuffles).
    """
    rows, lanes = list(rows), emit.lanes
    half = lanes // 2
    while half:
        low = [j if not j & half else lanes + (j ^ half) for j in range(lanes)]
        high = [j | half if not j & half else lanes + j for j in range(lanes)]
        for r in range(lanes):
            if not r & half:
                upper, lower = rows[r], rows[r | half]
                rows[r] = emit.shuffle(upper, lower, low)
                rows[r | half] = emit.shuffle(upper, lower, high)
        half //= 2
    return rows


# ---------------------------------------------------------------------------------------------
# The table of functions
# ---------------------------------------------------------------------------------------------


# Places in Microkernel.table
TILE_ROWS, WIDTH, LANES, MULTIPLY_ROWS, PACK_PANEL, PACK_TAPS, COPY_ROWS, TRANSPOSE, TILES = range(
    9
)


@dataclass(frozen=True)
class Microkernel:
    """The compiled functions of one tile, as a table that numba code can read.

    table: the tile's rows, width and lanes; the addresses of the functions named above, and of
    the `tiles`.
    """

    tile: Tile
    table: np.ndarray


@cache
def microkernel(tile: Tile | None = None) -> Microkernel:
    """The functions for `tile` (the host's own by default), compiled or read from disk."""
    tile = tile or host_tile()
    engine = compile_functions(emit_microkernel, tile)
    names = ["copy_rows", "transpose", *(f"{kind}_{rows}" for rows, kind in tiles(tile))]
    emitted = [engine.get_function_address(name) for name in names]
    compiled = [
        f.address for f in (multiply_rows_function, pack_panel_function, pack_taps_function)
    ]
    table = np.array([tile.rows, tile.width, tile.lanes, *compiled, *emitted], np.int64)
    return Microkernel(tile, table)


def tiles(tile: Tile) -> list[tuple[int, str]]:
    """Rows and kind of the tiles that are compiled: 1, 2, ... rows of each kind."""
    most = {"any": tile.rows, "dense": tile.rows, "adjacent": tile.adjacent}
    return [(rows, kind) for kind in most for rows in range(1, most[kind] + 1)]


def emit_microkernel(module: ir.Module, tile: Tile) -> None:
    for rows, kind in tiles(tile):
        emit_tile(module, tile, rows, kind)
    emit_copy_rows(module, tile)
    emit_transpose(module, tile)


def begin_compilation() -> None:
    """Compile the first function, and if nothing is on disk yet say on standard error why the
    first seconds pass in silence. Raises what LLVM does where it cannot compile."""
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    if not object_file(emit_microkernel, host_tile()).is_file():
        print(
            f"tinynn: compiling the CPU kernels for this machine ({llvm.get_host_cpu_name()}), "
            "which takes some seconds; later runs find them ready",
            file=sys.stderr,
            flush=True,
        )
    microkernel()


# ---------------------------------------------------------------------------------------------
# Calling them from numba code
# ---------------------------------------------------------------------------------------------


@intrinsic
def multiply_tile(
    typing_context, function, a, a_rows, a_pairs, b, b_pairs, pairs, depth, a_step, b_step,
    c, c_rows, columns, added,
):  # fmt: skip
    """See `emit_tile`; `function` is its address."""
    return types.void(*[types.int64] * 14), call_address


@intrinsic
def call_copy_rows(typing_context, function, source, source_step, target, target_step, rows):
    return types.void(*[types.int64] * 6), call_address


@intrinsic
def call_transpose(typing_context, function, source, source_step, target, target_step):
    return types.void(*[types.int64] * 5), call_address


def call_entry(place: int) -> Any:
    """Code that calls the function in that place of a microkernel's table, the first argument."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.load(element(builder, [arguments[0], INT(place)], INT))
        return call_address(context, builder, signature, [function, *arguments, INT(0)])

    return generate


@intrinsic
def multiply_rows(
    typing_context, micro, a, a_rows, a_pairs, b, b_pairs, pairs, depth, a_step, b_step, c, c_rows,
    rows, columns, added, adjacent,
):  # fmt: skip
    """See `multiply_rows_function`."""
    return types.void(*[types.int64] * 16), call_entry(MULTIPLY_ROWS)


@intrinsic
def pack_panel(typing_context, micro, source, k_step, column_step, depth, columns, target):
    """See `pack_panel_function`."""
    return types.void(*[types.int64] * 7), call_entry(PACK_PANEL)


@intrinsic
def pack_taps(
    typing_context, micro, source, tap_step, k_step, column_step, taps, tap_count, depth, columns,
    target,
):  # fmt: skip
    """See `pack_taps_function`."""
    return types.void(*[types.int64] * 10), call_entry(PACK_TAPS)


# ---------------------------------------------------------------------------------------------
# Functions that kernels call through the table: each compiled once, not into every kernel
# ---------------------------------------------------------------------------------------------


@function_of_integers(16)
def multiply_rows_function(
    micro, a, a_rows, a_pairs, b, b_pairs, pairs, depth, a_step, b_step, c, c_rows,
    rows, columns, added, adjacent, version,
):  # fmt: skip
    """C[r, :columns] = [D[r] +] A[r] B for any number of rows, in tiles of nearly equal size.

    As `emit_tile`. If so many rows are `adjacent`, and then the next so many, each lot is a tile.
    """
    tile_rows = load_int(micro, TILE_ROWS)
    functions = micro + 8 * TILES
    if adjacent:
        functions += 8 * 2 * tile_rows
        tile_rows = adjacent
    elif a_step == 1 and b_step == load_int(micro, WIDTH):
        functions += 8 * tile_rows
    tiles = (rows + tile_rows - 1) // tile_rows
    size = tile_rows if adjacent else rows // max(tiles, 1)
    longer = 0 if adjacent else rows - size * tiles
    begin = 0
    for i in range(tiles):
        end = min(rows, begin + size + (i < longer))
        multiply_tile(
            load_int(functions, end - begin - 1),
            a, a_rows + 8 * begin, a_pairs, b, b_pairs, pairs, depth, a_step, b_step,
            c, c_rows + 8 * begin, columns, added,
        )  # fmt: skip
        begin = end


@function_of_integers(7)
def pack_panel_function(micro, source, k_step, column_step, depth, columns, target, version):
    """target[k, column] = source[k k_step + column column_step]; zero beyond `columns`.

    A panel of B: `depth` rows of `width` columns. Whole vectors where one of the steps is 1.
    """
    width, lanes = load_int(micro, WIDTH), load_int(micro, LANES)
    done = 0
    if columns == width and column_step == 1:
        call_copy_rows(load_int(micro, COPY_ROWS), source, k_step, target, width, depth)
        done = depth
    elif columns == width and k_step == 1:
        done = depth // lanes * lanes
        for k in range(0, done, lanes):
            for column in range(0, width, lanes):
                call_transpose(
                    load_int(micro, TRANSPOSE),
                    source + 4 * (column * column_step + k), column_step,
                    target + 4 * (k * width + column), width,
                )  # fmt: skip
    for k in range(done, depth):
        for column in range(columns):
            value = load_float(source, k * k_step + column * column_step)
            store_float(target, k * width + column, value)
        for column in range(columns, width):
            store_float(target, k * width + column, 0)


@function_of_integers(10)
def pack_taps_function(
    micro, source, tap_step, k_step, column_step, taps, tap_count, depth, columns, target, version
):
    """`pack_panel` for each of some taps, `tap_step` apart: target [tap][k][width]."""
    size = depth * load_int(micro, WIDTH)
    for t in range(tap_count):
        place = source + 4 * load_int(taps, t) * tap_step
        pack_panel(micro, place, k_step, column_step, depth, columns, target + 4 * t * size)
