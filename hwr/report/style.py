"""How the project's pictures look, and how they become files. Matplotlib is the extra `plot`."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from typing import Any

from hwr.errors import UserError

OURS, THEIRS, FLOOR, GUIDE = "#1f6f8b", "#e07b39", "#3a3a3a", "#9a9a9a"
GRID = "#e8e8e8"
DPI = 130
INSTALL = "pip install '.[plot]'"


def installed() -> bool:
    """Whether pictures can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_png(draw: Callable[..., None], *args: Any) -> bytes:
    """The PNG file of what `draw(figure, *args)` draws. UserError without matplotlib."""
    if not installed():
        raise UserError(f"pictures need matplotlib, which is not installed; {INSTALL}")
    from matplotlib.figure import Figure  # no pyplot: no window and no global state

    figure = Figure(layout="constrained")
    draw(figure, *args)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def plain(axes: Any) -> Any:
    """Axes without the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes
