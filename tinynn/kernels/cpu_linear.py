"""Drop-in linear layer for float32 on the CPU: y = x w' + b, and a ReLU, of a batch of samples.

As a product of x with w' it would have all of w copied, channel by channel, to multiply a hundred
samples with it. So the sides are swapped: the tiles take filters as they lie, and what is copied
is x. A task's sums, y', stay in the nearest cache until they are turned over into y:

      [ w w w w ]   [ x x ]       sums [ s s ]      [ s s s ] + bias, max 0
      [ w w w w ] X [ x x ]   =        [ s s ]  ->  [ s s s ]               = part of y
      [ w w w w ]   [ x x ]            [ s s ]
                    [ x x ]
                   a panel: `width` samples

Its gradient is two products of `cpu_matmul` and the sums of `cpu_bias`, looked up at once.
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

from tinynn.kernels import cpu_matmul, reference
from tinynn.kernels.cpu_activation import relu_grad
from tinynn.kernels.cpu_bias import add_bias, column_sum, relu_bias_grad
from tinynn.kernels.cpu_direct_conv import integers
from tinynn.kernels.cpu_formulas import Vector, where
from tinynn.kernels.cpu_llvm import (
    FLOAT,
    INT,
    INT32,
    Emitter,
    Tile,
    call_address,
    compile_functions,
    fitting_tile,
    load_float,
    load_int,
    store_float,
    store_int,
)
from tinynn.kernels.cpu_loops import as_float
from tinynn.kernels.cpu_microkernel import (
    LANES,
    WIDTH,
    microkernel,
    multiply_rows,
    pack_panel,
    transposed,
)
from tinynn.kernels.cpu_parallel import Job, flags, job_type, kernel, scratch
from tinynn.kernels.fallback import float32_only
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

Array = Any
MOST_FEATURES = 4096  # panels of more samples would not stay in the cache
GROUP = 48  # filters of a task: four tiles, whose sums leave the nearest cache to the panel
FULL = 0.9  # of the samples' panels, at least
FEW = 1 << 16  # numbers of a batch: copied in so short a time that it does not matter

# ---------------------------------------------------------------------------------------------
# The end of a task, for as many filters and samples as there are lanes
# ---------------------------------------------------------------------------------------------


def emit_finish(module: ir.Module, tile: Tile) -> None:
    """finish(sums, sums_step, y, y_step, bias, floor): y[i, o] = max(sums[o, i] + bias[o], floor);
    `floor` is the bits of a float. NaN stays."""
    emit = Emitter(module, "finish", 6, tile.lanes)
    build = emit.build
    sums, sums_step, y, y_step, bias, floor = emit.function.args
    read, write = emit.pointer(sums), emit.pointer(y)
    floor = Vector(emit, emit.spread(build.bitcast(build.trunc(floor, INT32), FLOAT)))
    shift = Vector(emit, emit.load_vector(emit.pointer(bias)))
    rows = [
        emit.load_vector(emit.at(read, build.mul(INT(o), sums_step))) for o in range(tile.lanes)
    ]
    for i, row in enumerate(transposed(emit, rows)):
        value = Vector(emit, row) + shift
        value = where(value < floor, floor, value)
        emit.store_vector(value.value, emit.at(write, build.mul(INT(i), y_step)))
    emit.finish()


@cache
def finish_function(tile: Tile) -> int:
    """Its address."""
    return compile_functions(emit_finish, tile).get_function_address("finish")


@intrinsic
def call_finish(typing_context, function, sums, sums_step, y, y_step, bias, floor):
    return types.void(*[types.int64] * 7), call_address


# ---------------------------------------------------------------------------------------------
# The kernels
# ---------------------------------------------------------------------------------------------

LINEAR = job_type(
    "micro finish w w_rows x y bias floor sums_rows no_offset samples features filters lot panels"
    " scratch scratch_of_thread"
)


@kernel(LINEAR)
def multiply(lo, hi, thread, job_pointer):
    """Task = (GROUP filters, panel of samples). Copies are the thread's own, as in `cpu_matmul`."""
    job = carray(job_pointer, 1)[0]
    width, lanes = load_int(job.micro, WIDTH), load_int(job.micro, LANES)
    sums = job.scratch + 4 * thread * job.scratch_of_thread
    panels_of_x = sums + 4 * GROUP * width
    floor, copied = as_float(job.floor), flags(job_pointer)
    for task in range(lo, hi):
        first, panel = task // job.panels * GROUP, task % job.panels
        filters = min(GROUP, job.filters - first)
        samples = min(width, job.samples - panel * width)
        x = panels_of_x + 4 * panel * width * job.features  # [feature][width]
        if load_int(copied, thread * job.panels + panel) == 0:
            read = job.x + 4 * panel * width * job.features
            pack_panel(job.micro, read, 1, job.features, job.features, samples, x)
            store_int(copied, thread * job.panels + panel, 1)
        for k in range(0, job.features, job.lot):
            multiply_rows(
                job.micro, job.w + 4 * k, job.w_rows + 8 * first, job.no_offset,
                x + 4 * k * width, job.no_offset, 1, min(job.lot, job.features - k), 1, width,
                sums, job.sums_rows, filters, width, sums if k > 0 else 0, 0,
            )  # fmt: skip
        for o in range(0, filters, lanes):
            bias = job.bias + 4 * (first + o)
            for i in range(0, samples, lanes):
                y = job.y + 4 * ((panel * width + i) * job.filters + first + o)
                s = sums + 4 * (o * width + i)
                if o + lanes <= filters and i + lanes <= samples:
                    call_finish(job.finish, s, width, y, job.filters, bias, job.floor)
                    continue
                for i_inside in range(min(lanes, samples - i)):
                    for o_inside in range(min(lanes, filters - o)):
                        value = load_float(s, o_inside * width + i_inside)
                        value += load_float(bias, o_inside)
                        value = floor if value < floor else value
                        store_float(y, i_inside * job.filters + o_inside, value)


