"""3x3 convolution with 2.25 times fewer multiplications: Winograd's F(2x2, 3x3).

A 2x2 block of outputs needs a 4x4 patch d of inputs, and 36 multiplications for each pair of
channels. Transformed first, 16 are enough, and they are products number by number:

    Y = A' [ (G g G') * (B' d B) ] A          ' transposes, * multiplies number by number

Summed over the input channels, each of the 16 numbers is a matrix product over channels of its
own: 16 products (blocks x C) @ (C x OC), which the microkernel does. The transforms cost
additions only, so they are worth it from about 64 channels. The gradients are the same formula
read backwards: dx is a convolution of dy with the flipped filter; dw = G' [sum V * (A dY A')] G.

Source: Winograd 1980; Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks".
The matrices hold only 0, 1, 1/2, so float32 loses no more than one digit. (F(4x4, 3x3) saves
more but costs three digits in the weight gradient: left out.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinynn.kernels.cpu_direct_conv import (
    FILTERS,
    QUICK_FILTERS,
    Axis,
    filter_steps,
    integers,
)
from tinynn.kernels.cpu_llvm import INT, Emitter, Tile, call_address, compile_functions, load_int
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows, pack_taps
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, scratch
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

B_T = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A_T = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

# ---------------------------------------------------------------------------------------------
# The transforms, in LLVM's language
# ---------------------------------------------------------------------------------------------


def emit_transform(
    module: ir.Module, tile: Tile, name: str, left: np.ndarray, right: np.ndarray, scattered: str,
    adds: bool = False,
) -> None:  # fmt: skip
    """name(source, source_places, target, target_places, panels, source_step, target_step, spare,
    added)

    target = left @ source @ right.T, for `width` channels at once, in each of `panels` panels. If
    it `adds`, what lies in `added` as the target in its memory is added.
    The numbers of the source (and of the target) lie `places` floats apart; of the one which is
    `scattered`, `places` is instead a table of offsets, of which a negative one means `spare`:
    zeros to read, or a place to throw away what hangs over the edge.
    """
    emit = Emitter(module, name, 9, tile.lanes)
    build = emit.build
    source, source_places, target, target_places, panels, source_step, target_step, spare, added = (
        emit.function.args
    )
    (rows, size), (columns, _) = left.shape, right.shape

    def places(base: Any, layout: Any, count: int, table: bool) -> list[Any]:
        result = []
        for i in range(count):
            if table:
                offset = build.load(emit.at(emit.pointer(layout, INT), i))
                address = build.add(base, build.shl(offset, INT(2)))
                outside = build.icmp_signed("<", offset, INT(0))
                result.append(emit.pointer(build.select(outside, spare, address)))
            else:
                result.append(emit.at(emit.pointer(base), build.mul(layout, INT(i))))
        return result

    sources = places(source, source_places, size * size, scattered == "source")
    targets = places(target, target_places, rows * columns, scattered == "target")
    others = places(added, target_places, rows * columns, scattered == "target") if adds else []
    with emit.loop(panels, [INT(0), INT(0)]) as loop:
        read, write = loop.carried
        for v in range(0, tile.width, tile.lanes):
            numbers = [emit.load_vector(emit.at(emit.at(p, read), v)) for p in sources]
            for i in range(rows):
                row = [combine(emit, left[i], numbers[j::size]) for j in range(size)]
                for j in range(columns):
                    value = combine(emit, right[j], row)
                    if adds:
                        other = emit.at(emit.at(others[i * columns + j], write), v)
                        value = build.fadd(value, emit.load_vector(other))
                    emit.store_vector(value, emit.at(emit.at(targets[i * columns + j], write), v))
        loop.carried = [build.add(read, source_step), build.add(write, target_step)]
    emit.finish()


def combine(emit: Emitter, weights: np.ndarray, vectors: list[Any]) -> Any:
    """The sum of weights[i] vectors[i]: additions, and one multiplication if all are +-1/2."""
    terms = [(w, v) for w, v in zip(weights, vectors, strict=True) if w]
    terms.sort(key=lambda term: -term[0])  # a positive one first
    scale = abs(terms[0][0]) if len({abs(w) for w, _ in terms}) == 1 else 1.0
    total = None
    for weight, vector in terms:
        if abs(weight) != scale:
            vector = emit.build.fmul(vector, emit.constant(abs(weight)))
        if total is None:
            total = vector if weight > 0 else emit.build.fneg(vector)
        else:
            add = emit.build.fadd if weight > 0 else emit.build.fsub
            total = add(total, vector)
    return total if scale == 1 else emit.build.fmul(total, emit.constant(scale))


def emit_winograd(module: ir.Module, tile: Tile) -> None:
    emit_transform(module, tile, "filters", G, G, "")
    emit_transform(module, tile, "input", B_T, B_T, "source")
    emit_transform(module, tile, "output", A_T, A_T, "target")
    emit_transform(module, tile, "output_added", A_T, A_T, "target", adds=True)
    emit_transform(module, tile, "filters_grad", G.T, G.T, "")
    for i in range(4):
        emit_transform(module, tile, f"input_row_{i}", B_T[i : i + 1], B_T, "source")
        emit_transform(module, tile, f"output_grad_row_{i}", A_T.T[i : i + 1], A_T.T, "source")


@cache
def transforms(tile: Tile) -> Any:
    return compile_functions(emit_winograd, tile)


@intrinsic
def transform(
    typing_context, function, source, source_places, target, target_places, panels,
    source_step, target_step, spare, added,
):  # fmt: skip
    """See `emit_transform`; `function` is its address."""
    return types.void(*[types.int64] * 10), call_address


# ---------------------------------------------------------------------------------------------
# Where the blocks lie
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """2x2 blocks of the output of one image, and the 4x4 patches of input under them."""

    count: int
    patches: np.ndarray  # (count, 16) offsets in the input, -1 in the padding
    blocks: np.ndarray  # (count, 4) offsets in the output, -1 beyond its edge


@lru_cache(maxsize=256)
def plan_blocks(size: Pair, padding: Pair, out: Pair, channels: Pair) -> Blocks:
    """`size` (H, W), `padding` (top, left), `out` (OH, OW), `channels` (C, OC)."""
    patches, blocks = [], []
    for y in range(0, out[0], 2):
        for x in range(0, out[1], 2):
            patches.append(window(y - padding[0], x - padding[1], 4, size, channels[0]))
            blocks.append(window(y, x, 2, out, channels[1]))
    return Blocks(len(blocks), integers(patches), integers(blocks))


def window(top: int, left: int, side: int, size: Pair, channels: int) -> list[int]:
    """Offsets of the pixels of a square in an image, -1 for those outside."""
    return [
        (i * size[1] + j) * channels if 0 <= i < size[0] and 0 <= j < size[1] else -1
        for i in range(top, top + side)
        for j in range(left, left + side)
    ]


CHUNK_ROWS = 60  # blocks transformed at a time, forward: they stay in the second-level cache
FILTER_SHARE = 1024  # ... unless the filters are so large that they must be read less often


def worthwhile(
    vertical: Axis, horizontal: Axis, channels: Pair, samples: int, width: int
) -> tuple[bool, str]:
    """Is Winograd possible, and faster than the direct kernel? And why. `channels`: C, OC."""
    axes = (vertical, horizontal)
    if any((a.kernel, a.stride, a.dilation) != (3, 1, 1) for a in axes):
        return False, "Winograd needs a 3x3 filter, stride 1 and dilation 1"
    if not all(0 <= p <= 2 for a in axes for p in a.padding):
        return False, "Winograd needs a padding of at most 2"
    if any(c % width for c in channels):
        return False, f"Winograd needs channels in multiples of {width}"
    if min(channels) < MIN_CHANNELS:
        return False, f"below {MIN_CHANNELS} channels the transforms cost more than they save"
    blocks = math.prod((a.out + 1) // 2 for a in axes)
    products = math.prod(sum(len(taps) for _, taps in a.forward()) for a in axes)
    saving = f"{16 * blocks} products instead of the {products} of taps that see data"
    if 16 * blocks > MAX_PRODUCTS * products:
        return False, f"Winograd saves too little: {saving}"
    if samples * blocks < MIN_ROWS:
        return False, f"{samples * blocks} 2x2 blocks do not repay the transform of the filters"
    return True, f"fewer products: {saving}"


MIN_CHANNELS = 32  # below, the transforms take longer than the products they save
MAX_PRODUCTS = 0.75  # of what the direct kernel needs, which skips the padding
MIN_ROWS = 256  # enough to pay for the transform of the filters

# ---------------------------------------------------------------------------------------------
# Forward and input gradient
# ---------------------------------------------------------------------------------------------

PRODUCTS = job_type(
    f"micro {FILTERS} source source_sample source_channels target target_sample target_channels"
    " residual rows chunk_rows blocks_per_sample patches blocks filters"
    " transform_filters transform_input transform_output"
    " transform_output_added"
    " scratch scratch_size source_number target_number source_rows target_rows zero spare"
)


@kernel(PRODUCTS)
def transform_filters(lo, hi, thread, job_pointer):
    """Task = panel: w (OC, 3, 3, C) -> [panel][16][k][width]."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    step = job.source_channels * width
    for panel in range(lo, hi):
        packed = job.packed + 4 * panel * 9 * step
        pack_taps(
            job.micro, job.w + 4 * panel * job.w_panel_step, job.tap_step, job.k_step,
            job.column_step, job.taps, 9, job.source_channels, width, packed,
        )  # fmt: skip
        transform(
            job.transform_filters, packed, step, job.filters + 4 * panel * 16 * step, step,
            job.source_channels, width, width, 0, 0,
        )  # fmt: skip


