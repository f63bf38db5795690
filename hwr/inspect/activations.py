"""What every layer makes of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinynn as tn
from hwr.summary import recording
from tinynn.nn import Module

GAP = 1  # pixels between the maps of a sheet
LEAST = 4  # pixels: smaller maps are magnified to this height


@dataclass(frozen=True, eq=False)
class Activation:
    """The output of one layer for one image.

    `kind` is the layer's, with what the same kernel did after it ("BatchNorm2d + ReLU"). `values`
    (H, W, C) of maps, (T, C) of a sequence, (C,) of a vector.
    """

    name: str
    kind: str
    values: NDArray[np.float32]

    def figures(self) -> dict[str, Any]:
        """The numbers of it."""
        a = self.values
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(a.shape),
            "lowest": float(a.min()),
            "highest": float(a.max()),
            "mean": float(a.mean()),
            "sd": float(a.std()),
            "zeros": float((a == 0).mean()),
        }


def activations(model: Module, image: NDArray[np.float32]) -> tuple[list[Activation], tn.Tensor]:
    """The layers' outputs for an image (1, H, W, C), the image first; and the logits.

    In evaluation mode: each batch norm uses its running statistics.
    """
    found = [Activation("image", "input", image[0])]

    def note(name: str, module: Module, x: Any, y: Any) -> None:
        values = y.numpy()
        if values.shape[0] == 1:  # a recurrent layer may count steps first
            found.append(Activation(name, kind_of(module, y), values[0]))

    model.eval()
    with recording(model, note):
        logits = model(tn.Tensor(image))
    return found, logits


def kind_of(module: Module, y: tn.Tensor) -> str:
    """The layer's class, and what is fused into it."""
    parts = [type(module).__name__]
    if isinstance(module, tn.nn.BatchNorm1d | tn.nn.BatchNorm2d) and y.node is not None:
        *_, residual = y.node.edges  # input, weight, bias, residual
        parts += ["shortcut"] * (residual is not None) + ["ReLU"] * y.node.relu  # type: ignore[attr-defined]
    return " + ".join(parts)


def maps_of(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, H, W): the pictures to draw of an activation. A vector's elements are pixels."""
    if values.ndim == 3:
        return values.transpose(2, 0, 1)
    return values[None] if values.ndim == 2 else values[:, None, None]


def sheet(maps: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """(C, H, W) -> (H', W'): the maps in rows of equal length, with nan between them.

    W' is at most `width`, unless one map is wider. Small maps are magnified to `LEAST` pixels.
    """
    zoom = -(-LEAST // maps.shape[1])
    maps = maps.repeat(zoom, 1).repeat(zoom, 2)
    c, h, w = maps.shape
    rows = -(-c // max(1, (width + GAP) // (w + GAP)))
    across = -(-c // rows)
    out = np.full((rows * (h + GAP) - GAP, across * (w + GAP) - GAP), np.nan, np.float32)
    for i, each in enumerate(maps):
        top, left = i // across * (h + GAP), i % across * (w + GAP)
        out[top : top + h, left : left + w] = each
    return out
