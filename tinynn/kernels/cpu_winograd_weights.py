"""The weight gradient of a 3x3 convolution by Winograd's F(2x2, 3x3).

The formula of `cpu_winograd` read backwards: dw = G' [sum V * (A dY A')] G, where V = B' d B is
what the forward pass makes of the input's patches, and the sum runs over all 2x2 blocks. Number by
number of the 4x4 that is a matrix product (OC x blocks) @ (blocks x C), made 4 numbers at a time.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import carray

from tinynn.kernels.cpu_direct_conv import QUICK_FILTERS, Axis, form, integers
from tinynn.kernels.cpu_llvm import Tile, load_int
from tinynn.kernels.cpu_microkernel import WIDTH, microkernel, multiply_rows
from tinynn.kernels.cpu_parallel import Job, job_type, kernel, scratch
from tinynn.kernels.cpu_winograd import Prepared, plan_blocks, transform, transforms
from tinynn.kernels.geometry import Pair
from tinynn.kernels.memory import empty
from tinynn.kernels.threads import get_num_threads

SUM_ROWS = 128  # blocks transformed at a time: they stay in the second-level cache

SUMS = job_type(
    "micro x x_sample x_channels dy dy_sample dy_channels"
    " rows chunk_rows blocks_per_sample patches blocks oc_groups"
    " panel_step x_number dy_number scratch scratch_size"
    " sums dw transform_input transform_output_grad transform_filters_grad"
    " left_rows sum_rows zero spare"
)


@kernel(SUMS)
def weight_sums(lo, hi, thread, job_pointer):
    """Task = (line of the 4x4 transform, group of output channels): 4 of the 16 products
    sums (16, OC, C) = dM' V, over chunks of rows (2x2 blocks of any samples)."""
    job = carray(job_pointer, 1)[0]
    width, c = load_int(job.micro, WIDTH), job.x_channels
    panels, oc_panels = c // width, job.dy_channels // width
    v = job.scratch + 4 * thread * job.scratch_size  # [4][panel][row][width]
    dm = v + 4 * 4 * job.x_number  # likewise
    for task in range(lo, hi):
        line, group = task // job.oc_groups, task % job.oc_groups
        first_oc = oc_panels * group // job.oc_groups * width
        ocs = oc_panels * (group + 1) // job.oc_groups * width - first_oc
        for first in range(0, job.rows, job.chunk_rows):
            rows = min(job.chunk_rows, job.rows - first)
            for r in range(rows):
                sample = (first + r) // job.blocks_per_sample
                block = (first + r) % job.blocks_per_sample
                transform(
                    load_int(job.transform_input, line),
                    job.x + 4 * sample * job.x_sample, job.patches + 8 * 16 * block,
                    v + 4 * r * width, job.x_number, panels, width, job.panel_step, job.spare, 0,
                )  # fmt: skip
                transform(
                    load_int(job.transform_output_grad, line),
                    job.dy + 4 * (sample * job.dy_sample + first_oc), job.blocks + 8 * 4 * block,
                    dm + 4 * r * width, job.dy_number,
                    ocs // width, width, job.panel_step, job.spare, 0,
                )  # fmt: skip
            for number in range(4):
                place = ((4 * line + number) * job.dy_channels + first_oc) * c
                for panel in range(panels):
                    sums = job.sums + 4 * (place + panel * width)
                    multiply_rows(
                        job.micro, dm + 4 * number * job.dy_number, job.left_rows, job.zero,
                        v + 4 * (number * job.x_number + panel * job.panel_step), job.zero,
                        1, rows, width, width,
                        sums, job.sum_rows, ocs, width, sums if first > 0 else 0, 0,
                    )  # fmt: skip


@kernel(SUMS)
def transform_sums(lo, hi, thread, job_pointer):
    """Task = output channel: sums (16, OC, C) -> dw (OC, 3, 3, C)."""
    job = carray(job_pointer, 1)[0]
    width, c = load_int(job.micro, WIDTH), job.x_channels
    for o in range(lo, hi):
        transform(
            job.transform_filters_grad, job.sums + 4 * o * c, job.dy_channels * c,
            job.dw + 4 * o * 9 * c, c, c // width, width, width, 0, 0,
        )  # fmt: skip


@lru_cache(maxsize=256)
def prepare(
    size: Pair, padding: Pair, out: Pair, samples: int, channels: Pair, tile: Tile | None,
    threads: int,
) -> Prepared:  # fmt: skip
    """`size` and `out`: of x and of dy; `padding`: top, left; `channels`: C, OC."""
    micro = microkernel(tile)
    address = transforms(micro.tile).get_function_address
    width, (c, oc) = micro.tile.width, channels
    plan = plan_blocks(size, padding, out, channels)
    rows = samples * plan.count
    chunk = -(-rows // -(-rows // SUM_ROWS))
    oc_groups = min(threads // math.gcd(threads, 4), oc // width)  # 4 lines x groups: even work
    panel_step = chunk * width + 16  # one cache line more, as in `prepare`
    x_number, dy_number = c // width * panel_step + 16, oc // width * panel_step + 16
    channel = np.arange(oc)
    by_line = [
        integers([address(f"{name}_row_{i}") for i in range(4)])
        for name in ("input", "output_grad")
    ]
    job = Job(
        SUMS, threads, micro=micro.table, x_sample=math.prod(size) * c, x_channels=c,
        dy_sample=math.prod(out) * oc, dy_channels=oc,
        rows=rows, chunk_rows=chunk, blocks_per_sample=plan.count,
        patches=plan.patches, blocks=plan.blocks, oc_groups=oc_groups,
        panel_step=panel_step, x_number=x_number, dy_number=dy_number,
        scratch_size=4 * (x_number + dy_number),
        transform_input=by_line[0], transform_output_grad=by_line[1],
        transform_filters_grad=address("filters_grad"),
        left_rows=channel // width * panel_step + channel % width, sum_rows=channel * c,
        zero=np.zeros(1, np.int64),
    )  # fmt: skip
    return Prepared(job, oc // width, 4 * oc_groups, 4 * (x_number + dy_number))


def conv2d_weight_grad(
    dy: np.ndarray, x: np.ndarray, vertical: Axis, horizontal: Axis, tile: Tile | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """dy (N, OH, OW, OC), x (N, H, W, C) -> dw (OC, 3, 3, C)."""
    threads, (c, oc) = get_num_threads(), (x.shape[3], dy.shape[3])
    padding = vertical.padding[0], horizontal.padding[0]
    size, target = form(vertical, horizontal, False)
    prepared = prepare(size, padding, target, x.shape[0], (c, oc), tile, threads)
    spare = scratch("zeros and waste", c + oc)
    spare[: c + oc] = 0
    dw = empty((oc, 3, 3, c)) if out is None else out
    prepared.job.run(
        weight_sums, prepared.tasks, False,
        transform_sums, oc, dw.size <= QUICK_FILTERS,
        x=x, dy=dy, dw=dw, spare=spare, sums=scratch("winograd sums", 16 * oc * c),
        scratch=scratch("winograd", threads * prepared.scratch_size),
    )  # fmt: skip
    return dw
