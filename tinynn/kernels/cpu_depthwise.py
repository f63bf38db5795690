"""Depthwise convolution: every channel has a filter of its own, and vectors run over channels.

Nothing is summed over channels, so there is no matrix product: each number read takes part in at
most one product a tap, and memory is what limits. An output pixel gathers from the input pixels
under its taps; an input pixel's gradient from the output pixels that saw it; and the gradient of
a tap sums over the pixels that it saw. As in `cpu_direct_conv`, pixels with the same taps form a
*class*, padding is in no list, and all pixels of a class, over some images, are worked on alike:

    gather       some pixels x a strip of channels in registers, over the taps: the filter's row
                 is read once for all of them
    weight sums  some taps x a strip of channels in registers, over the pixels: dy is read once
                 for all of them

Legend: as in `cpu_direct_conv`. Filters are packed as (live taps, C).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from tinynn.kernels.cpu_direct_conv import Axis, by_taps, form, integers
from tinynn.kernels.cpu_direct_weights import by_tap
from tinynn.kernels.cpu_llvm import (
    INT,
    Emitter,
    Tile,
    call_address,
    compile_functions,
    host_tile,
    load_int,
)
from tinynn.kernels.cpu_loops import strips
from tinynn.kernels.cpu_parallel import Job, job_type, kernel
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

PIXELS = 3  # of a gather in registers at a time
TAPS = 3  # of the weight sums in registers at a time
VECTORS = 4  # a strip of channels
ROWS = 128  # pixels, of the weight sums of one strip at a time
CHUNK_BYTES = 256 * 1024  # of images worked on at a time: they stay in the second-level cache
QUICK = 100_000  # floats: fewer are done before a second thread would wake up

# ---------------------------------------------------------------------------------------------
# Which taps see data
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Lists of pixels and taps; offsets of some images, and of filters (live taps, C)."""

    taps: np.ndarray  # the taps that see data somewhere: kh KW + kw
    classes: np.ndarray  # (classes, 4): first row, pixels, first tap, taps
    source_rows: np.ndarray  # offset of each row's base pixel: by class, then sample, then pixel
    target_rows: np.ndarray  # offset of each row's pixel
    source_taps: np.ndarray  # offset of what a tap sees from the base pixel
    filter_taps: np.ndarray  # offset of the tap's row of the filters


@lru_cache(maxsize=256)
def plan_taps(
    vertical: Axis, horizontal: Axis, backward: bool, sums: bool, channels: int, samples: int
) -> Plan:
    """The lists for `samples` images. A pixel of a gather needs all its taps at once; `sums` of
    the taps of one filter row can run over all pixels that see data under it."""
    rows, columns = (
        by_taps(axis.backward() if backward else axis.forward()) for axis in (vertical, horizontal)
    )
    if sums:
        rows = {((k, 0),): seen for k, seen in by_tap(vertical).items()}
    (source_h, source_w), (target_h, target_w) = form(vertical, horizontal, backward)
    live_rows, live_columns = (
        sorted({k for taps in groups for k, _ in taps}) for groups in (rows, columns)
    )
    classes: list[tuple[int, ...]] = []
    source_rows, target_rows = [integers([])], [integers([])]  # it may be that no tap sees data
    source_taps: list[int] = []
    filter_taps: list[int] = []
    first_row, sample = 0, np.arange(samples)[:, None]
    for row_taps, column_taps in itertools.product(rows, columns):
        pixels, bases = (
            np.array([i[p] * width + j[p] for i in rows[row_taps] for j in columns[column_taps]])
            for p, width in ((0, target_w), (1, source_w))
        )
        target_rows.append((sample * target_h * target_w + pixels).ravel())
        source_rows.append((sample * source_h * source_w + bases).ravel())
        classes.append((first_row, len(pixels), len(source_taps), len(row_taps) * len(column_taps)))
        first_row += samples * len(pixels)
        for (kh, i), (kw, j) in itertools.product(row_taps, column_taps):
            source_taps.append(i * source_w + j)
            filter_taps.append(live_rows.index(kh) * len(live_columns) + live_columns.index(kw))
    return Plan(
        integers([kh * horizontal.kernel + kw for kh in live_rows for kw in live_columns]),
        integers(classes),
        integers(np.concatenate(source_rows) * channels),
        integers(np.concatenate(target_rows) * channels),
        integers(source_taps) * channels,
        integers(filter_taps) * channels,
    )


