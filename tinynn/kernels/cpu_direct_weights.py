"""The weight gradient of a convolution as tiles of a matrix product.

    dw[o, tap, c] = sum over pixels of dy[pixel, o] x[pixel + tap, c]

The sum runs over pixels, whose channels lie far apart in memory. So dy and x are first copied,
a few images at a time, into panels of `width` channels in which pixels follow one another. Then
the rows of a tile are output channels (from dy), its columns input channels (from x), and its
pairs the runs of pixels under one tap that see data; they are added straight into dw.

(A single panel of image rows is as the images are: there is nothing to copy.)

With few input channels (an image has 1 or 3) such a tile would be mostly empty. Then the sides
are swapped: the columns are output channels, and the rows are all taps of all input channels,
read from images padded with zeros, where each tap is just another offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, njit

from tinynn.kernels.cpu_direct_conv import Axis, integers
from tinynn.kernels.cpu_llvm import Tile, fitting_tile, host_tile, load_float, load_int, store_float
from tinynn.kernels.cpu_loops import QUICK, as_floats
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows, pack_panel
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, scratch
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

CHUNK_BYTES = 384 * 1024  # images packed at a time: they stay in the second-level cache
NEAR_BYTES = 32 * 1024  # narrow tiles: image rows multiplied at a time, in the nearest cache
SCATTERED = 16  # swapped, samples lie far apart in memory: runs of them must be so much longer
PARTS_BYTES = 1024 * 1024  # the threads divide the samples if their sums fit in this together

# ---------------------------------------------------------------------------------------------
# Which pixels meet under which tap
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Lists of runs of pixels. A run is one pixel of all samples of a chunk (if there are many
    samples), or neighbouring pixels of an image row."""

    lists: np.ndarray  # (lists, 4): first pair, pairs (of each sample), run, offset in the result
    left_pairs: np.ndarray  # offset of a run in a panel (or padded image) of the left side
    right_pairs: np.ndarray


def by_tap(axis: Axis) -> dict[int, list[Pair]]:
    """{tap: [(output pixel, the input pixel it sees), ...]} for the taps that see data."""
    pixels: dict[int, list[Pair]] = {}
    for i, (base, taps) in enumerate(axis.forward()):
        for k, distance in taps:
            pixels.setdefault(k, []).append((i, base + distance))
    return pixels


@lru_cache(maxsize=256)
def plan_sums(
    vertical: Axis, horizontal: Axis, channels: int, samples: int, many: bool, width: int
) -> Sums:
    """dy in panels at left, x in panels at right; a list for each tap. `many`: runs of samples."""
    lists = []
    left: list[int] = []
    right: list[int] = []
    step = samples * width if many else width
    for kh, in_rows in by_tap(vertical).items():
        for kw, in_columns in by_tap(horizontal).items():
            first = len(left)
            for n in range(1 if many else samples):
                for i, source_i in in_rows:
                    for j, source_j in in_columns if many else in_columns[:1]:
                        out_row, row = n * vertical.out + i, n * vertical.size + source_i
                        left.append((out_row * horizontal.out + j) * step)
                        right.append((row * horizontal.size + source_j) * step)
            pairs = len(left) - first if many else len(in_rows)
            place = (kh * horizontal.kernel + kw) * channels
            lists.append((first, pairs, len(in_columns), place))
    return Sums(integers(lists), integers(left), integers(right))


@lru_cache(maxsize=256)
def plan_swapped_sums(
    vertical: Axis, horizontal: Axis, channels: int, samples: int, many: bool, width: int
) -> Sums:
    """Padded x at left, dy in panels at right; one list for all taps."""
    left, right = [], []
    padded_h, padded_w = padded_size(vertical, horizontal)
    step = samples * width if many else width
    for n in range(1 if many else samples):
        for i in range(vertical.out):
            for j in range(horizontal.out if many else 1):
                row = n * padded_h + i * vertical.stride
                left.append((row * padded_w + j * horizontal.stride) * channels)
                right.append(((n * vertical.out + i) * horizontal.out + j) * step)
    pairs = len(left) if many else vertical.out
    return Sums(integers([(0, pairs, horizontal.out, 0)]), integers(left), integers(right))


def padded_size(vertical: Axis, horizontal: Axis) -> Pair:
    return vertical.size + sum(vertical.padding), horizontal.size + sum(horizontal.padding)


