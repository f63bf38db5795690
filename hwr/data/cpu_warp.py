"""Drop-in for `warp.warp`, compiled: several times as quick, and other threads run meanwhile.

It takes one image after the other, so that an image, its border and its field stay in the cache;
and of an image one row after the other, first where its points lie, then what they show.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hwr.data.warp import Field

EMPTY = np.zeros((0, 0), np.float32)


def warp(
    images: NDArray[np.uint8], maps: NDArray[np.float32], field: Field | None = None
) -> NDArray[np.uint8]:
    """As `warp.warp`, up to one grey level: it computes in float32."""
    warped = np.empty(images.shape, np.uint8)
    noise, rows, columns = field or (np.zeros((len(images), 2, 0, 0), np.float32), EMPTY, EMPTY)
    arrays = images, maps, noise, rows, columns.T  # contiguous, or numba would compile anew
    _warp(*map(np.ascontiguousarray, arrays), warped)
    return warped


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nnan"})
def _warp(images, maps, noise, rows, columns, warped):
    # All is float32 and indices are unsigned: numba makes float64 of a float32 and an int64, and
    # asks of every signed index whether it counts from the end.
    n, h, w, c = images.shape
    padded = np.zeros((h + 2, w + 2, c), np.float32)
    pixels, stride = padded.reshape(-1), np.uint32((w + 2) * c)
    at = np.empty(w, np.uint32)  # the upper left of the four pixels around a point
    down, right = np.empty(w, np.float32), np.empty(w, np.float32)
    half, moved = np.empty(2 * w, np.float32), np.zeros((h, 2 * w), np.float32)
    middle_y, middle_x = np.float32(0.5 * (h - 1)), np.float32(0.5 * (w - 1))
    last_y, last_x, one, zero = np.float32(h + 1), np.float32(w + 1), np.float32(1), np.float32(0)
    for i in range(n):
        padded[1:-1, 1:-1] = images[i]
        if noise.shape[2]:
            smooth(noise[i], rows, columns, half, moved)
        for y in range(h):
            from_y = maps[i, 0, 0] * (np.float32(y) - middle_y) + maps[i, 0, 2] + middle_y + one
            from_x = maps[i, 1, 0] * (np.float32(y) - middle_y) + maps[i, 1, 2] + middle_x + one
            step_y, step_x = maps[i, 0, 1], maps[i, 1, 1]
            for x in range(w):
                u = np.float32(np.int32(x)) - middle_x
                yy = min(max(from_y + step_y * u + moved[y, x], zero), last_y)
                xx = min(max(from_x + step_x * u + moved[y, w + x], zero), last_x)
                top, left = min(np.int32(yy), np.int32(h)), min(np.int32(xx), np.int32(w))
                down[x], right[x] = yy - np.float32(top), xx - np.float32(left)
                at[x] = np.uint32(top) * stride + np.uint32(left) * np.uint32(c)
            for channel in range(c):
                for x in range(w):
                    p = at[x] + np.uint32(channel)
                    q = p + stride
                    upper = pixels[p] + right[x] * (pixels[p + np.uint32(c)] - pixels[p])
                    lower = pixels[q] + right[x] * (pixels[q + np.uint32(c)] - pixels[q])
                    grey = upper + down[x] * (lower - upper) + np.float32(0.5)
                    warped[i, y, x, channel] = np.uint8(np.int32(grey))


@njit(cache=True, nogil=True, fastmath={"contract"})
def smooth(noise, rows, columns, half, moved):
    """moved = rows noise columns, for both directions side by side."""
    w = columns.shape[1]
    moved[:] = 0
    for k in range(noise.shape[1]):
        half[:] = 0
        for direction in range(2):
            for j in range(noise.shape[2]):
                weight = noise[direction, k, j]
                for x in range(w):
                    half[direction * w + x] += weight * columns[j, x]
        for y in range(moved.shape[0]):
            weight = rows[y, k]
            for x in range(2 * w):
                moved[y, x] += weight * half[x]