# ---------------------------------------------------------------------------------------------
# Emitting LLVM code
# ---------------------------------------------------------------------------------------------


def emit_gather(module: ir.Module, tile: Tile) -> None:
    """target[r, :] = sum over t < taps of source[r, t, :] filters[t, :], for r < rows, with

    source[r, t, :] = source[source_rows[r] + source_taps[t] :][: channels]
    filters[t, :] = filters[filter_taps[t] :][: channels]
    target[r, :] = target[target_rows[r] :][: channels]
    """
    emit = Emitter(module, "gather", 10, tile.lanes)
    build = emit.build
    source, source_rows, source_taps, filters, filter_taps, taps, *rest = emit.function.args
    target, target_rows, rows, channels = rest
    source, filters, target = emit.pointer(source), emit.pointer(filters), emit.pointer(target)
    source_rows, source_taps, filter_taps, target_rows = (
        emit.pointer(table, INT) for table in (source_rows, source_taps, filter_taps, target_rows)
    )
    done: Any = INT(0)
    for pixels in (PIXELS, 1):
        turns = build.sdiv(build.sub(rows, done), INT(pixels))
        with emit.loop(turns, []) as loop:
            row = build.add(done, build.mul(loop.index, INT(pixels)))
            read, write = (
                [emit.at(base, build.load(emit.at(emit.at(table, row), p))) for p in range(pixels)]
                for base, table in ((source, source_rows), (target, target_rows))
            )
            for offset, vectors in strips(emit, tile, channels, VECTORS):
                with emit.loop(taps, [emit.zero()] * (pixels * len(vectors))) as over_taps:
                    seen = build.add(build.load(emit.at(source_taps, over_taps.index)), offset)
                    place = build.add(build.load(emit.at(filter_taps, over_taps.index)), offset)
                    w = [emit.load_vector(emit.at(emit.at(filters, place), v)) for v in vectors]
                    x = [
                        emit.load_vector(emit.at(emit.at(base, seen), v))
                        for base in read
                        for v in vectors
                    ]
                    over_taps.carried = [
                        emit.multiply_add(a, b, total)
                        for a, b, total in zip(x, w * pixels, over_taps.carried)
                    ]
                totals = iter(over_taps.carried)
                for base in write:
                    for v in vectors:
                        emit.store_vector(next(totals), emit.at(emit.at(base, offset), v))
        done = build.add(done, build.mul(turns, INT(pixels)))
    emit.finish()


def emit_sums(module: ir.Module, tile: Tile, taps: int) -> None:
    """sums[t, :] += sum over r < rows of dy[r, :] x[r, t, :], for t < `taps`, with

    dy[r, :] = dy[dy_rows[r] :][: channels]
    x[r, t, :] = x[x_rows[r] + x_taps[t] :][: channels]
    sums[t, :] = sums[sum_taps[t] :][: channels]
    """
    emit = Emitter(module, f"sums_{taps}", 9, tile.lanes)
    build = emit.build
    dy, dy_rows, x, x_rows, x_taps, sums, sum_taps, rows, channels = emit.function.args
    dy, x, sums = emit.pointer(dy), emit.pointer(x), emit.pointer(sums)
    dy_rows, x_rows, x_taps, sum_taps = (
        emit.pointer(table, INT) for table in (dy_rows, x_rows, x_taps, sum_taps)
    )
    seen = [emit.at(x, build.load(emit.at(x_taps, t))) for t in range(taps)]
    places = [emit.at(sums, build.load(emit.at(sum_taps, t))) for t in range(taps)]
    for offset, vectors in strips(emit, tile, channels, VECTORS):
        with emit.loop(rows, [emit.zero()] * (taps * len(vectors))) as loop:
            dy_place = build.add(build.load(emit.at(dy_rows, loop.index)), offset)
            x_place = build.add(build.load(emit.at(x_rows, loop.index)), offset)
            d = [emit.load_vector(emit.at(emit.at(dy, dy_place), v)) for v in vectors]
            numbers = [
                emit.load_vector(emit.at(emit.at(base, x_place), v))
                for base in seen
                for v in vectors
            ]
            loop.carried = [
                emit.multiply_add(a, b, total)
                for a, b, total in zip(numbers, d * taps, loop.carried)
            ]
        totals = iter(loop.carried)
        for base in places:
            for v in vectors:
                place = emit.at(emit.at(base, offset), v)
                emit.store_vector(build.fadd(next(totals), emit.load_vector(place)), place)
    emit.finish()


