"""Convolution and its input gradient as tiles of a matrix product, read straight from NHWC.

Forward, each output pixel is a sum over the filter's taps:  y[pixel] = sum x[pixel + tap] w[tap].
The input gradient has the same shape: each input pixel gathers from the output pixels whose
window saw it. So both are a *gather*, with different lists of taps. At the border some taps see
only padding and fall away; with a stride, an input pixel was seen through some taps only. Pixels
with the same taps form a *class* (9 of them for a 3x3 filter: middle, edges, corners), and any
pixels of a class, from any images of the batch, can be the rows of one tile:

       corner | top edge | corner        rows of a tile: pixels of one class
      --------+----------+--------       pairs: its taps (where in x, which part of w)
        left  |  middle  |  right        depth: the channels (of all the taps that lie side by
      --------+----------+--------              side in x, as those of one image row do)
       corner | bottom   | corner        columns: output channels

Legend: as in kernels/reference.py. A *panel* is as many channels as a tile has columns, stored
together. Offsets count floats; addresses and table entries, bytes (hence `4 *` and `8 *`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit

from tinynn.kernels.cpu_llvm import Tile, fitting_tile, load_int
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows, pack_taps
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, scratch
from tinynn.kernels.geometry import Padding, Pair, conv_output_size
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

Taps = tuple[tuple[int, int], ...]  # (tap, distance from the base pixel to what it sees), ...

CHUNK_BYTES = 1 << 20  # of source and target worked on at a time: they stay in the cache
QUICK_FILTERS = 1 << 17  # floats, packed by one thread

# ---------------------------------------------------------------------------------------------
# Which taps see data
# ---------------------------------------------------------------------------------------------


class Axis(NamedTuple):  # which caches look up more quickly than a dataclass
    """One axis of a convolution."""

    size: int
    kernel: int
    stride: int
    padding: Pair
    dilation: int

    @property
    def out(self) -> int:
        return conv_output_size(self.size, self.kernel, self.stride, self.padding, self.dilation)

    def forward(self) -> list[tuple[int, Taps]]:
        """For each output pixel: its base pixel in the input, and the taps that see data."""
        result = []
        for pixel in range(self.out):
            base = pixel * self.stride - self.padding[0]
            distances = [(k, k * self.dilation) for k in range(self.kernel)]
            taps = tuple((k, d) for k, d in distances if 0 <= base + d < self.size)
            result.append((base, taps))
        return result

    def backward(self) -> list[tuple[int, Taps]]:
        """For each input pixel: its base pixel in the output, and the taps that saw it."""
        result = []
        for pixel in range(self.size):
            base = (pixel + self.padding[0]) // self.stride
            taps = []
            for k in reversed(range(self.kernel)):  # from the first output pixel to the last
                position = pixel + self.padding[0] - k * self.dilation
                if position % self.stride == 0 and 0 <= position // self.stride < self.out:
                    taps.append((k, position // self.stride - base))
            result.append((base, tuple(taps)))
        return result


@lru_cache(maxsize=256)
def axes_of(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, padding: Padding,
    dilation: Pair,
) -> tuple[Axis, Axis]:  # fmt: skip
    """The vertical and the horizontal axis."""
    vertical, horizontal = (
        Axis(x_shape[1 + a], w_shape[1 + a], stride[a], padding[a], dilation[a]) for a in (0, 1)
    )
    return vertical, horizontal


def by_taps(pixels: list[tuple[int, Taps]]) -> dict[Taps, list[tuple[int, int]]]:
    """Group the pixels of an axis by their taps: {taps: [(pixel, base), ...]}."""
    groups: dict[Taps, list[tuple[int, int]]] = {}
    for pixel, (base, taps) in enumerate(pixels):
        groups.setdefault(taps, []).append((pixel, base))
    return groups


def adjacent(taps: Taps, live: list[int]) -> bool:
    """Do the taps lie side by side both in the source and among the packed weights?"""
    places = [(distance, live.index(k)) for k, distance in taps]
    return all(b[0] - a[0] == b[1] - a[1] == 1 for a, b in itertools.pairwise(places))


def form(vertical: Axis, horizontal: Axis, backward: bool) -> tuple[Pair, Pair]:
    """(H, W) of the source and of the target."""
    inside, out = (vertical.size, horizontal.size), (vertical.out, horizontal.out)
    return (out, inside) if backward else (inside, out)


def integers(values: Any) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.int64)


# ---------------------------------------------------------------------------------------------
# The plan of a gather
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gather:
    """target[n, pixel] = sum over its taps of source[n, base pixel + distance] @ w[tap]."""

    taps: np.ndarray  # the taps that see data somewhere (kh KW + kw), in order of their packing
    classes: np.ndarray  # (classes, 5): first row, pixels, first pair, pairs, taps in a pair
    source_rows: np.ndarray  # offset of each row's base pixel: by class, then sample, then pixel
    target_rows: np.ndarray  # offset of each row's pixel
    source_pairs: np.ndarray  # offset of each pair from the base pixel
    weight_pairs: np.ndarray  # offset of its weights in a panel


@lru_cache(maxsize=256)
def plan_gather(
    vertical: Axis, horizontal: Axis, backward: bool, channels: Pair, samples: int,
    width: int | None,
) -> Gather:  # fmt: skip
    """The lists for `samples` images with `channels` (of the source, of the target).

    The weights are packed in panels of `width`, those of taps that see data; or, if None, as they
    lie in a filter (forward only).
    """
    rows, columns = (
        by_taps(axis.backward() if backward else axis.forward()) for axis in (vertical, horizontal)
    )
    (source_h, source_w), (target_h, target_w) = form(vertical, horizontal, backward)
    live_rows, live_columns = (
        sorted({k for taps in groups for k, _ in taps}, reverse=backward)
        if width
        else list(range(axis.kernel))
        for groups, axis in ((rows, vertical), (columns, horizontal))
    )
    classes: list[tuple[int, ...]] = []
    source_rows, target_rows = [], []
    source_pairs: list[int] = []
    weight_pairs: list[int] = []
    first_row = 0
    sample = np.arange(samples)[:, None]
    for row_taps, in_rows in rows.items():
        for column_taps, in_columns in columns.items():
            pixels = np.array([i * target_w + j for i, _ in in_rows for j, _ in in_columns])
            bases = np.array([i * source_w + j for _, i in in_rows for _, j in in_columns])
            target_rows.append((sample * target_h * target_w + pixels).ravel())
            source_rows.append((sample * source_h * source_w + bases).ravel())
            merged = adjacent(column_taps, live_columns)
            first_pair = len(source_pairs)
            for kh, i in row_taps:
                for kw, j in column_taps[:1] if merged else column_taps:
                    tap = live_rows.index(kh) * len(live_columns) + live_columns.index(kw)
                    source_pairs.append((i * source_w + j) * channels[0])
                    weight_pairs.append(tap * channels[0] * (width or 1))
            pairs = len(source_pairs) - first_pair
            classes.append(
                (first_row, len(pixels), first_pair, pairs, len(column_taps) if merged else 1)
            )
            first_row += samples * len(pixels)
    return Gather(
        integers([kh * horizontal.kernel + kw for kh in live_rows for kw in live_columns]),
        integers(classes),
        integers(np.concatenate(source_rows) * channels[0]),
        integers(np.concatenate(target_rows) * channels[1]),
        integers(source_pairs),
        integers(weight_pairs),
    )


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------

FILTERS = "w w_panel_step tap_step k_step column_step taps live_taps packed"
GATHER = job_type(
    f"micro {FILTERS} source source_sample source_channels target target_sample target_channels"
    " residual samples chunk_samples panel_groups panel_size pack_late"
    " classes class_count source_rows target_rows source_pairs weight_pairs"
)


@njit
def pack(job, panel, place):
    """A panel of target channels: w (OC, KH, KW, C) -> [tap][source channel][width]."""
    width = load_int(job.micro, WIDTH)
    target = job.packed + 4 * place * job.panel_size
    pack_taps(
        job.micro, job.w + 4 * panel * job.w_panel_step, job.tap_step, job.k_step,
        job.column_step, job.taps, job.live_taps, job.source_channels,
        min(width, job.target_channels - panel * width), target,
    )  # fmt: skip
    return target


@kernel(GATHER)
def pack_filters(lo, hi, thread, job_pointer):
    """Task = panel: all of w -> [panel][tap][source channel][width]."""
    job = carray(job_pointer, 1)[0]
    for panel in range(lo, hi):
        pack(job, panel, panel)


@kernel(GATHER)
def gather(lo, hi, thread, job_pointer):
    """Task = (chunk of samples, group of panels): all pixels of those samples and channels."""
    job = carray(job_pointer, 1)[0]
    width = load_int(job.micro, WIDTH)
    panels = (job.target_channels + width - 1) // width
    for task in range(lo, hi):
        chunk, group = task // job.panel_groups, task % job.panel_groups
        first_panel = panels * group // job.panel_groups
        last_panel = panels * (group + 1) // job.panel_groups
        first = chunk * job.chunk_samples
        samples = min(job.chunk_samples, job.samples - first)
        source = job.source + 4 * first * job.source_sample
        target = job.target + 4 * first * job.target_sample
        residual = job.residual + 4 * first * job.target_sample
        for panel in range(first_panel, last_panel):  # its weights stay in the cache
            if job.pack_late:
                weights = pack(job, panel, thread)
            else:
                weights = job.packed + 4 * panel * job.panel_size
            added = residual + 4 * panel * width if job.residual else 0
            for c in range(job.class_count):
                row = load_int(job.classes, 5 * c)
                rows = load_int(job.classes, 5 * c + 1) * samples
                pair = load_int(job.classes, 5 * c + 2)
                pairs = load_int(job.classes, 5 * c + 3)
                depth = load_int(job.classes, 5 * c + 4) * job.source_channels
                if pairs == 0 and job.residual == job.target:
                    continue  # nothing to add
                multiply_rows(
                    job.micro,
                    source, job.source_rows + 8 * row, job.source_pairs + 8 * pair,
                    weights, job.weight_pairs + 8 * pair,
                    pairs, depth, 1, width,
                    target + 4 * panel * width, job.target_rows + 8 * row,
                    rows, min(width, job.target_channels - panel * width), added, 0,
                )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All of a gather that depends on shapes only."""

    job: Job
    panels: int  # to pack beforehand
    filters_size: int  # floats, packed
    tasks: int


