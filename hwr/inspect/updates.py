"""How large the gradient of every layer is, and how far one step moves its weights."""

from __future__ import annotations

from dataclasses import dataclass

from hwr.inspect.shortcuts import host, norm
from tinynn.nn import Module
from tinynn.optim import Optimizer


@dataclass(frozen=True)
class Update:
    """One parameter: ||w||, ||dL/dw||, and ||w after one step - w||."""

    name: str
    shape: tuple[int, ...]
    weight: float
    gradient: float
    update: float

    @property
    def ratio(self) -> float | None:
        """The step over the weights: about 1e-3 where training goes well. None for zeros."""
        return self.update / self.weight if self.weight else None


def updates(model: Module, optimizer: Optimizer) -> list[Update]:
    """Take one step with the gradients that are there, and measure every parameter's."""
    before = {name: host(p.data) for name, p in model.named_parameters()}
    gradients = {name: norm(p.grad) for name, p in model.named_parameters()}
    optimizer.step()
    return [
        Update(
            name, p.shape, norm(before[name]), gradients[name], norm(host(p.data) - before[name])
        )
        for name, p in model.named_parameters()
    ]
