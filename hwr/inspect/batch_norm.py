"""A batch's own statistics beside the running ones of each batch norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.inspect.shortcuts import host
from tinynn import nn


@dataclass(frozen=True, eq=False)
class Statistics:
    """One batch norm: what a batch's statistics are in units of the running ones, by channel.

    `shift` = (batch mean - running mean) / running standard deviation; `ratio` = batch variance /
    running variance, both with the unbiased variance. `count` values stand behind each.
    """

    name: str
    count: int
    shift: NDArray[np.float64]  # (C,)
    ratio: NDArray[np.float64]  # (C,)

    def figures(self) -> dict[str, Any]:
        """The numbers of it."""
        return {
            "name": self.name,
            "channels": len(self.shift),
            "values_a_channel": self.count,
            "median_shift": float(np.median(np.abs(self.shift))),
            "largest_shift": float(np.abs(self.shift).max()),
            "median_ratio": float(np.median(self.ratio)),
            "lowest_ratio": float(self.ratio.min()),
            "highest_ratio": float(self.ratio.max()),
        }


def statistics(name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Any) -> Statistics:
    """Of a batch x (N, ..., C), before the running statistics take it in."""
    values = host(x.data).reshape(-1, x.shape[-1])
    mean, var = host(module.running_mean.data), host(module.running_var.data)  # type: ignore[union-attr]
    least = module.eps  # what the layer itself adds before it divides
    shift = (values.mean(0) - mean) / np.sqrt(var + least)
    ratio = (values.var(0, ddof=1) + least) / (var + least)
    return Statistics(name, len(values), shift, ratio)
