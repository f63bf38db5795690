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
    n, h, w, _ = images.shape
    y, x = np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    grid = np.stack(np.broadcast_arrays(y[:, None], x, 1.0), 2)  # (H, W, 3)
    points = np.einsum("nij,yxj->niyx", maps, grid)
    if field is not None:
        noise, rows, columns = field
        points += rows @ noise @ columns.T
    # A border of 1 pixel is black, and points further out see as little as those on it.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float32)
    y = np.clip(points[:, 0] + (h + 1) / 2, 0, h + 1)
    x = np.clip(points[:, 1] + (w + 1) / 2, 0, w + 1)
    top, left = np.minimum(y.astype(int), h), np.minimum(x.astype(int), w)
    down, right = (y - top)[..., None], (x - left)[..., None]
    image = np.arange(n)[:, None, None]
    upper = (1 - right) * padded[image, top, left] + right * padded[image, top, left + 1]
    lower = (1 - right) * padded[image, top + 1, left] + right * padded[image, top + 1, left + 1]
    return ((1 - down) * upper + down * lower + 0.5).astype(np.uint8)
