"""The pictures of a look inside, one function each; `hwr.report.style.draw_png` makes the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.inspect.activations import Activation, maps_of, sheet
from hwr.inspect.batch_norm import Statistics
from hwr.inspect.shortcuts import Shortcut
from hwr.inspect.taps import Taps
from hwr.inspect.updates import Update
from hwr.report.style import FLOOR, GRID, GUIDE, OURS, THEIRS, plain

WIDTH = 360  # pixels of a sheet of maps
INCHES = 9.0  # of a picture
PAGE = 400  # pixels of sheets that one picture holds, if they are several
TITLE = 14  # pixels of a sheet's title
ROW = 0.24  # inches of a row of bars


def pages(found: Sequence[Activation]) -> Iterator[list[Activation]]:
    """The layers in groups that fit a picture each."""
    page: list[Activation] = []
    height = 0
    for each in found:
        added = len(sheet(maps_of(each.values), WIDTH)) + TITLE
        if page and height + added > PAGE:
            yield page
            page, height = [], 0
        page.append(each)
        height += added
    yield page


def activations(figure: Any, page: Sequence[Activation]) -> None:
    """A sheet of channels for each layer: red above 0, blue below, white 0."""
    sheets = [sheet(maps_of(each.values), WIDTH) for each in page]
    height = TITLE // 4 + sum(len(each) + TITLE for each in sheets)
    width = max(WIDTH, *(each.shape[1] for each in sheets))
    figure.set_layout_engine("none")  # every sheet has one scale
    figure.set_size_inches(INCHES, INCHES / width * height)
    bottom = height
    for each, values in zip(page, sheets):
        h, w = values.shape
        bottom -= h + TITLE
        axes = figure.add_axes((0.003, bottom / height, w / width * 0.994, h / height))
        scale = float(np.percentile(np.abs(each.values), 99)) or float(np.abs(each.values).max())
        axes.imshow(coloured(values, scale or 1.0), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        shape = " x ".join(map(str, each.values.shape))
        text = f"   {each.kind}, {shape}, colours to ±{scale:.2g}"
        name = axes.text(0, 1, each.name, transform=axes.transAxes, fontsize=8, weight="bold",
                         va="bottom")  # fmt: skip
        axes.annotate(text, (1, 0), xycoords=name, fontsize=8, va="bottom", color=FLOOR)


def coloured(values: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """(H, W) -> (H, W, 4): colours from -scale to scale, grey where there is no number."""
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"](0.5 + 0.5 * np.nan_to_num(values / scale).clip(-1, 1))
    colours[np.isnan(values)] = (0.8, 0.8, 0.8, 1)
    return colours


def shortcuts(figure: Any, blocks: Sequence[Shortcut]) -> None:
    """Left: what a block is given and what it adds. Right: the way its gradient came back."""
    figure.set_size_inches(INCHES, 1.3 + 1.4 * ROW * len(blocks))
    left, right = (plain(axes) for axes in figure.subplots(1, 2, sharey=True))
    rows = np.arange(len(blocks))
    left.barh(rows - 0.18, [b.x for b in blocks], 0.34, color=OURS, label="‖x‖")
    left.barh(rows + 0.18, [b.branch for b in blocks], 0.34, color=THEIRS, label="‖F(x)‖")
    left.set_title("What the block is given, and what it adds", loc="left", fontsize=10)
    shares = np.array([b.share or 0.0 for b in blocks])
    branch = np.array([1.0 - share if b.share is not None else 0.0 for b, share in
                       zip(blocks, shares)])  # fmt: skip
    right.barh(rows, shares, 0.62, color=OURS, label="shortcut")
    right.barh(rows, branch, 0.62, left=shares, color=THEIRS, label="F")
    for row, block in enumerate(blocks):
        if block.share is not None:
            text = f"{100 * block.share:.0f} %" + " (projection)" * (block.way == "projection")
            text = "no shortcut" if block.way == "none" else text
            right.text(0.015, row, text, va="center", fontsize=8, color="white")
    right.axvline(0.5, color="white", lw=1, ls=":")
    right.set_xlim(0, 1.03)
    right.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    figure.get_layout_engine().set(wspace=0.05)
    right.set_title("The way its gradient came back", loc="left", fontsize=10)
    left.set_yticks(rows, [b.name for b in blocks], fontsize=9)
    left.set_ylim(len(blocks) - 0.4, -0.6)
    for axes in (left, right):
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.06), ncols=2, frameon=False, fontsize=8)


def taps(figure: Any, layers: Sequence[Taps]) -> None:
    """Each filter's taps, and how many of its weights can learn."""
    height = 1.1 + 1.5 * ROW * len(layers)
    figure.set_size_inches(INCHES, height)
    axes = plain(figure.subplots())
    most = max(layer.weights for layer in layers)
    for row, layer in enumerate(layers):
        live = layer.weights - layer.dead
        axes.barh(row, live, 0.62, color=OURS, label="learn" if row == 0 else None)
        axes.barh(row, layer.dead, 0.62, left=live, color=GRID, hatch="////", edgecolor=GUIDE,
                  lw=0, label="only see padding" if row == 0 else None)  # fmt: skip
        h, w = layer.image
        text = f" {100 * live / layer.weights:.0f} % of {layer.weights:,} learn; images {h} x {w}"
        axes.text(layer.weights, row, text, va="center", fontsize=8)
    axes.set_xlim(0, 1.5 * most)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
    axes.tick_params(axis="y", length=0, pad=36)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title("The taps of each filter, and its weights", loc="left", fontsize=10)
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    for row, layer in enumerate(layers):
        add_taps(axes, row, layer)


