"""Random warps of the images in training, and fixed ones to look at an image more than once.

There is no reflection among them: a digit in a mirror is another sign. Every warp keeps left and
right, because its scale is positive and its shear below a right angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwr.data.warp import Field
from hwr.errors import UserError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Turns, shears, scales, shifts and bends every image by amounts of its own, in one sampling.

    Each amount is uniform between minus and plus the number here. An image is scaled first, then
    sheared, turned about its middle, and shifted; what comes in from outside is black.

    The elastic part moves each point by `elastic_alpha` times noise from -1 to 1, smoothed by a
    Gaussian of `elastic_sigma` pixels: about .16 alpha / sigma pixels in either direction.
    Source: Simard, Steinkraus and Platt 2003, section 2.

    Raises UserError for a number that is negative, not finite or too large.
    """

    rotation_deg: float = 0.0
    translation: float = 0.0  # share of the height, and of the width
    shear_deg: float = 0.0  # slant of an upright stroke
    scale: float = 0.0  # .1 is from 0.9 to 1.1, height and width apart
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0  # pixels

    def __post_init__(self) -> None:
        limits = {"shear_deg": 80.0, "scale": 0.9}
        for name, value in vars(self).items():
            limit = limits.get(name, math.inf)
            if not (math.isfinite(value) and 0 <= value <= limit):
                most = f"from 0 to {limit:g}" if limit < math.inf else "finite and not negative"
                raise UserError(f"augmentation: {name} is {value:g}, expected {most}")
        if self.elastic_sigma < 0.5:
            raise UserError(
                f"augmentation: elastic_sigma is {self.elastic_sigma:g}, expected 0.5 pixels or "
                "more; less smooths nothing"
            )

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """uint8 (N, H, W, C) -> the same, warped by what `rng` draws."""
        return sample(images, *self.draw(images.shape, rng))

    def draw(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Field | None]:
        """The maps and the field, for `warp.warp`, of images (N, H, W, C)."""
        n, h, w, _ = shape
        amount = rng.uniform(-1, 1, (6, n))
        maps = affine_maps(
            self.rotation_deg * amount[0],
            self.shear_deg * amount[1],
            1 + self.scale * amount[2:4],
            self.translation * amount[4:] * np.array([[h], [w]]),
        )
        return maps, self._field(n, h, w, rng) if self.elastic_alpha else None

    def _field(self, n: int, h: int, w: int, rng: np.random.Generator) -> Field:
        rows, columns = (gaussians(size, self.elastic_sigma) for size in (h, w))
        noise = rng.random((n, 2, rows.shape[1], columns.shape[1]), np.float32)
        return np.float32(self.elastic_alpha) * (2 * noise - 1), rows, columns

    def __str__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        if not self.elastic_alpha:
            del shown["elastic_sigma"]
        return ",".join(f"{name}={value:.15g}" for name, value in shown.items() if value) or "none"

    @staticmethod
    def parse(text: str) -> Augment | None:
        """None for "none", a preset by its name, and numbers of its own: "affine,scale=0.2".

        What `str` makes of an Augment, this reads. Raises UserError for anything else.
        """
        first, *rest = (part.strip() for part in text.split(","))
        if first == "none" and not rest:
            return None
        if "=" in first:
            preset, rest = Augment(), [first, *rest]
        elif first in PRESETS:
            preset = PRESETS[first]
        else:
            raise unknown_name("augmentation", first, ["none", *PRESETS])
        names = [f.name for f in fields(Augment)]
        changes = {}
        for part in rest:
            name, _, value = part.partition("=")
            if name not in names:
                raise unknown_name("amount of augmentation", name, names)
            try:
                changes[name] = float(value)
            except ValueError:
                raise UserError(f"augmentation: {part!r} is not {name}=NUMBER") from None
        return replace(preset, **changes)


PRESETS = {  # none of the papers says how far; these are the ranges in common use for digits
    "shift": Augment(translation=0.07),  # 2 pixels of 28
    "affine": Augment(rotation_deg=10, translation=0.1, shear_deg=7.5, scale=0.1),
    "line": Augment(rotation_deg=1.5, translation=0.04, shear_deg=10, scale=0.1),  # of writing
    "elastic": Augment(
        rotation_deg=10, translation=0.07, scale=0.1, elastic_alpha=36, elastic_sigma=5
    ),
}


@dataclass(frozen=True, kw_only=True)
class View:
    """One fixed warp, the same for every image; angles in degrees, shifts in pixels."""

    rotation_deg: float = 0.0  # counter-clockwise
    down: float = 0.0
    right: float = 0.0

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """uint8 (N, H, W, C) -> the same, warped; `rng` is not used."""
        n = len(images)
        shift = np.broadcast_to([[self.down], [self.right]], (2, n))
        one = np.ones(n)
        return sample(images, affine_maps(self.rotation_deg * one, 0 * one, [one, one], shift))


VIEWS = {  # for test-time augmentation
    "shifts": (View(), View(down=1), View(down=-1), View(right=1), View(right=-1)),
    "rotations": (View(), View(rotation_deg=7.5), View(rotation_deg=-7.5)),
}
VIEWS["shifts+rotations"] = VIEWS["shifts"] + VIEWS["rotations"][1:]


def affine_maps(
    rotation_deg: NDArray[np.float64],
    shear_deg: NDArray[np.float64],
    scale: ArrayLike,
    shift: ArrayLike,
) -> NDArray[np.float32]:
    """The maps for `sample` that scale, shear, turn and then shift; float32 (N, 2, 3).

    `rotation_deg` (N,) counter-clockwise; `shear_deg` (N,) leans to the right; `scale` (2, N) of
    height and width; `shift` (2, N) in pixels down and right.
    """
    angle, slant = np.radians(rotation_deg), np.tan(np.radians(shear_deg))
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    high, wide = np.asarray(scale)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[one, zero], [-slant, one]])
    size = np.array([[high, zero], [zero, wide]])
    forward = np.einsum("ijn,jkn,kln->nil", turn, lean, size)  # (y, x) of an image to the output's
    back = np.linalg.inv(forward)
    return np.concatenate([back, -back @ np.asarray(shift).T[:, :, None]], 2).astype(np.float32)


@lru_cache(maxsize=16)
def gaussians(size: int, sigma: float) -> NDArray[np.float32]:
    """(size, nodes): the share that each pixel has in noise at points sigma apart.

    Noise at every pixel, smoothed, is a sum of Gaussians about all pixels; about points sigma
    apart, sqrt(sigma) times as strong, the sum is as large and as smooth, and has fewer terms.
    """
    nodes = sigma * np.arange(-3, (size - 1) // sigma + 4)
    z = (np.arange(size)[:, None] - nodes) / sigma
    return (np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi * sigma)).astype(np.float32)


def sample(
    images: NDArray[np.uint8], maps: NDArray[np.float32], field: Field | None = None
) -> NDArray[np.uint8]:
    """`warp.warp`, compiled. Raises UserError for other arrays of images."""
    from hwr.data import cpu_warp  # imports numba: only when first used

    if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(
            f"augmentation: images are {images.dtype} {images.shape}, expected uint8 (N, H, W, C)"
        )
    return cpu_warp.warp(images, maps, field)