def emit_depthwise(module: ir.Module, tile: Tile) -> None:
    emit_gather(module, tile)
    for taps in range(1, TAPS + 1):
        emit_sums(module, tile, taps)


@cache
def functions(tile: Tile) -> np.ndarray:
    """The addresses of `gather`, `sums_1`, `sums_2`, ..."""
    engine = compile_functions(emit_depthwise, tile)
    names = ["gather", *(f"sums_{taps}" for taps in range(1, TAPS + 1))]
    return integers([engine.get_function_address(name) for name in names])


@intrinsic
def call_gather(
    typing_context, function, source, source_rows, source_taps, filters, filter_taps, taps,
    target, target_rows, rows, channels,
):  # fmt: skip
    """See `emit_gather`; `function` is its address."""
    return types.void(*[types.int64] * 11), call_address


@intrinsic
def call_sums(
    typing_context, function, dy, dy_rows, x, x_rows, x_taps, sums, sum_taps, rows, channels
):
    """See `emit_sums`; `function` is its address."""
    return types.void(*[types.int64] * 10), call_address


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------

DEPTHWISE = job_type(
    "functions channels samples chunk_samples source source_sample target target_sample filters"
    " classes class_count source_rows target_rows source_taps filter_taps"
    " parts sums sums_size strip"
)


@kernel(DEPTHWISE)
def gather(lo, hi, thread, job_pointer):
    """Task = chunk of samples."""
    job = carray(job_pointer, 1)[0]
    for chunk in range(lo, hi):
        first = chunk * job.chunk_samples
        samples = min(job.chunk_samples, job.samples - first)
        for c in range(job.class_count):
            row = load_int(job.classes, 4 * c)
            tap = load_int(job.classes, 4 * c + 2)
            call_gather(
                load_int(job.functions, 0),
                job.source + 4 * first * job.source_sample, job.source_rows + 8 * row,
                job.source_taps + 8 * tap, job.filters, job.filter_taps + 8 * tap,
                load_int(job.classes, 4 * c + 3),
                job.target + 4 * first * job.target_sample, job.target_rows + 8 * row,
                load_int(job.classes, 4 * c + 1) * samples, job.channels,
            )  # fmt: skip


@njit
def sum_class(job, c, dy, x, samples, sums):
    """Add the products of a class's pixels. Some pixels' strip of dy and x stays in the first-level
    cache for all taps, and all their channels in the second."""
    row, pixels = load_int(job.classes, 4 * c), load_int(job.classes, 4 * c + 1)
    first_tap, taps = load_int(job.classes, 4 * c + 2), load_int(job.classes, 4 * c + 3)
    groups = (taps + TAPS - 1) // TAPS
    for first in range(row, row + pixels * samples, ROWS):
        rows = min(ROWS, row + pixels * samples - first)
        for channel in range(0, job.channels, job.strip):
            for group in range(groups):
                tap = first_tap + taps * group // groups
                last = first_tap + taps * (group + 1) // groups
                call_sums(
                    load_int(job.functions, last - tap),
                    dy + 4 * channel, job.target_rows + 8 * first,
                    x + 4 * channel, job.source_rows + 8 * first, job.source_taps + 8 * tap,
                    sums + 4 * channel, job.filter_taps + 8 * tap,
                    rows, min(job.strip, job.channels - channel),
                )  # fmt: skip


