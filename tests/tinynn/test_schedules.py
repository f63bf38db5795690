"""Schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinynn import nn, optim


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(np.zeros(2, np.float32)) for _ in range(3)]


SCHEDULES: list[tuple[str, dict[str, Any], int]] = [  # name, options, steps to look at
    ("StepLR", {"step_size": 1}, 6),
    ("StepLR", {"step_size": 7, "gamma": 0.5}, 40),
    ("ExponentialLR", {"gamma": 0.97}, 60),
    ("ExponentialLR", {"gamma": 1.0}, 3),
    ("CosineAnnealingLR", {"T_max": 25}, 25),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}, 25),  # and up again
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 100}, 99),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 23, "pct_start": 0.1}, 22),
    ("OneCycleLR", {"max_lr": 2.0, "total_steps": 10, "pct_start": 0.95, "div_factor": 4}, 9),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 7, "pct_start": 0.0}, 6),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 8, "final_div_factor": 10}, 7),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, 20),
]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize(("name", "options", "steps"), SCHEDULES)
def test_schedules_are_pytorchs(name: str, options: dict[str, Any], steps: int) -> None:
    """Every rate of the whole range, in two groups."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = parameters(), [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    mine = optim.SGD([{"params": ours[:1]}, {"params": ours[1:], "lr": 0.3}], lr=0.1)
    yours = torch.optim.SGD([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.3}], lr=0.1)
    my_schedule = getattr(optim, name)(mine, **options)
    more = {"cycle_momentum": False} if name == "OneCycleLR" else {}
    your_schedule = getattr(torch.optim.lr_scheduler, name)(yours, **options, **more)
    for step in range(steps + 1):
        rates = [group.lr for group in mine.param_groups]
        expected = [group["lr"] for group in yours.param_groups]
        assert rates == pytest.approx(expected, rel=1e-9, abs=1e-15), f"after {step} steps"
        my_schedule.step()
        your_schedule.step()


def test_a_schedule_resumes_from_its_count() -> None:
    def make() -> tuple[Any, Any]:
        optimizer = optim.SGD(parameters(), lr=0.1)
        return optimizer, optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=20)

    first, schedule = make()
    for _ in range(7):
        schedule.step()
    second, resumed = make()
    resumed.load_state_dict(schedule.state_dict())
    assert second.param_groups[0].lr == first.param_groups[0].lr
    assert first.param_groups[0].lr != make()[0].param_groups[0].lr


def test_one_cycle_rises_peaks_and_ends_low() -> None:
    optimizer = optim.SGD(parameters(), lr=1.0)
    schedule = optim.OneCycleLR(optimizer, max_lr=0.5, total_steps=50)
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0].lr)
        schedule.step()
    assert rates[0] == pytest.approx(0.5 / 25)
    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.5 / 25 / 1e4)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    with pytest.raises(RuntimeError, match="step 51 of a cycle of 50"):
        schedule.step()


def test_constant_and_lambda_rates() -> None:
    optimizer = optim.SGD([{"params": parameters()}, {"params": parameters(), "lr": 0.2}], lr=0.1)
    schedule: optim.Schedule = optim.ConstantLR(optimizer)
    schedule.step()
    assert [g.lr for g in optimizer.param_groups] == [0.1, 0.2]
    schedule = optim.LambdaLR(optimizer, lambda t: 2.0**t)
    schedule.step()
    schedule.step()
    assert [g.lr for g in optimizer.param_groups] == pytest.approx([0.4, 0.8])


BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "a step size of 0": (
        "step_size",
        lambda: optim.StepLR(optim.SGD(parameters()), step_size=0),
    ),
    "a period of 0": (
        "T_max",
        lambda: optim.CosineAnnealingLR(optim.SGD(parameters()), 0),
    ),
    "no steps in a cycle": (
        "total_steps",
        lambda: optim.OneCycleLR(optim.SGD(parameters()), max_lr=1.0, total_steps=0),
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_with_their_names(what: str) -> None:
    words, call = BAD[what]
    with pytest.raises(ValueError, match=words):
        call()
