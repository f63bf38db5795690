"""Handwriting recognition on tinynn: data, models, training, and digits read from photographs.

``import hwr`` imports nothing else; ``hwr.data``, ``hwr.models`` and ``hwr.vision`` are imported
when they are first used, so that a command that only prints its help starts at once.
"""

from importlib import import_module
from types import ModuleType

_SUBMODULES = ("data", "models", "vision")


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
