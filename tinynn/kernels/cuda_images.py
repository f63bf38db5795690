"""CUDA drop-in for batches out of a dataset on the device: one launch."""

from __future__ import annotations

import numpy as np

from tinynn.kernels import reference_images
from tinynn.kernels.cuda_launch import drop_in, int32, per_element, result
from tinynn.kernels.reference import Array


@drop_in(reference_images.gather_images)
def gather_images(
    images: Array, chosen: Array, maps: Array | None, moved: Array | None, levels: Array
) -> Array:
    """Drop-in for reference_images.gather_images, up to one grey level: it computes in float32."""
    if images.dtype != np.uint8:
        return reference_images.gather_images(images, chosen, maps, moved, levels)
    chosen = chosen.astype(np.int64, copy=False)
    _, h, w, c = images.shape
    y = result(levels, (len(chosen), h, w, c))
    sizes = map(int32, (y.size, h, w, c, maps is not None, moved is not None))
    per_element(
        "images", "gather_images", y.size, images, chosen, levels if maps is None else maps,
        levels if moved is None else moved, levels, y, *sizes,
    )  # fmt: skip
    return y
