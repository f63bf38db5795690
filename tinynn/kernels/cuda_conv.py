"""CUDA drop-ins for convolutions and matrix products, on the tensor cores. See cuda/conv.cu.

Taps that only ever see padding are left out: of a 3 x 3 filter over a 1 x 1 image one is left.
Convolutions in groups have kernels of their own.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinynn.kernels import cuda_grouped_conv as grouped
from tinynn.kernels import reference
from tinynn.kernels.cuda_launch import MOST, TooLarge, drop_in, int32, kernel, per_element, result
from tinynn.kernels.geometry import Padding, Pair, conv_output_size, live_taps, tap_visits
from tinynn.kernels.precision import PRECISIONS, get_float32_matmul_precision
from tinynn.kernels.reference import Array, namespace

FILE = "conv"
FLOAT32, TF32, BF16 = PRECISIONS.values()  # as in product.cuh, like the next two
DEPTH, THREADS = 32, 128
POINTWISE = (1, 1), ((0, 0), (0, 0)), (1, 1), 1
MOST_TAPS = 900  # that see the image; a block lists them, in shared memory of 99 KB or more
MOST_COLUMNS = 65535  # of blocks
SPARSE = 0.75  # of all pairs of a pixel and a tap: if fewer see the image, blocks leave taps out

# Of an H100 or H200: multiprocessors, and shared memory of one (a block takes 1 KB besides its own)
MULTIPROCESSORS, SHARED, RESERVED = 132, 228 << 10, 1 << 10


class Tile(NamedTuple):
    """What a block multiplies, the tiles it holds of either operand, how many blocks are to run on
    a multiprocessor at once, and how precisely: what product.cuh is compiled for."""

    rows: int
    columns: int
    stages: int
    blocks: int
    precision: int

    def shared(self, taps: int) -> int:
        """A block's shared memory in bytes, as conv.cu divides it."""
        element = 2 if self.precision == BF16 else 4
        tiles = element * self.stages * DEPTH * (self.rows + self.columns)
        return tiles + (16 + 4) * self.rows + (32 + 4) * taps


TILES = {
    FLOAT32: [Tile(64, 64, 4, 3, FLOAT32)],  # its two parts leave no registers for a larger one
    TF32: [Tile(128, 128, 2, 2, TF32), Tile(128, 64, 2, 3, TF32), Tile(64, 64, 4, 3, TF32)],
    BF16: [Tile(128, 128, 2, 2, BF16), Tile(128, 64, 2, 3, BF16), Tile(64, 64, 2, 4, BF16)],
}


class Plan(NamedTuple):
    """How a product is computed."""

    tile: Tile
    splits: int  # of the depth


@drop_in(reference.conv2d)
def conv2d(
    x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    """Drop-in for reference.conv2d."""
    if groups != 1:
        return grouped.conv2d(x, w, stride, padding, dilation, groups)
    geometry, taps, visits = _geometry(x.shape, w.shape, stride, padding, dilation)
    (n, _, _, c), oc, (oh, ow) = x.shape, w.shape[0], geometry[3:5]
    if taps > MOST_TAPS:
        return reference.conv2d(x, w, stride, padding, dilation, groups)
    y = result(x, (n, oh, ow, oc))
    seen = _seen(visits, oh * ow * taps)
    _multiply("conv2d", (x, w, y), taps * c, seen, geometry, by_four=c % 4 == 0)
    return y


@drop_in(reference.conv2d_input_grad)
def conv2d_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    residual: Array | None = None,
    in_place: bool = False,
) -> Array:
    """Drop-in for reference.conv2d_input_grad."""
    given = dy, w, x_shape, stride, padding, dilation, groups, residual
    if groups != 1:
        return grouped.conv2d_input_grad(*given)
    geometry, taps, visits = _geometry(x_shape, w.shape, stride, padding, dilation)
    if taps > MOST_TAPS:
        return reference.conv2d_input_grad(*given)
    (_, h, wide, c), oc = x_shape, w.shape[0]
    dx, name = result(dy, x_shape), "conv2d_input_grad"
    by_four, seen = c % 4 == 0 and oc % 4 == 0, _seen(visits, h * wide * taps)
    more = (dx, False) if residual is None else (residual, True)
    _multiply(name, (dy, w, dx), taps * oc, seen, geometry, more, by_four=by_four)
    return dx


