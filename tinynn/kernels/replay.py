"""What the host does in a step that a GPU records once and replays. See `tinynn.capture`.

A recording holds the device's work alone. What the host does beside it (it counts a step, it draws
the number that a dropout mask begins with) would be done once, while the step is recorded. And it
holds addresses: arrays there from before must live as long as it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

Action = Callable[[], None]


@dataclass
class Notes:
    """What belongs to a recording besides its graph."""

    actions: list[Action] = field(default_factory=list)  # of the host, before each replay
    arrays: list[Any] = field(default_factory=list)  # that might otherwise die before it


_notes: ContextVar[Notes | None] = ContextVar("tinynn_notes", default=None)


def on_host(action: Action) -> None:
    """Do something now; in a step that is recorded, before each of its replays instead."""
    notes = _notes.get()
    if notes is None:
        action()
    else:
        notes.actions.append(action)


def keep_alive(*arrays: Any) -> None:
    """In a step that is recorded: let arrays that their owner may replace live as long as it."""
    notes = _notes.get()
    if notes is not None:
        notes.arrays.extend(arrays)


@contextmanager
def noting() -> Iterator[Notes]:
    """Within the block `on_host` and `keep_alive` write down what they are given."""
    notes = Notes()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
