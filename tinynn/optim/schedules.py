"""Learning-rate schedules. Call `step()` after each update (or epoch); PyTorch's names and values.

A schedule is a formula: `rates(t)` gives each group's rate after t calls, so a resumed run needs
only the count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tinynn.optim.optimizer import Optimizer


class Schedule:
    """Base class. Subclasses give `factor(t)`, applied to every group's initial rate."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.base_lrs = [group.lr for group in optimizer.param_groups]
        self.last_step = 0
        self.apply()

    def factor(self, t: int) -> float:
        """The rate after t calls of `step`, over the initial rate."""
        raise NotImplementedError

    def rates(self, t: int) -> list[float]:
        """Each group's rate after t calls of `step`."""
        return [base * self.factor(t) for base in self.base_lrs]

    def apply(self) -> None:
        """Set every group's rate for the present step."""
        for group, rate in zip(self.optimizer.param_groups, self.rates(self.last_step)):
            group.lr = rate

    def step(self) -> None:
        """Go on by one."""
        self.last_step += 1
        self.apply()

    def state_dict(self) -> dict[str, int]:
        """The number of steps taken."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after that many steps."""
        self.last_step = int(state["last_step"])
        self.apply()


class ConstantLR(Schedule):
    """The initial rate throughout."""

    def factor(self, t: int) -> float:
        return 1.0


class LambdaLR(Schedule):
    """factor(t) = lr_lambda(t), any function of the step."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.lr_lambda(t)


class StepLR(Schedule):
    """gamma^floor(t / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, not {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class ExponentialLR(Schedule):
    """gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.gamma**t


class CosineAnnealingLR(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2. Source: Loshchilov, Hutter 2017."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):  # noqa: N803
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, not {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rates(self, t: int) -> list[float]:
        share = (1 + math.cos(math.pi * t / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to max_lr, then down to the start / final_div_factor.

    The rise takes `pct_start` of `total_steps`; both legs are half cosines. Only the rate is
    cycled (PyTorch's cycle_momentum=False). RuntimeError beyond the last step.
    Source: Smith and Topin 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(
                f"OneCycleLR: needs total_steps >= 1 and 0 <= pct_start <= 1, not {total_steps} "
                f"and {pct_start}"
            )
        self.max_lr, self.total_steps, self.pct_start = max_lr, total_steps, pct_start
        self.initial = max_lr / div_factor
        self.final = self.initial / final_div_factor
        super().__init__(optimizer)

    def rates(self, t: int) -> list[float]:
        if t > self.total_steps:
            raise RuntimeError(f"OneCycleLR: step {t} of a cycle of {self.total_steps} steps")
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if t <= peak:
            rate = _half_cosine(self.initial, self.max_lr, t / peak if peak else 1.0)
        else:
            rate = _half_cosine(
                self.max_lr,
                self.final,
                min((t - peak) / (last - peak), 1.0) if last > peak else 1.0,
            )
        return [rate] * len(self.base_lrs)


def _half_cosine(start: float, end: float, progress: float) -> float:
    """From start to end along half a cosine, progress from 0 to 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