# ---------------------------------------------------------------------------------------------
# The kernel
# ---------------------------------------------------------------------------------------------

SUMS = job_type(
    "micro left left_pixels left_channels right right_pixels right_channels"
    " samples chunk_samples chunks many parts left_groups right_groups"
    " swapped image_height image_row padded_row padded_image padded_offset"
    " sums sums_size sum_rows left_rows row_count lists list_count left_pairs right_pairs"
    " pairs lot_pairs adjacent left_ready right_ready left_step right_step"
    " scratch left_scratch right_scratch taps dead_taps dead_count dw"
)


@njit
def pack_images(job, source, pixels, channels, first, last, samples, target):
    """Panels first..last-1 of images (samples, pixels, channels) -> [panel][pixel][sample][width]
    if there are `many` samples, else [panel][sample][pixel][width]."""
    width = load_int(job.micro, WIDTH)
    for panel in range(first, last):
        read = source + 4 * panel * width
        write = target + 4 * (panel - first) * job.chunk_samples * pixels * width
        columns = min(width, channels - panel * width)
        if job.many:
            for pixel in range(pixels):
                pack_panel(
                    job.micro, read + 4 * pixel * channels, pixels * channels, 1, samples, columns,
                    write + 4 * pixel * job.chunk_samples * width,
                )  # fmt: skip
        else:
            pack_panel(job.micro, read, channels, 1, samples * pixels, columns, write)


@njit
def pad_images(job, source, samples, target):
    """Images (samples, H, W, C) into the middle of padded ones."""
    for n in range(samples):
        for i in range(job.image_height):
            read = source + 4 * (n * job.image_height + i) * job.image_row
            write = target + 4 * (n * job.padded_image + job.padded_offset + i * job.padded_row)
            for j in range(job.image_row):
                store_float(write, j, load_float(read, j))