def add_taps(axes: Any, row: int, layer: Taps) -> None:
    """The taps of a filter as a small square beside its row."""
    from matplotlib.offsetbox import AnnotationBbox, DrawingArea
    from matplotlib.patches import Rectangle

    side = 18.0  # points
    kh, kw = len(layer.live), len(layer.live[0])
    area = DrawingArea(side, side)
    for i in range(kh):
        for j in range(kw):
            corner = side * j / kw, side * (kh - 1 - i) / kh
            color = OURS if layer.live[i][j] else "white"
            area.add_artist(Rectangle(corner, side / kw, side / kh, facecolor=color,
                                      edgecolor=GUIDE, lw=0.5))  # fmt: skip
    beside: dict[str, Any] = {
        "xybox": (-20, 0),
        "boxcoords": "offset points",
        "frameon": False,
        "pad": 0,
    }
    axes.add_artist(AnnotationBbox(area, (0, row), **beside))


def logarithmic(axes: Any) -> None:
    """A logarithmic x axis with plain numbers: powers of 10, and more where these are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    if high / low > 6:
        subs = (1, 2, 5) if high / low < 100 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def batch_norms(figure: Any, layers: Sequence[Statistics]) -> None:
    """A dot for each channel: the batch's mean and variance by the running ones."""
    figure.set_size_inches(INCHES, 1.2 + ROW * len(layers))
    left, right = (plain(axes) for axes in figure.subplots(1, 2, sharey=True))
    jitter = np.random.default_rng(0)
    for row, layer in enumerate(layers):
        at = row + jitter.uniform(-0.3, 0.3, len(layer.shift))
        for axes, values in ((left, layer.shift), (right, layer.ratio)):
            axes.plot(values, at, ".", color=OURS, alpha=0.35, ms=3, mew=0)
            axes.plot(np.median(values), row, "|", color=THEIRS, ms=11, mew=2)
    left.axvline(0, color=GUIDE, lw=1, zorder=0)
    right.axvline(1, color=GUIDE, lw=1, zorder=0)
    logarithmic(right)
    left.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
    left.set_ylim(len(layers) - 0.4, -0.6)
    left.set_xlabel("(batch mean - running mean) / running standard deviation")
    right.set_xlabel("batch variance / running variance")
    left.set_title("Means: a dot for each channel, the median in orange", loc="left", fontsize=10)
    right.set_title("Variances", loc="left", fontsize=10)


def updates(figure: Any, layers: Sequence[Update]) -> None:
    """The gradient of every layer's weights, and how far a step moves them."""
    figure.set_size_inches(INCHES, 1.2 + 0.8 * ROW * len(layers))
    left, right = (plain(axes) for axes in figure.subplots(1, 2, sharey=True))
    rows = np.arange(len(layers))
    for axes, values in (
        (left, [layer.gradient or np.nan for layer in layers]),
        (right, [layer.ratio or np.nan for layer in layers]),
    ):
        axes.plot(values, rows, "o-", color=OURS, ms=4, lw=1)
        logarithmic(axes)
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
    right.axvline(1e-3, color=FLOOR, lw=1, ls="--")
    right.annotate("1e-3, a usual size", (1e-3, -0.6), (3, 0), textcoords="offset points",
                   fontsize=8, color=FLOOR, va="center")  # fmt: skip
    left.set_yticks(rows, [layer.name for layer in layers], fontsize=8)
    left.set_ylim(len(layers) - 0.4, -1.1)
    left.set_title("‖dL/dw‖", loc="left", fontsize=10)
    right.set_title("‖step‖ / ‖w‖", loc="left", fontsize=10)
