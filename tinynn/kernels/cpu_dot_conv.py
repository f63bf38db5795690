"""Convolution of few pixels: dot products, straight from the filters as they lie in memory.

A single image has fewer pixels than a network has weights, and to pack the filters for the tiles
of `cpu_direct_conv` takes longer than to use them. But channels lie side by side both in a filter
and in an image. So here vectors run along the channels, several outputs at a time, and what the
lanes have summed up is added across at the end:

                                w[o]          w[o + 1]        w[o + 2]        w[o + 3]
                             [ w w w w ...   [ w w w w ...   [ w w w w ...   [ w w w w ...
    x[pixel]     [ x x x x    [ s s s s ]     [ s s s s ]     [ s s s s ]     [ s s s s ]
    x[pixel']    [ x x x x    [ s s s s ]     [ s s s s ]     [ s s s s ]     [ s s s s ]

Every weight is read from memory once, whatever the number of pixels; those of four filters stay in
the nearest cache until all pixels have met them. Classes, pairs and rows are those of
`cpu_direct_conv`, with all taps in place of those packed.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit

from tinynn.kernels.cpu_direct_conv import Axis, Pair, plan_gather
from tinynn.kernels.cpu_llvm import (
    INT,
    Emitter,
    Tile,
    compile_functions,
    host_tile,
    load_float,
    load_int,
    store_float,
)
from tinynn.kernels.cpu_loops import as_float
from tinynn.kernels.cpu_microkernel import multiply_tile
from tinynn.kernels.cpu_parallel import Job, job_type, kernel
from tinynn.kernels.memory import empty

PIXELS, FILTERS = 3, 4  # of a tile: 12 sums, 3 vectors of pixels and 1 of weights fill 16 registers
MAX_PIXELS = 32  # more of them repay the packing of the filters, ...
FEW_FILTERS, MANY_WEIGHTS = 10, 256  # ... if the tiles are not half empty, the sums short, ...
MAX_PIXELS_OF_FEW = 512  # ... or the pixels more than were measured
QUICK = 1 << 14  # weights: fewer are read before a second thread would take its share

# ---------------------------------------------------------------------------------------------
# The tiles
# ---------------------------------------------------------------------------------------------


TILES = [(pixels, filters) for pixels in range(1, PIXELS + 1) for filters in (FILTERS, 1)]


def emit_dots(module: ir.Module, tile: Tile) -> None:
    for pixels, filters in TILES:
        emit_dot_tile(module, tile, pixels, filters)


def emit_dot_tile(module: ir.Module, tile: Tile, pixels: int, filters: int) -> None:
    """c[c_rows[r] + o] = sum over p < pairs, k < depth of a[a_rows[r] + a_pairs[p] + k]
    b[o b_step + b_pairs[p] + k], for r < pixels, o < filters; depth is a number of vectors.
    """
    emit = Emitter(module, f"dot_{pixels}_{filters}", 13, tile.lanes)
    build = emit.build
    a, a_rows, a_pairs, b, b_pairs, pairs, depth, _, b_step, c, c_rows, *_ = emit.function.args
    a_rows, a_pairs, b_pairs, c_rows = (
        emit.pointer(table, INT) for table in (a_rows, a_pairs, b_pairs, c_rows)
    )
    a, b, c = emit.pointer(a), emit.pointer(b), emit.pointer(c)
    rows = [emit.at(a, build.load(emit.at(a_rows, r))) for r in range(pixels)]
    columns = [emit.at(b, build.mul(INT(o), b_step)) for o in range(filters)]

    with emit.loop(pairs, [emit.zero()] * (pixels * filters)) as over_pairs:
        a_offset = build.load(emit.at(a_pairs, over_pairs.index))
        b_offset = build.load(emit.at(b_pairs, over_pairs.index))
        with emit.loop(depth, [a_offset, b_offset, *over_pairs.carried]) as over_depth:
            a_offset, b_offset, *sums = over_depth.carried
            seen = [emit.load_vector(emit.at(row, a_offset)) for row in rows]
            for o, column in enumerate(columns):
                weights = emit.load_vector(emit.at(column, b_offset))
                for r in range(pixels):
                    i = r * filters + o
                    sums[i] = emit.multiply_add(seen[r], weights, sums[i])
            step = INT(tile.lanes)
            over_depth.carried = [build.add(a_offset, step), build.add(b_offset, step), *sums]
        over_pairs.carried = over_depth.carried[2:]

    for r in range(pixels):
        row = emit.at(c, build.load(emit.at(c_rows, r)))
        for o in range(filters):
            build.store(emit.across(over_pairs.carried[r * filters + o]), emit.at(row, o))
    emit.finish()


@cache
def dot_tiles(tile: Tile) -> np.ndarray:
    """Addresses of TILES."""
    engine = compile_functions(emit_dots, tile)
    return np.array([engine.get_function_address(f"dot_{p}_{f}") for p, f in TILES], np.int64)


# ---------------------------------------------------------------------------------------------
# The kernel
# ---------------------------------------------------------------------------------------------

DOTS = job_type(
    "tiles lanes w filter_size source source_channels target target_channels samples"
    " classes class_count source_rows target_rows source_pairs weight_pairs"
    " normalise weight bias mean var residual floor eps"
)


@njit
def normalise(job, rows, first, filters):
    """What follows in evaluation, of some channels: batch norm, the sum with a shortcut, a ReLU."""
    floor = as_float(job.floor)
    for o in range(first, first + filters):
        scale = load_float(job.weight, o) / math.sqrt(load_float(job.var, o) + as_float(job.eps))
        mean, bias = load_float(job.mean, o), load_float(job.bias, o)
        for place in range(o, rows * job.target_channels, job.target_channels):
            y = (load_float(job.target, place) - mean) * scale + bias
            if job.residual:
                y += load_float(job.residual, place)
            store_float(job.target, place, floor if y < floor else y)


@kernel(DOTS)
def dot_products(lo, hi, thread, job_pointer):
    """Task = FILTERS filters: all pixels of all images."""
    job = carray(job_pointer, 1)[0]
    for task in range(lo, hi):
        first = task * FILTERS
        filters = min(FILTERS, job.target_channels - first)
        step, single = (FILTERS, 0) if filters == FILTERS else (1, 1)
        all_rows = 0
        for c in range(job.class_count):
            row = load_int(job.classes, 5 * c)
            rows = load_int(job.classes, 5 * c + 1) * job.samples
            all_rows += rows
            pair = load_int(job.classes, 5 * c + 2)
            pairs = load_int(job.classes, 5 * c + 3)
            depth = load_int(job.classes, 5 * c + 4) * job.source_channels // job.lanes
            tiles = (rows + PIXELS - 1) // PIXELS
            for i in range(tiles):
                begin, end = rows * i // tiles, rows * (i + 1) // tiles
                for o in range(first, first + filters, step):
                    multiply_tile(
                        load_int(job.tiles, 2 * (end - begin - 1) + single),
                        job.source, job.source_rows + 8 * (row + begin),
                        job.source_pairs + 8 * pair,
                        job.w + 4 * o * job.filter_size, job.weight_pairs + 8 * pair,
                        pairs, depth, 1, job.filter_size,
                        job.target + 4 * o, job.target_rows + 8 * (row + begin), 0, 0,
                    )  # fmt: skip
        if job.normalise:
            normalise(job, all_rows, first, filters)


@lru_cache(maxsize=256)
def prepare(
    vertical: Axis, horizontal: Axis, samples: int, channels: Pair, tile: Tile
) -> tuple[Job, int, tuple[int, ...]]:
    """For `samples` images with (source, target) `channels`: the job, its tasks, y's shape."""
    plan = plan_gather(vertical, horizontal, False, channels, samples, None)
    job = Job(
        DOTS, tiles=dot_tiles(tile), lanes=tile.lanes,
        filter_size=vertical.kernel * horizontal.kernel * channels[0],
        source_channels=channels[0], target_channels=channels[1], samples=samples,
        classes=plan.classes, class_count=len(plan.classes),
        source_rows=plan.source_rows, target_rows=plan.target_rows,
        source_pairs=plan.source_pairs, weight_pairs=plan.weight_pairs,
    )  # fmt: skip
    return job, -(-channels[1] // FILTERS), (samples, vertical.out, horizontal.out, channels[1])


def conv2d(
    x: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    norm: tuple[Any, ...] | None = None,
) -> np.ndarray:  # fmt: skip
    """x (N, H, W, C), w (OC, KH, KW, C) -> y (N, OH, OW, OC). C in multiples of the lanes.

    `norm`: the arguments of reference_norm.batch_norm_inference after x, for y.
    """
    samples, channels = x.shape[0], (x.shape[3], w.shape[0])
    job, tasks, shape = prepare(vertical, horizontal, samples, channels, tile or host_tile())
    y = empty(shape)
    fields: dict[str, Any] = {}
    if norm is not None:
        weight, bias, mean, var, residual, relu, eps = norm
        fields = dict(
            normalise=1, weight=weight, bias=bias, mean=mean, var=var, residual=residual,
            floor=0.0 if relu else -math.inf, eps=float(eps),
        )  # fmt: skip
    job.run(dot_products, tasks, w.size < QUICK, source=x, target=y, w=w, **fields)
    return y


def worthwhile(
    vertical: Axis, horizontal: Axis, channels: Pair, samples: int, lanes: int
) -> tuple[bool, str]:
    """Is it possible, and faster than to pack the filters? And why. `channels`: C, OC."""
    pixels = samples * math.prod(axis.out for axis in (vertical, horizontal))
    weights = math.prod(axis.kernel for axis in (vertical, horizontal)) * channels[0]
    if channels[0] % lanes:
        return False, f"dot products need channels in multiples of {lanes}"
    few = channels[1] <= FEW_FILTERS and weights >= MANY_WEIGHTS
    if few and pixels <= MAX_PIXELS_OF_FEW:
        return True, f"{channels[1]} filters would leave most of a tile empty"
    if pixels > MAX_PIXELS:
        return False, f"{pixels} pixels repay the packing of the filters"
    return True, f"{pixels} pixels do not repay the packing of the filters"