@dataclass(frozen=True)
class Prepared:
    """All of a linear layer that depends on shapes only."""

    job: Job
    tasks: int
    scratch_size: int  # floats
    no_bias: np.ndarray


@lru_cache(maxsize=256)
def prepare(
    samples: int, features: int, filters: int, relu: bool, tile: Tile | None, threads: int
) -> Prepared:
    micro = microkernel(tile or fitting_tile(samples))
    width, panels = micro.tile.width, -(-samples // micro.tile.width)
    scratch_of_thread = (GROUP + panels * features) * width
    job = Job(
        LINEAR, threads, flags=threads * panels,
        micro=micro.table, finish=finish_function(micro.tile), floor=0.0 if relu else -math.inf,
        w_rows=np.arange(filters) * features, sums_rows=np.arange(GROUP) * width,
        no_offset=integers([0]), samples=samples, features=features, filters=filters,
        lot=min(features, cpu_matmul.LOT), panels=panels, scratch_of_thread=scratch_of_thread,
    )  # fmt: skip
    tasks = panels * -(-filters // GROUP)
    return Prepared(job, tasks, threads * scratch_of_thread, np.zeros(filters, np.float32))


def multiply_swapped(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, relu: bool, tile: Tile | None = None
) -> np.ndarray:
    """x (M, I), w (O, I), bias (O,) -> y (M, O)."""
    (samples, features), filters = x.shape, w.shape[0]
    prepared = prepare(samples, features, filters, relu, tile, get_num_threads())
    y = empty((samples, filters))
    prepared.job.run(
        multiply, prepared.tasks, False,
        x=x, w=w, y=y, bias=prepared.no_bias if bias is None else bias,
        scratch=scratch("linear", prepared.scratch_size),
    )  # fmt: skip
    return y


@float32_only(reference.linear)
def linear(x: Array, w: Array, bias: Array | None, relu: bool) -> Array:
    """Drop-in for reference.linear."""
    method, _ = choose(*x.shape, len(w))
    if method == "swapped":
        return multiply_swapped(x, w, bias, relu)
    y = cpu_matmul.matmul(x, w.T)
    if bias is not None:
        add_bias(y, bias)
    return np.maximum(y, 0, out=y) if relu else y


by_parts = reference.linear_grad_of(relu_grad, cpu_matmul.matmul, column_sum)


@float32_only(by_parts)
def linear_grad(
    dy: Array, x: Array | None, w: Array | None, y: Array | None, bias: bool,
    out_dw: Array | None = None, out_db: Array | None = None, in_place: bool = False,
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Drop-in for reference.linear_grad."""
    given = x if w is None else w
    products = None if given is None else prepare_grad(*dy.shape, given.shape[1], get_num_threads())
    if products is None:
        return by_parts(dy, x, w, y, bias, out_dw, out_db)
    dx = dw = db = None
    if y is not None and bias:
        dy, db = relu_bias_grad(dy, y, out_db, in_place)
    elif y is not None:
        dy = relu_grad(dy, y)
    elif bias:
        db = column_sum(dy, out_db)
    if w is not None:
        dx = empty((len(dy), w.shape[1]))
        cpu_matmul.multiply_prepared(products[0], dx, dy, w)
    if x is not None:
        dw = empty((dy.shape[1], x.shape[1])) if out_dw is None else out_dw
        cpu_matmul.multiply_prepared(products[1], dw, dy, x)
    return dx, dw, db


@lru_cache(maxsize=256)
def prepare_grad(
    samples: int, filters: int, features: int, threads: int
) -> tuple[cpu_matmul.Prepared, cpu_matmul.Prepared] | None:
    """dy w and dy' x, if both are computed by tiles."""
    if any(method != "tiles" for method, _ in choose_grad(samples, filters, features)):
        return None
    dy, dy_turned, b = (filters, 1), (1, filters), (features, 1)  # steps from row to row, ...
    dx = cpu_matmul.prepare(samples, filters, features, dy, b, None, threads)
    dw = cpu_matmul.prepare(filters, samples, features, dy_turned, b, None, threads)
    return dx, dw


@lru_cache(maxsize=256)
def choose_grad(
    samples: int, filters: int, features: int
) -> tuple[tuple[str, str], tuple[str, str]]:
    """How dy w and dy' x are computed: by "tiles", if there is enough to multiply for two products
    looked up at once, or as `cpu_matmul.choose` says; and why."""
    products = samples * filters * features
    if products > cpu_matmul.SMALL_TRANSPOSED and samples < cpu_matmul.LONG:
        return ("tiles", "rows as they lie"), ("tiles", "rows copied first")
    x = np.empty((samples, features), np.float32)
    w, dy = np.empty((filters, features), np.float32), np.empty((samples, filters), np.float32)
    return cpu_matmul.choose(dy, w), cpu_matmul.choose(dy.T, x)


@lru_cache(maxsize=256)
def choose(samples: int, features: int, filters: int) -> tuple[str, str]:
    """How x w' is computed: by "swapped" tiles, or as `cpu_matmul.choose` says; and why."""
    x, w = np.empty((samples, features), np.float32), np.empty((filters, features), np.float32)
    method, reason = cpu_matmul.choose(x, w.T)
    width = fitting_tile(samples).width
    full = samples >= FULL * width * -(-samples // width)
    if method != "BLAS" and full and features <= MOST_FEATURES:
        if samples * (features + filters) < features * filters:
            return "swapped", f"{samples} samples are copied sooner than {filters} filters"
        if samples * features <= FEW:
            return "swapped", f"{samples} samples are copied at once, and a bias costs nothing"
    return method, reason
