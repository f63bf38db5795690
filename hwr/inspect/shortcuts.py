"""What goes through a residual block: x, F(x), and the two parts of the gradient.

y = x + F(x), so dL/dx = dL/dy (1 + dF/dx): what comes back through the shortcut is the "1", what
comes back through the branch is dF/dx. Each is measured, by giving shortcut and branch an input of
their own. Source: Chi, Li and Huang, eq. 1, after He et al. 2016 (Identity Mappings), eq. 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynn import functional as F
from tinynn import nn
from tinynn.backend import current_backend
from tinynn.nn import Module
from tinynn.tensor import Tensor

Block = nn.ResidualBlock | nn.MBConv


@dataclass(frozen=True, eq=False)
class Passage:
    """What passed through a block. `to_branch` and `to_shortcut` are x, each with the gradient
    that came back its own way."""

    block: Block
    x: Tensor
    to_branch: Tensor
    to_shortcut: Tensor | None  # None in a plain block
    branch: Tensor  # F(x)
    y: Tensor


@contextmanager
def opened(model: Module) -> Iterator[dict[str, Passage]]:
    """Within the block, every residual block of the model computes its two ways apart.

    Yields the last passage through each by its name, in the order in which they are reached.
    """
    passages: dict[str, Passage] = {}
    blocks = [(name, m) for name, m in model.named_modules() if isinstance(m, Block)]

    def open_block(name: str, block: Block) -> None:
        def forward(x: Tensor) -> Tensor:
            to_branch, to_shortcut = (copy_of(x) for _ in range(2))
            y = branch = block.branch(to_branch)
            carried = block.carried(to_shortcut)
            if carried is not None:
                y = y + carried
            if isinstance(block, nn.ResidualBlock):  # an MBConv's sum is linear
                y = F.relu(y)
            ways = to_branch, to_shortcut if carried is not None else None
            passages[name] = Passage(block, x.retain_grad(), *ways, branch, y.retain_grad())
            return y

        vars(block)["forward"] = forward  # found before the class's own

    for each in blocks:
        open_block(*each)
    try:
        yield passages
    finally:
        for _, block in blocks:
            del vars(block)["forward"]


def copy_of(x: Tensor) -> Tensor:
    """x as a tensor of its own in the graph, which keeps the gradient that comes back to it."""
    return F.reshape(x, x.shape).retain_grad()


@dataclass(frozen=True)
class Shortcut:
    """One block's figures; norms are over all elements.

    `gradient` = ||dL/dx||, of which `through_shortcut` and `through_branch` are the parts' norms,
    and `cosine` says how far these point the same way. `way` is "identity", "projection" (a 1x1
    convolution, so that the part is no longer dL/dy itself) or "none".
    """

    name: str
    kind: str
    way: str
    x: float
    branch: float
    gradient: float
    through_shortcut: float
    through_branch: float
    cosine: float | None

    @property
    def share(self) -> float | None:
        """The shortcut's part of the gradient: its norm over the sum of both parts' norms."""
        total = self.through_shortcut + self.through_branch
        return self.through_shortcut / total if total else None


def measure(name: str, passage: Passage) -> Shortcut:
    """The figures of a passage after `backward`."""
    block, way, cosine = passage.block, "none", None
    through_branch, through_shortcut = norm(passage.to_branch.grad), 0.0
    if passage.to_shortcut is not None:
        projection = getattr(block, "downsample", None) is not None
        way = "projection" if projection else "identity"
        through_shortcut = norm(passage.to_shortcut.grad)
        if through_shortcut * through_branch:
            parts = (host(t.grad).ravel() for t in (passage.to_branch, passage.to_shortcut))
            a, b = (part / np.linalg.norm(part) for part in parts)
            cosine = float(a @ b)
    return Shortcut(
        name,
        type(block).__name__,
        way,
        norm(passage.x.data),
        norm(passage.branch.data),
        norm(passage.x.grad),
        through_shortcut,
        through_branch,
        cosine,
    )


def host(array: Any) -> np.ndarray:
    """An array as float64 of NumPy, fetched from the device if it is on one."""
    return current_backend().to_numpy(array).astype(np.float64)


def norm(array: Any) -> float:
    """The square root of the sum of all elements' squares; 0 for a gradient that never came."""
    return 0.0 if array is None else float(np.linalg.norm(host(array)))