@drop_in(reference.conv2d_weight_grad)
def conv2d_weight_grad(
    dy: Array,
    x: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    out: Array | None = None,
) -> Array:
    """Drop-in for reference.conv2d_weight_grad: blocks share the pixels, their sums are added in
    order."""
    if groups != 1:
        return grouped.conv2d_weight_grad(dy, x, w_shape, stride, padding, dilation, groups, out)
    xp, c, oc = namespace(dy), x.shape[3], w_shape[0]
    geometry, taps, _ = _geometry(x.shape, w_shape, stride, padding, dilation)
    rows, pixels = taps * c, dy.size // oc
    dw = result(dy, w_shape) if out is None else out
    precision, vector = _variant(dy, x, by_four=c % 4 == 0 and oc % 4 == 0)
    plan = choose_plan(rows, oc, pixels, precision)
    whole = plan.splits == 1 and rows * oc == dw.size  # every tap is live: there is but one share
    partial = dw if whole else xp.empty((plan.splits, oc, rows), dy.dtype)
    options, sizes = definitions(plan.tile, vector), (rows, oc)
    if rows:
        _launch("conv2d_weight_grad", options, plan, sizes, 0, dy, x, partial, len(x), *geometry)
    if not whole:
        per_element(
            FILE, "sum_weight_shares", dw.size, partial, dw,
            *map(int32, (dw.size, plan.splits, *geometry)), options=options,
        )  # fmt: skip
    return dw


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Drop-in for reference.matmul: what a linear layer and its gradients ask for is a convolution
    of 1 x 1 images and one of its gradients. cuBLAS, which multiplies the rest, cannot be recorded.
    """
    arrays = (a, b) if out is None else (a, b, out)
    fits = all(m.ndim == 2 and m.dtype == np.float32 and 0 < m.size < MOST for m in arrays)
    if not fits or a.shape[0] * b.shape[1] >= MOST:
        return reference.matmul(a, b, out)
    if a.flags.c_contiguous and b.T.flags.c_contiguous:
        y = conv2d(_pixels(a), _pixels(b.T), *POINTWISE)
    elif a.flags.c_contiguous and b.flags.c_contiguous:
        shape = len(a), 1, 1, b.shape[1]
        y = conv2d_input_grad(_pixels(a), _pixels(b), shape, *POINTWISE)
    elif a.T.flags.c_contiguous and b.flags.c_contiguous:
        shape = a.shape[0], 1, 1, b.shape[1]
        if out is not None and out.flags.c_contiguous:
            conv2d_weight_grad(_pixels(a.T), _pixels(b), shape, *POINTWISE, out.reshape(shape))
            return out
        y = conv2d_weight_grad(_pixels(a.T), _pixels(b), shape, *POINTWISE)
    else:
        return reference.matmul(a, b, out)
    y = y.reshape(a.shape[0], b.shape[1])
    if out is None:
        return y
    out[...] = y
    return out


def linear(x: Array, w: Array, bias: Array | None, relu: bool) -> Array:
    """Drop-in for reference.linear."""
    y = matmul(x, w.T)
    if bias is not None:
        y += bias
    return namespace(y).maximum(y, 0, out=y) if relu else y


def _pixels(matrix: Array) -> Array:
    """(M, C) -> (M, 1, 1, C): images of one pixel, or filters of one tap."""
    return matrix.reshape(len(matrix), 1, 1, -1)


@lru_cache(1024)
def _geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> tuple[tuple[int, ...], int, int]:
    """-> the numbers of GEOMETRY in conv.cu, in its order; live taps; how many pairs of an output
    pixel and a tap see the image."""
    sides = list(zip(x_shape[1:3], w_shape[1:3], stride, padding, dilation))
    live = [live_taps(*side) for side in sides]
    taps = [(seen[0], seen[-1] - seen[0] + 1) if seen else (0, 0) for seen in live]
    numbers = (
        *x_shape[1:4], *(conv_output_size(*side) for side in sides), w_shape[0], *w_shape[1:3],
        *stride, padding[0][0], padding[1][0], *dilation, *taps[0], *taps[1],
    )  # fmt: skip
    visits = [tap_visits(*side) for side in sides]
    return numbers, taps[0][1] * taps[1][1], visits[0] * visits[1]


def _seen(visits: int, pairs: int) -> float:
    """The share of taps that blocks multiply: those that their pixels see if many see none, or
    all."""
    return visits / pairs if visits < SPARSE * pairs else 1.0


@lru_cache(1024)
def choose_plan(rows: int, columns: int, depth: float, precision: int) -> Plan:
    """What is estimated to take least time: large tiles are read less often, and small ones or a
    split depth keep all multiprocessors busy. Split sums are added in order afterwards.

    Unit: one of a multiprocessor's products, of which it makes about 640 while shared memory moves
    32 numbers, in once and out twice, and while it gets 7 from global memory. In bf16 it makes 1280
    and moves 64, but the 32-bit numbers that become them pass through its registers first. A block
    begins and ends in the time of 4 steps, and one that has a multiprocessor for itself takes as
    long as two. To add takes another launch and, for each share, a wait. All by the hardware's
    numbers, not measured.
    """
    steps = -(-int(depth) // DEPTH)
    pace, moves = (2, 104) if precision == BF16 else (1, 64)

    def time(plan: Plan) -> float:
        tile, splits = plan
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * splits
        step = DEPTH * (tile.rows * tile.columns + moves * (tile.rows + tile.columns))
        in_turn, last = divmod(-(-blocks // MULTIPROCESSORS), tile.blocks)
        in_turn = in_turn * tile.blocks + (max(2, last) if last else 0)
        product = in_turn * (-(-steps // splits) + 4 * pace) * step
        adding = 1.7e6 + splits * (3e4 + 91 * rows * columns / MULTIPROCESSORS)
        return product + (adding * pace if splits > 1 else 0)

    plans = []
    for tile in TILES[precision]:
        tiles = max(1, -(-rows // tile.rows) * -(-columns // tile.columns))
        most = min(steps, 2 * tile.blocks * MULTIPROCESSORS // tiles)
        plans += [Plan(tile, splits) for splits in range(1, max(1, most) + 1)]
    return min(plans, key=time)


def _multiply(
    name: str, arrays: tuple[Array, ...], depth: int, seen: float, geometry: tuple[int, ...],
    residual: tuple[Array, bool] | tuple[()] = (), *, by_four: bool,
) -> None:  # fmt: skip
    """The third array from the first two, its last axis the columns; the depth perhaps in parts.

    `residual`: for a kernel that takes it, an array and whether to add it.
    """
    a, b, to = arrays
    columns, images = to.shape[-1], len(to)
    sizes = to.size // columns, columns
    precision, vector = _variant(a, b, by_four=by_four)
    plan = choose_plan(*sizes, depth * seen, precision)
    options, sparse, split = definitions(plan.tile, vector), seen < 1, plan.splits > 1
    taps = geometry[-3] * geometry[-1]
    sums = namespace(to).empty((plan.splits, to.size), to.dtype) if split else to
    _launch(name, options, plan, sizes, taps, a, b, sums, *residual, images, sparse, *geometry)
    if split:
        more, added = residual or (to, False)
        numbers = map(int32, (added, to.size, plan.splits))
        per_element(FILE, "sum_shares", to.size, sums, to, more, *numbers, options=options)


def _variant(a: Array, b: Array, *, by_four: bool) -> tuple[int, int]:
    """-> how precisely these are multiplied, and how many numbers are copied at a time: four where
    their channels allow, and their addresses, for views into an optimiser's flat storage begin
    anywhere. What is copied one by one is no faster in bf16, and stays TF32."""
    precision = PRECISIONS[get_float32_matmul_precision()]
    if by_four and a.data.ptr % 16 == b.data.ptr % 16 == 0:
        return precision, 4
    return min(precision, TF32), 1


@cache
def definitions(tile: Tile, vector: int) -> tuple[str, ...]:
    """The compiler's options for a variant of conv.cu."""
    values = tile._asdict() | {"vector": vector}
    return tuple(f"-D{name.upper()}={value}" for name, value in values.items())


@cache
def _kernel(xp: Any, name: str, options: tuple[str, ...], tile: Tile, shared: int) -> Any:
    """A kernel that may have so much shared memory; the level-1 cache has the rest."""
    function = kernel(xp, FILE, name, options)
    allowed = max(shared, function.max_dynamic_shared_size_bytes)
    function.max_dynamic_shared_size_bytes = allowed
    percent = -(-100 * tile.blocks * (shared + RESERVED) // SHARED)
    function.preferred_shared_memory_carveout = min(100, percent)
    return function


def _launch(
    name: str, options: tuple[str, ...], plan: Plan, sizes: tuple[int, int], taps: int, *given: Any
) -> None:
    """Launch a product of (rows, columns) with arrays, the first of them first, and integers."""
    arguments, tile = [int32(x) if isinstance(x, int) else x for x in given], plan.tile
    grid = -(-sizes[0] // tile.rows), -(-sizes[1] // tile.columns), plan.splits
    if grid[1] > MOST_COLUMNS:
        raise TooLarge
    shared = tile.shared(taps)
    function = _kernel(namespace(given[0]), name, options, tile, shared)
    function(grid, (THREADS,), tuple(arguments), shared_mem=shared)
