"""The pictures, one function for each command. Without matplotlib there are only the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean, median
from typing import Any

from hwr.files import write_atomic
from hwr.report.style import FLOOR, GRID, GUIDE, OURS, THEIRS, draw_png, installed, plain

Rows = Sequence[dict[str, Any]]
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0}  # behind text, over lines


def picture(path: Path, draw: Callable[[Any, Rows], None], rows: Rows) -> None:
    """Draw the rows of results into `path`, or say what to install."""
    if not installed():
        print("no picture: matplotlib is not installed; pip install '.[bench]'")
        return
    write_atomic(path, draw_png(draw, rows))
    print(f"picture: {path}")


def step(figure: Any, rows: Rows) -> None:
    """Time over PyTorch's better, and the floor on the same scale."""
    figure.set_size_inches(8, 1.6 + 0.42 * len(rows))
    axes = plain(figure.subplots())
    several = len({row["threads"] for row in rows}) > 1
    names = [
        row["work"] + f", {row['threads']} thread{'s' * (row['threads'] > 1)}" * several
        for row in rows
    ]
    for i, row in enumerate(rows):
        ours, *theirs = (t.median for t in row["timings"])
        unit = min(theirs) if theirs else ours
        axes.barh(i, ours / unit, height=0.6, color=OURS, label="tinynn" if i == 0 else None)
        text = f"{ours / unit:.2f}  ({1e3 * ours:,.1f} ms)" if theirs else f"{1e3 * ours:,.1f} ms"
        floor = row["floor"] / unit
        axes.text(max(ours / unit, floor), i, " " + text, va="center", fontsize=8, bbox=PAPER)
        axes.plot([floor] * 2, [i - 0.38, i + 0.38], color=FLOOR, lw=2, zorder=4,
                  label="floor: multiply-adds at the sgemm rate" if i == 0 else None)  # fmt: skip
    compared = any(len(row["timings"]) > 1 for row in rows)
    if compared:
        axes.axvline(1, color=THEIRS, lw=2, label="PyTorch's better memory format", zorder=0)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * 1.18)
    axes.set_xlabel(
        "time of a step / PyTorch's (shorter is faster)" if compared else "share of tinynn's time"
    )
    axes.set_title("A step of each work, turn by turn in one run", loc="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def gpu_step(figure: Any, rows: Rows) -> None:
    """Time of an update on each engine, work by work."""
    figure.set_size_inches(8, 0.8 + sum(0.6 + 0.24 * len(row["timings"]) for row in rows))
    heights = [2 + len(row["timings"]) for row in rows]
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)
    for axes, row in zip(panels[:, 0], rows):
        plain(axes)
        for i, t in enumerate(row["timings"]):
            color = OURS if t.engine.startswith("tinynn") else THEIRS
            axes.barh(i, 1e3 * t.median, height=0.6, color=color)
            axes.text(1e3 * t.median, i, f" {1e3 * t.median:.3f}", va="center", fontsize=8)
        axes.set_yticks(range(len(row["timings"])), [t.label for t in row["timings"]], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
        axes.set_title(f"{row['work']}, batch {row['batch']}", loc="left", fontsize=10)
        axes.set_xlabel("ms an update (shorter is faster)", fontsize=8)


def kernels(figure: Any, rows: Rows) -> None:
    """Left: every call over PyTorch's better. Right: the products on the roofline."""
    names = list(dict.fromkeys(row["kernel"] for row in rows))
    worked = [row for row in rows if row["multiply_adds"]]
    figure.set_size_inches(12 if worked else 6.5, max(4.5, 0.26 * len(names) + 1.4))
    if not worked:
        over_theirs(plain(figure.subplots()), names, rows)
        return
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    over_theirs(plain(left), names, rows)
    on_the_roofline(plain(right), worked)


def label_logarithmic(axis: Any) -> None:
    """Numbers at 1, 2, 5, 10, ...: within one power of ten, too, there are some."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def over_theirs(axes: Any, names: list[str], rows: Rows) -> None:
    """A dot for each call: its time over PyTorch's better, or over the floor."""
    compared = any(len(row["timings"]) > 1 for row in rows)
    for row in rows:
        where = row["ratio"] if compared else row["over_floor"]
        axes.plot(where, names.index(row["kernel"]), "o", color=OURS, alpha=0.5, ms=6)
    axes.axvline(1, color=THEIRS if compared else FLOOR, lw=2, zorder=0)
    axes.set_xscale("log")
    label_logarithmic(axes.xaxis)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    other = "PyTorch's better format" if compared else "the floor"
    axes.set_xlabel(f"time / {other} (left is faster)")
    axes.set_title("Every call; a dot for each shape", loc="left", fontsize=11)


def on_the_roofline(axes: Any, rows: Rows) -> None:
    """Rate over operations a byte of every convolution and matrix product, and its roof."""
    names = dict.fromkeys(row["kernel"] for row in rows)
    markers = dict(zip(names, cycle("os^DvP*X<>phd8")))
    for row in rows:
        ours, *theirs = (t.median for t in row["timings"])
        density = 2 * row["multiply_adds"] / row["bytes"]
        points = [(row["floor"], "_", FLOOR), (ours, markers[row["kernel"]], OURS)]
        points += [(min(theirs), markers[row["kernel"]], THEIRS)] if theirs else []
        for seconds, marker, color in points:
            rate = 2e-9 * row["multiply_adds"] / seconds
            axes.plot(density, rate, marker, color=color, alpha=0.65, ms=11 if marker == "_" else 6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        label_logarithmic(axis)
    compared = any(len(row["timings"]) > 1 for row in rows)
    for color, marker, text in (
        (OURS, "", "tinynn"), *[(THEIRS, "", "PyTorch's better format")] * compared,
        (FLOOR, "_", "roofline"), *((GUIDE, marker, name) for name, marker in markers.items()),
    ):  # fmt: skip
        style = {"lw": 6} if not marker else {"lw": 0, "marker": marker, "ms": 7}
        axes.plot([], [], color=color, label=text, **style)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("operations a byte moved")
    axes.set_ylabel("GFLOP/s on taps that see data")
    axes.set_title("The products under the roofline of this run", loc="left", fontsize=11)


def scaling(figure: Any, rows: Rows) -> None:
    """A panel for each series: time over size, both logarithmic, beside the expected slope."""
    figure.set_size_inches(3.3 * len(rows) + 0.6, 3.4)
    for axes, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows):
        plain(axes)
        sizes, times = row["sizes"], [1e3 * t.median for t in row["timings"]]
        low, high = ([1e3 * getattr(t, end) for t in row["timings"]] for end in ("low", "high"))
        begin = (row["fitted"] or sizes)[0]
        at_begin = times[sizes.index(begin)]
        guide = [at_begin * (n / begin) ** row["expected"] for n in sizes]
        axes.plot(sizes, guide, "--", color=GUIDE, label=f"exponent {row['expected']:g}, expected")
        label = "measured" if row["measured"] is None else f"{row['measured']:.2f}, measured"
        axes.plot(sizes, times, "o-", color=OURS, label=label)
        axes.fill_between(sizes, low, high, color=OURS, alpha=0.15, lw=0)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        axes.set_yticks([])
        for size, ms in zip(sizes, times):
            axes.annotate(f"{ms:,.0f} ms", (size, ms), (5, -11), textcoords="offset points",
                          fontsize=8, color=OURS)  # fmt: skip
        axes.margins(x=0.18, y=0.12)
        axes.set_xlabel(row["series"])
        axes.set_title(row["what"], loc="left", fontsize=8)
        axes.legend(frameon=False, fontsize=8)
    figure.supylabel("ms a training step", fontsize=10)


def peers(figure: Any, rows: Rows) -> None:
    """A panel for each network: the time of a step on each engine."""
    counts = [len(row["timings"]) for row in rows]
    figure.set_size_inches(8, 0.42 * sum(counts) + 0.75 * len(rows) + 0.3)
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=counts)
    for axes, row in zip(panels[:, 0], rows):
        plain(axes)
        times = [1e3 * t.median for t in row["timings"]]
        names = [t.engine for t in row["timings"]]
        colors = [OURS if name.startswith("tinynn") else THEIRS for name in names]
        axes.barh(range(len(times)), times, color=colors, height=0.65)
        for i, ms in enumerate(times):
            axes.text(ms, i, f" {ms:,.1f} ms, {ms / times[0]:,.1f} x", va="center", fontsize=8)
        axes.set_yticks(range(len(times)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * max(times))
        axes.set_title(f"{row['work']}, batch {row['batch']}", loc="left", fontsize=10)
    panels[-1, 0].set_xlabel("ms a training step")


def end_to_end(figure: Any, rows: Rows) -> None:
    """A panel for each recipe: seconds from start to printed accuracy, of each seed."""
    names = list(dict.fromkeys(row["recipe"] for row in rows))
    figure.set_size_inches(8, 0.5 * len(rows) + 0.7 * len(names) + 0.3)
    counts = [sum(row["recipe"] == name for row in rows) for name in names]
    panels = figure.subplots(len(names), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axes, name in zip(panels, names):
        plain(axes)
        mine = [row for row in rows if row["recipe"] == name]
        for i, row in enumerate(mine):
            done = [run for run in row["runs"] if run["seconds"] is not None]
            seconds = [run["seconds"] for run in done] or [0]
            axes.barh(i, median(seconds), height=0.62,
                      color=THEIRS if row["engine"] == "PyTorch" else OURS)  # fmt: skip
            axes.plot([min(seconds), max(seconds)], [i, i], color=GUIDE, lw=1.5)
            text = "  failed"
            if done:
                accuracy = mean(run["accuracy"] for run in done)
                text = f"  {median(seconds):,.1f} s, {accuracy:.2f} %"
                text += f" ({len(done)} seeds)" * (len(done) > 1)
            axes.text(max(seconds), i, text, va="center", fontsize=9)
        axes.set_yticks(range(len(mine)), [row["engine"] for row in mine])
        axes.invert_yaxis()
        longest = max(run["seconds"] or 1 for row in mine for run in row["runs"])
        axes.set_xlim(0, 1.25 * longest)
        axes.set_title(name, loc="left", fontsize=10)
    panels[-1].set_xlabel("seconds from start to printed test accuracy")


def augment(figure: Any, rows: Rows) -> None:
    """Images a second of each preset, from its slowest round to its fastest."""
    figure.set_size_inches(8, 1.4 + 0.45 * len(rows))
    axes = plain(figure.subplots())
    for i, row in enumerate(rows):
        axes.barh(i, row["median"], height=0.6, color=OURS)
        axes.plot([row["lowest"], row["highest"]], [i, i], color=GUIDE, lw=1.5)
        axes.text(row["highest"], i, f"  {row['median']:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["augment"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(row["highest"] for row in rows))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("images of 28x28 warped a second, one core (longer is faster)")
