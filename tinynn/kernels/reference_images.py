"""Batches out of a dataset of images that lies in memory as it is: chosen, warped, normalised.

Training on a GPU makes its batches so; on the CPU the data loader has quicker ways.
"""

from __future__ import annotations

import numpy as np

from tinynn.kernels.reference import Array, kernel, namespace


@kernel
def gather_images(
    images: Array, chosen: Array, maps: Array | None, moved: Array | None, levels: Array
) -> Array:
    """y[n] = levels[image chosen[n], warped].

    uint8 images (D, H, W, C), int64 chosen (N,), levels (256,): what the grey levels stand for
    -> y (N, H, W, C).

    `maps` (N, 2, 3) says from which point each pixel comes: output (y, x, 1), in pixels from the
    middle, to input (y, x); `moved` (N, 2, H, W) how many pixels further. A point's grey level is
    bilinear between the four pixels around it, black outside, and rounded.
    """
    grey = images[chosen]
    return levels[grey if maps is None else warped(grey, maps, moved)]


def warped(images: Array, maps: Array, moved: Array | None) -> Array:
    """uint8 (N, H, W, C) -> the same, each pixel from where `gather_images` says."""
    xp = namespace(images)
    n, h, w, _ = images.shape
    y, x = xp.arange(h) - (h - 1) / 2, xp.arange(w) - (w - 1) / 2
    # (N, 2, H, W): a map is a row times (y, x, 1)
    points = maps[..., :1, None] * y[:, None] + maps[..., 1:2, None] * x + maps[..., 2:, None]
    if moved is not None:
        points = points + moved
    # A border of 1 pixel is black, and points further out see as little as those on it.
    padded = xp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float32)
    y = xp.clip(points[:, 0] + (h + 1) / 2, 0, h + 1)
    x = xp.clip(points[:, 1] + (w + 1) / 2, 0, w + 1)
    top, left = xp.minimum(y.astype(int), h), xp.minimum(x.astype(int), w)
    down, right = (y - top)[..., None], (x - left)[..., None]
    image = xp.arange(n)[:, None, None]
    upper = (1 - right) * padded[image, top, left] + right * padded[image, top, left + 1]
    lower = (1 - right) * padded[image, top + 1, left] + right * padded[image, top + 1, left + 1]
    return ((1 - down) * upper + down * lower + 0.5).astype(np.uint8)