@kernel(SUMS)
def weight_sums(lo, hi, thread, job_pointer):
    """Task = (part of the samples, group of left panels, group of right panels)."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    left_panels = (job.left_channels + width - 1) // width
    right_panels = (job.right_channels + width - 1) // width
    left = job.scratch + 4 * thread * (job.left_scratch + job.right_scratch)
    right = left + 4 * job.left_scratch
    if job.swapped:
        for i in range(job.left_scratch):  # the padding; the images overwrite the rest
            store_float(left, i, 0)
    for task in range(lo, hi):
        part = task // (job.left_groups * job.right_groups)
        group, other = task // job.right_groups % job.left_groups, task % job.right_groups
        left_panel = left_panels * group // job.left_groups
        left_last = left_panels * (group + 1) // job.left_groups
        right_panel = right_panels * other // job.right_groups
        right_last = right_panels * (other + 1) // job.right_groups
        first_row = 0 if job.swapped else left_panel * width
        rows = min(job.row_count, left_last * width) - first_row
        if job.swapped:
            rows = job.row_count
        first_chunk = job.chunks * part // job.parts
        for chunk in range(first_chunk, job.chunks * (part + 1) // job.parts):
            first = chunk * job.chunk_samples
            samples = min(job.chunk_samples, job.samples - first)
            a = job.left + 4 * first * job.left_pixels * job.left_channels
            if job.swapped:
                pad_images(job, a, samples, left)
                a = left
            elif not job.left_ready:
                pack_images(
                    job, a, job.left_pixels, job.left_channels, left_panel, left_last, samples, left
                )
                a = left
            images = job.right + 4 * first * job.right_pixels * job.right_channels
            if not job.right_ready:
                pack_images(
                    job, images, job.right_pixels, job.right_channels,
                    right_panel, right_last, samples, right,
                )  # fmt: skip
                images = right
            repeats = 1 if job.many else samples
            for panel in range(right_panel, right_last):
                b = images + 4 * (panel - right_panel) * (
                    job.chunk_samples * job.right_pixels * width
                )
                for lot in range(0, job.pairs * repeats, job.lot_pairs):
                    for t in range(job.list_count):
                        pair = load_int(job.lists, 4 * t) + lot
                        pairs = min(load_int(job.lists, 4 * t + 1) * repeats - lot, job.lot_pairs)
                        run = load_int(job.lists, 4 * t + 2)
                        place = load_int(job.lists, 4 * t + 3) + panel * width
                        sums = job.sums + 4 * (part * job.sums_size + place)
                        if pairs > 0:
                            multiply_rows(
                                job.micro, a, job.left_rows, job.left_pairs + 8 * pair,
                                b, job.right_pairs + 8 * pair, pairs, samples if job.many else run,
                                job.left_step, job.right_step,
                                sums, job.sum_rows + 8 * first_row,
                                rows, min(width, job.right_channels - panel * width),
                                sums if chunk > first_chunk or lot > 0 else 0, job.adjacent,
                            )  # fmt: skip


@kernel(SUMS)
def clear_taps(lo, hi, thread, job_pointer):
    """Task = row of the sums (an output channel): zeros for the taps that never see data."""
    job = carray(job_pointer, 1)[0]
    for row in range(lo, hi):
        for t in range(job.dead_count):
            tap = row * job.taps + load_int(job.dead_taps, t)
            target = job.sums + 4 * tap * job.right_channels
            for c in range(job.right_channels):
                store_float(target, c, 0)


@kernel(SUMS)
def add_parts(lo, hi, thread, job_pointer):
    """Task = output channel: its row of dw, of the sums of all parts."""
    job = carray(job_pointer, 1)[0]
    rows, columns = job.row_count, job.sums_size // job.row_count
    sums = carray(as_floats(job.sums), (job.parts, rows, columns))
    if job.swapped:  # it is a column there
        dw = carray(as_floats(job.dw), (columns, rows))
        for o in range(lo, hi):
            for k in range(rows):
                total = sums[0, k, o]
                for part in range(1, job.parts):
                    total += sums[part, k, o]
                dw[o, k] = total
    else:
        dw = carray(as_floats(job.dw), (rows, columns))
        for o in range(lo, hi):
            dw[o] = sums[0, o]
            for part in range(1, job.parts):
                dw[o] += sums[part, o]


# ---------------------------------------------------------------------------------------------
# Division of the work
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Division:
    """Chunks of samples, and what the threads divide among them."""

    chunk: int  # samples
    chunks: int
    parts: int  # of the samples
    oc_groups: int
    c_groups: int


def divide(samples: int, sample_bytes: int, w_size: int, panels: Pair, threads: int) -> Division:
    """Small sums: each thread adds up a part of the samples for itself. Large sums: each thread
    takes some of the channels (and packs the other side's images again). `panels`: of OC, C."""
    chunks = max(1, samples * sample_bytes // CHUNK_BYTES)
    parts = oc_groups = c_groups = 1
    if 4 * w_size * threads <= PARTS_BYTES:
        parts = min(threads, samples)
        chunks = -(-chunks // parts) * parts
    elif panels[0] >= panels[1]:
        oc_groups = min(threads, panels[0])
    else:
        c_groups = min(threads, panels[1])
    chunk = -(-samples // chunks)
    chunks = -(-samples // chunk)
    return Division(chunk, chunks, min(parts, chunks), oc_groups, c_groups)


@dataclass(frozen=True)
class Prepared:
    """All of a weight gradient that depends on shapes only."""

    job: Job
    swapped: bool
    dead_taps: int  # so many never see data: their gradient is zero
    parts: int  # sums, of `rows` rows each
    rows: int
    scratch_size: int  # floats
    tasks: int


@lru_cache(maxsize=256)
def prepare(
    vertical: Axis, horizontal: Axis, samples: int, channels: Pair, tile: Tile | None, threads: int
) -> Prepared:
    """`channels`: C, OC."""
    c, oc = channels
    swapped = c < (tile or fitting_tile(c)).width
    tile = tile or fitting_tile(oc if swapped else c)
    micro, width = microkernel(tile), tile.width
    taps = vertical.kernel * horizontal.kernel
    x_pixels, dy_pixels = vertical.size * horizontal.size, vertical.out * horizontal.out
    panels = -(-oc // width), -(-c // width)
    sample_bytes = 4 * (x_pixels * c + dy_pixels * oc)
    division = divide(samples, sample_bytes, oc * taps * c, panels, threads)
    chunk = division.chunk
    many = chunk >= (SCATTERED if swapped else 1) * horizontal.out
    plan = (plan_swapped_sums if swapped else plan_sums)(
        vertical, horizontal, c, chunk, many, width
    )
    dy_panel, x_panel = chunk * dy_pixels * width, chunk * x_pixels * width
    padded_h, padded_w = padded_size(vertical, horizontal)
    padded_image = padded_h * padded_w * c
    if swapped:
        kh, kw, channel = np.ogrid[: vertical.kernel, : horizontal.kernel, :c]
        left_rows = (kh * vertical.dilation * padded_w + kw * horizontal.dilation) * c + channel
        rows, columns = taps * c, oc
        left_scratch, right_scratch = chunk * padded_image, panels[0] * dy_panel
        sides: dict[str, Any] = dict(
            left_pixels=x_pixels, left_channels=c, left_groups=1,
            right_pixels=dy_pixels, right_channels=oc, right_groups=division.oc_groups,
            left_step=padded_image if many else horizontal.stride * c, right_step=width,
            left_ready=False, right_ready=oc == width and not many,
        )  # fmt: skip
    else:
        left_rows = np.arange(oc) // width * dy_panel + np.arange(oc) % width
        rows, columns = oc, taps * c
        left_scratch, right_scratch = panels[0] * dy_panel, panels[1] * x_panel
        sides = dict(
            left_pixels=dy_pixels, left_channels=oc, left_groups=division.oc_groups,
            right_pixels=x_pixels, right_channels=c, right_groups=division.c_groups,
            left_step=width, right_step=width if many else horizontal.stride * width,
            left_ready=oc == width and not many, right_ready=c == width and not many,
        )  # fmt: skip
    pairs = max((pairs for _, pairs, _, _ in plan.lists), default=0)
    lot_pairs = max(1, pairs * chunk)
    if not many and tile.vectors < host_tile().vectors:
        lot_pairs = max(1, NEAR_BYTES // (4 * width * (horizontal.size + horizontal.out)))
    live = set(range(taps)) if swapped else {place // c for _, _, _, place in plan.lists}
    dead_taps = integers([tap for tap in range(taps) if tap not in live])
    job = Job(
        SUMS, threads, micro=micro.table, **sides, samples=samples, chunk_samples=chunk,
        chunks=division.chunks, many=many, parts=division.parts,
        swapped=swapped, image_height=vertical.size, image_row=horizontal.size * c,
        padded_row=padded_w * c, padded_image=padded_image,
        padded_offset=(vertical.padding[0] * padded_w + horizontal.padding[0]) * c,
        sums_size=oc * taps * c, sum_rows=np.arange(rows) * columns,
        left_rows=integers(left_rows).ravel(), row_count=rows,
        lists=plan.lists, list_count=len(plan.lists), pairs=pairs, lot_pairs=lot_pairs,
        adjacent=0 if swapped else tile.adjacent,
        left_pairs=plan.left_pairs, right_pairs=plan.right_pairs,
        left_scratch=left_scratch, right_scratch=right_scratch,
        taps=taps, dead_taps=dead_taps, dead_count=len(dead_taps),
    )  # fmt: skip
    tasks = division.parts * sides["left_groups"] * sides["right_groups"]
    scratch_size = left_scratch + right_scratch
    return Prepared(job, swapped, len(dead_taps), division.parts, rows, scratch_size, tasks)


def conv2d_weight_grad(
    dy: np.ndarray, x: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, OC), x (N, H, W, C) -> dw (OC, KH, KW, C)."""
    threads, channels = get_num_threads(), (x.shape[3], dy.shape[3])
    prepared = prepare(vertical, horizontal, x.shape[0], channels, tile, threads)
    shape = channels[1], vertical.kernel, horizontal.kernel, channels[0]
    dw = empty(shape) if out is None else out
    parts = prepared.parts
    in_place = parts == 1 and not prepared.swapped
    sums = dw if in_place else scratch("weight sums", parts * dw.size)
    left, right = (x, dy) if prepared.swapped else (dy, x)
    prepared.job.run(
        clear_taps, prepared.dead_taps and parts * prepared.rows, False,
        weight_sums, prepared.tasks, False,
        add_parts, 0 if in_place else channels[1], parts * dw.size < QUICK,
        left=left, right=right, sums=sums, dw=dw,
        scratch=scratch("images", threads * prepared.scratch_size),
    )  # fmt: skip
    return dw