@lru_cache(maxsize=256)
def prepare(
    vertical: Axis, horizontal: Axis, backward: bool, samples: int, channels: Pair,
    tile: Tile | None, threads: int,
) -> Prepared:  # fmt: skip
    """For `samples` images with (source, target) `channels`, on `threads` threads."""
    micro = microkernel(tile or fitting_tile(channels[1]))
    width = micro.tile.width
    source_size, target_size = (
        math.prod(sizes) * c
        for sizes, c in zip(form(vertical, horizontal, backward), channels, strict=True)
    )
    chunk, chunks = divide(samples, 4 * (source_size + target_size), threads)
    plan = plan_gather(vertical, horizontal, backward, channels, chunk, width)
    panels = -(-channels[1] // width)
    panel_size = len(plan.taps) * channels[0] * width
    # Many weights for few images: each panel is packed where it is used, which keeps it in the
    # cache, and meets all the images.
    pack_late = panels * panel_size > samples * source_size
    if pack_late:
        chunk, chunks = samples, 1
        plan = plan_gather(vertical, horizontal, backward, channels, chunk, width)
    panel_groups = panels if pack_late else min(panels, -(-threads // chunks))
    job = Job(
        GATHER, threads, micro=micro.table, source_sample=source_size, source_channels=channels[0],
        target_sample=target_size, target_channels=channels[1],
        samples=samples, chunk_samples=chunk, panel_groups=panel_groups, panel_size=panel_size,
        pack_late=pack_late,
        taps=plan.taps, live_taps=len(plan.taps),
        **filter_steps(vertical.kernel * horizontal.kernel, channels, backward, width),
        classes=plan.classes, class_count=len(plan.classes),
        source_rows=plan.source_rows, target_rows=plan.target_rows,
        source_pairs=plan.source_pairs, weight_pairs=plan.weight_pairs,
    )  # fmt: skip
    packed = threads if pack_late else panels
    return Prepared(job, panels * (not pack_late), packed * panel_size, chunks * panel_groups)


def filter_steps(taps: int, channels: Pair, backward: bool, width: int) -> dict[str, Any]:
    """Where the weights of (source, target) `channels` lie in w (OC, KH, KW, C)."""
    filter_size = taps * channels[1 if backward else 0]
    if backward:  # the columns of a panel are C, k is OC
        return {
            "w_panel_step": width, "tap_step": channels[1], "k_step": filter_size, "column_step": 1
        }  # fmt: skip
    return {
        "w_panel_step": width * filter_size, "tap_step": channels[0],
        "k_step": 1, "column_step": filter_size,
    }  # fmt: skip


def gather_into(
    target: np.ndarray, source: np.ndarray, w: np.ndarray,
    vertical: Axis, horizontal: Axis, backward: bool, tile: Tile | None = None,
    residual: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Fill `target` (N, H, W, C) from `source` (N, H, W, C) with filters w (OC, KH, KW, C), and
    add a `residual`, which may be the target."""
    threads, channels = get_num_threads(), (source.shape[3], target.shape[3])
    samples = source.shape[0]
    prepared = prepare(vertical, horizontal, backward, samples, channels, tile, threads)
    prepared.job.run(
        pack_filters, prepared.panels, prepared.filters_size <= QUICK_FILTERS,
        gather, prepared.tasks, False,
        source=source, target=target, residual=residual, w=w,
        packed=scratch("filters", prepared.filters_size),
    )  # fmt: skip


def divide(samples: int, sample_bytes: int, threads: int) -> Pair:
    """(samples of a chunk, chunks): chunks that fit the cache, and an even number a thread."""
    chunks = -(-samples * sample_bytes // CHUNK_BYTES)
    chunks = min(samples, -(-chunks // threads) * threads)
    chunk = -(-samples // chunks)
    return chunk, -(-samples // chunk)


def conv2d(
    x: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None
) -> np.ndarray:
    """x (N, H, W, C), w (OC, KH, KW, C) -> y (N, OH, OW, OC)."""
    y = empty((x.shape[0], vertical.out, horizontal.out, w.shape[0]))
    gather_into(y, x, w, vertical, horizontal, False, tile)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    residual: np.ndarray | None = None, out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, OC), w (OC, KH, KW, C) -> dx (N, H, W, C). Plus `residual`, which may
    be `out`."""
    shape = dy.shape[0], vertical.size, horizontal.size, w.shape[3]
    dx = empty(shape) if out is None else out
    gather_into(dx, dy, w, vertical, horizontal, True, tile, residual)
    return dx