@kernel(PRODUCTS)
def winograd(lo, hi, thread, job_pointer):
    """Task = chunk of rows (2x2 blocks of any samples): transform, 16 products, transform."""
    job = carray(job_pointer, 1)[0]
    width, k = load_int(job.micro, WIDTH), job.source_channels
    panels = job.target_channels // width
    v = job.scratch + 4 * thread * job.scratch_size  # [16][row][source channel]
    m = v + 4 * 16 * job.source_number  # [16][row][target channel]
    for chunk in range(lo, hi):
        first = chunk * job.chunk_rows
        rows = min(job.chunk_rows, job.rows - first)
        for r in range(rows):
            sample = (first + r) // job.blocks_per_sample
            block = (first + r) % job.blocks_per_sample
            transform(
                job.transform_input,
                job.source + 4 * sample * job.source_sample, job.patches + 8 * 16 * block,
                v + 4 * r * k, job.source_number, k // width, width, width, job.spare, 0,
            )  # fmt: skip
        for number in range(16):
            for panel in range(panels):
                multiply_rows(
                    job.micro, v + 4 * number * job.source_number, job.source_rows, job.zero,
                    job.filters + 4 * (panel * 16 + number) * k * width, job.zero,
                    1, k, 1, width,
                    m + 4 * (number * job.target_number + panel * width), job.target_rows,
                    rows, width, 0, 0,
                )  # fmt: skip
        for r in range(rows):
            sample = (first + r) // job.blocks_per_sample
            block = (first + r) % job.blocks_per_sample
            place = 4 * sample * job.target_sample
            transform(
                job.transform_output_added if job.residual else job.transform_output,
                m + 4 * r * job.target_channels, job.target_number,
                job.target + place, job.blocks + 8 * 4 * block,
                panels, width, width, job.spare + 4 * k, job.residual + place,
            )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All of a convolution that depends on shapes only."""

    job: Job
    panels: int
    tasks: int
    scratch_size: int  # floats


@lru_cache(maxsize=256)
def prepare(
    size: Pair, padding: Pair, out: Pair, samples: int, channels: Pair, backward: bool,
    tile: Tile | None, threads: int,
) -> Prepared:  # fmt: skip
    """`size` and `channels` of the source, `out` of the target; `padding`: top, left."""
    micro = microkernel(tile)
    address = transforms(micro.tile).get_function_address
    k, target_channels = channels
    plan = plan_blocks(size, padding, out, channels)
    rows, panels = samples * plan.count, target_channels // micro.tile.width
    chunk = max(CHUNK_ROWS, k * target_channels // FILTER_SHARE)
    chunks = -(-rows // (chunk * threads)) * threads
    chunk = -(-rows // chunks)
    # One cache line more: at distances of 4096 bytes the 16 numbers would evict each other.
    source_number, target_number = chunk * k + 16, chunk * target_channels + 16
    scratch_size = 16 * (source_number + target_number)
    job = Job(
        PRODUCTS, threads, micro=micro.table, source_sample=math.prod(size) * k, source_channels=k,
        target_sample=math.prod(out) * target_channels, target_channels=target_channels,
        taps=integers(range(9)[:: -1 if backward else 1]), live_taps=9,
        **filter_steps(9, channels, backward, micro.tile.width),
        rows=rows, chunk_rows=chunk, blocks_per_sample=plan.count,
        patches=plan.patches, blocks=plan.blocks,
        transform_filters=address("filters"), transform_input=address("input"),
        transform_output=address("output"), transform_output_added=address("output_added"),
        scratch_size=scratch_size,
        source_number=source_number, target_number=target_number,
        source_rows=np.arange(chunk) * k, target_rows=np.arange(chunk) * target_channels,
        zero=np.zeros(1, np.int64),
    )  # fmt: skip
    return Prepared(job, panels, -(-rows // chunk), scratch_size)


def winograd_into(
    target: np.ndarray, source: np.ndarray, w: np.ndarray, padding: Pair, backward: bool,
    tile: Tile | None, residual: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Fill `target` (N, H, W, C) from `source`, with filters w (OC, 3, 3, C), flipped backward,
    and add a `residual`, which may be the target. `padding`: top, left."""
    threads = get_num_threads()
    samples, *size, k = source.shape
    channels = k, target.shape[3]
    out = target.shape[1:3]
    prepared = prepare(tuple(size), padding, out, samples, channels, backward, tile, threads)
    count = math.prod(channels)
    spare = scratch("zeros and waste", sum(channels))
    spare[:k] = 0
    prepared.job.run(
        transform_filters, prepared.panels, 9 * count <= QUICK_FILTERS,
        winograd, prepared.tasks, False,
        source=source, target=target, residual=residual, w=w, packed=scratch("filters", 9 * count),
        filters=scratch("winograd filters", 16 * count), spare=spare,
        scratch=scratch("winograd", threads * prepared.scratch_size),
    )  # fmt: skip


def conv2d(
    x: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None
) -> np.ndarray:
    """x (N, H, W, C), w (OC, 3, 3, C) -> y (N, OH, OW, OC)."""
    y = empty((x.shape[0], vertical.out, horizontal.out, w.shape[0]))
    winograd_into(y, x, w, (vertical.padding[0], horizontal.padding[0]), False, tile)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    residual: np.ndarray | None = None, out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, OC), w (OC, 3, 3, C) -> dx (N, H, W, C): a convolution of dy with the
    flipped filter, padded by what the forward padding lacks to 2. Plus `residual`, which
    may be `out`."""
    shape = dy.shape[0], vertical.size, horizontal.size, w.shape[3]
    dx = empty(shape) if out is None else out
    padding = 2 - vertical.padding[0], 2 - horizontal.padding[0]
    winograd_into(dx, dy, w, padding, True, tile, residual)
    return dx