@kernel(DEPTHWISE)
def weight_sums(lo, hi, thread, job_pointer):
    """Task = part of the samples, with sums of its own. dy is the target, x the source."""
    job = carray(job_pointer, 1)[0]
    for part in range(lo, hi):
        last = job.samples * (part + 1) // job.parts
        for first in range(job.samples * part // job.parts, last, job.chunk_samples):
            for c in range(job.class_count):
                sum_class(
                    job, c,
                    job.target + 4 * first * job.target_sample,
                    job.source + 4 * first * job.source_sample,
                    min(job.chunk_samples, last - first),
                    job.sums + 4 * part * job.sums_size,
                )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All of a kernel's call that depends on shapes only."""

    job: Job
    taps: np.ndarray  # live ones
    chunks: int
    parts: int
    quick: bool


@lru_cache(maxsize=256)
def prepare(
    vertical: Axis, horizontal: Axis, backward: bool, sums: bool, samples: int, channels: int,
    tile: Tile | None, threads: int,
) -> Prepared:  # fmt: skip
    """For a gather over chunks of samples, or weight sums over parts: at least one a thread."""
    tile = tile or host_tile()
    source, target = (h * w * channels for h, w in form(vertical, horizontal, backward))
    chunk = max(1, min(CHUNK_BYTES // (4 * (source + target)), -(-samples // threads)))
    plan, parts = (
        plan_taps(vertical, horizontal, backward, sums, channels, chunk),
        min(threads, samples),
    )
    job = Job(
        DEPTHWISE, functions=functions(tile), strip=VECTORS * tile.lanes,
        channels=channels, samples=samples, chunk_samples=chunk,
        source_sample=source, target_sample=target,
        classes=plan.classes, class_count=len(plan.classes),
        source_rows=plan.source_rows, target_rows=plan.target_rows,
        source_taps=plan.source_taps, filter_taps=plan.filter_taps,
        parts=parts, sums_size=len(plan.taps) * channels,
    )  # fmt: skip
    quick = samples * (source + target) < QUICK
    return Prepared(job, plan.taps, -(-samples // chunk), parts, quick)


def gather_into(
    target: np.ndarray, source: np.ndarray, w: np.ndarray,
    vertical: Axis, horizontal: Axis, backward: bool, tile: Tile | None,
) -> None:  # fmt: skip
    """Fill `target` (N, H, W, C) from `source` (N, H, W, C) with filters w (C, KH, KW, 1)."""
    samples, channels = len(source), source.shape[3]
    axes = vertical, horizontal
    prepared = prepare(*axes, backward, False, samples, channels, tile, get_num_threads())
    filters = np.ascontiguousarray(w.reshape(channels, -1).T[prepared.taps])
    prepared.job.run(
        gather, prepared.chunks, prepared.quick, source=source, target=target, filters=filters
    )


def conv2d(
    x: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None
) -> np.ndarray:
    """x (N, H, W, C), w (C m, KH, KW, 1) -> y (N, OH, OW, C m): channel c goes to m c + 0..m-1."""
    x = spread(x, w.shape[0] // x.shape[3])
    y = empty((len(x), vertical.out, horizontal.out, w.shape[0]))
    gather_into(y, x, w, vertical, horizontal, False, tile)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, channels: int, vertical: Axis, horizontal: Axis,
    tile: Tile | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, C m), w (C m, KH, KW, 1) -> dx (N, H, W, C), C = `channels`."""
    shape = len(dy), vertical.size, horizontal.size
    dx = empty((*shape, dy.shape[3]))
    gather_into(dx, dy, w, vertical, horizontal, True, tile)
    return dx if channels == dy.shape[3] else dx.reshape(*shape, channels, -1).sum(axis=4)


def conv2d_weight_grad(
    dy: np.ndarray, x: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, C m), x (N, H, W, C) -> dw (C m, KH, KW, 1)."""
    channels = dy.shape[3]
    x = spread(x, channels // x.shape[3])
    axes = vertical, horizontal
    prepared = prepare(*axes, False, True, len(x), channels, tile, get_num_threads())
    sums = np.zeros((prepared.parts, len(prepared.taps), channels), np.float32)
    prepared.job.run(weight_sums, prepared.parts, prepared.quick, source=x, target=dy, sums=sums)
    dw = empty((channels, vertical.kernel, horizontal.kernel, 1)) if out is None else out
    dw[...] = 0
    dw.reshape(channels, -1)[:, prepared.taps] = sums.sum(axis=0).T
    return dw


def spread(x: np.ndarray, multiplier: int) -> np.ndarray:
    """Each channel `multiplier` times over."""
    return x if multiplier == 1 else np.repeat(x, multiplier, axis=3)
