"""Warping a batch of images in one sampling: the truth in array code.

`cpu_warp.warp` is the compiled drop-in that training uses.
"""

import numpy as np
from numpy.typing import NDArray

Field = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def warp(
    images: NDArray[np.uint8], maps: NDArray[np.float32], field: Field | None = None
) -> NDArray[np.uint8]:
    """Each output pixel, from the input point its image's map sends it to.

    ``images`` uint8 ``(N, H, W, C)``; ``maps`` ``(N, 2, 3)``: output ``(y, x, 1)``, in pixels from
    the middle of the image, to input ``(y, x)``. ``field`` = ``(noise (N, 2, h, w), rows (H, h),
    columns (W, w))`` moves the input points further by ``rows noise[n] columns^T`` pixels.

    Bilinear between the four pixels around the point; black outside the image; rounded to the
    nearest grey level.
    """
    from tinynn.kernels.reference_images import warped  # not before: reading data needs no engine

    return warped(images, maps, None if field is None else displacement(field))


def displacement(field: Field) -> NDArray[np.floating]:
    """How far a field moves each point: (N, 2, H, W) pixels down and right."""
    noise, rows, columns = field
    return rows @ noise @ columns.T
