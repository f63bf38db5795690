"""What the host does in a step that a GPU records once and replays. See `tinynn.capture`.

A recording holds the device's work alone. What the host does beside it (it counts a step, it draws
the number that a dropout mask begins with) would be done once, while the step is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Action = Callable[[], None]
_recorded: ContextVar[list[Action] | None] = ContextVar("tinynn_recorded_actions", default=None)


def on_host(action: Action) -> None:
    """Do something now; in a step that is recorded, before each of its replays instead."""
    actions = _recorded.get()
    if actions is None:
        action()
    else:
        actions.append(action)


@contextmanager
def recorded_actions() -> Iterator[list[Action]]:
    """Within the block `on_host` only collects, in the list that is given."""
    actions: list[Action] = []
    token = _recorded.set(actions)
    try:
        yield actions
    finally:
        _recorded.reset(token)
