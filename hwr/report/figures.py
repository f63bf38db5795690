"""The pictures, each a function that draws into a matplotlib figure; `style.draw_png` calls them.

A figure comes without a size: the function sets one that suits what there is to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.report.features import Features
from hwr.report.measure import Bin, ClassScore, Mistake, rates
from hwr.report.style import FLOOR, GRID, GUIDE, OURS, THEIRS, plain

MATRIX = 20  # classes shown in the confusion matrix
SHOWN = 40  # classes up to which each has a line in the picture of scores
FILTERS = 64  # of the first layer, shown


def curves(figure: Any, epochs: Sequence[dict[str, Any]]) -> None:
    """Loss and accuracy by epoch, training and validation; `epochs` are lines of metrics.jsonl."""
    figure.set_size_inches(9, 3.4)
    x = [line["epoch"] for line in epochs]
    panels = plain_row(figure.subplots(1, 2))
    for axes, name, scale in zip(panels, ("loss", "accuracy"), (1, 100)):
        ends = []
        for part, color in (("train", OURS), ("validation", THEIRS)):
            points = [(line["epoch"], scale * line[f"{part}_{name}"])
                      for line in epochs if f"{part}_{name}" in line]  # fmt: skip
            if not points:  # of a run that held nothing out, or of before it was recorded
                continue
            label = {"train": "training"}.get(part, part)
            axes.plot(*zip(*points), "o-", color=color, ms=5 if len(x) < 30 else 2.5, label=label)
            ends.append((points[-1], color))
        for i, (end, color) in enumerate(sorted(ends, key=lambda e: e[0][1])):  # the lowest first
            text = f"{end[1]:.4f}" if scale == 1 else f"{end[1]:.2f} %"
            axes.annotate(text, end, (7, 2 if i else -2), textcoords="offset points", fontsize=8,
                          va="bottom" if i else "top", color=color)  # fmt: skip
        axes.set_xlim(min(x) - 0.5, max(x) + 0.5 + 0.1 * (max(x) - min(x)))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.margins(y=0.12)
        axes.grid(axis="y", color=GRID, lw=0.6)
        axes.set_xlabel("epoch")
        axes.set_title("Loss (nats)" if scale == 1 else "Accuracy (%)", loc="left", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def confusion(figure: Any, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Counts and rates; only errors have colour, or the right ones would drown them.

    Of many classes those with the most errors, as what they are or as what they are taken for.
    """
    share = 100 * rates(counts)
    total = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    kept = np.sort(np.argsort(-total, kind="stable")[:MATRIX])
    k, names = len(kept), [names[i] for i in kept]
    of = f", the {k} of {len(total)} classes with the most errors" if k < len(total) else ""
    side = max(4.2, 0.42 * k)
    figure.set_size_inches(2 * side + 0.8, side + 1.0)
    panels = figure.subplots(1, 2)
    for axes, values, title, text in (
        (panels[0], counts, f"Images{of}", "{:,.0f}"),
        (panels[1], share, "% of the images of a class", "{:.2f}" if k <= 12 else "{:.1f}"),
    ):
        values = values[np.ix_(kept, kept)]
        errors = np.ma.masked_array(values, np.eye(k, dtype=bool) | (values == 0))
        most = float(errors.filled(0).max())
        axes.imshow(np.where(np.eye(k), 1.0, np.nan), cmap="Greys", vmin=0, vmax=8)
        axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1e-9, most))
        for t, p in zip(*np.nonzero(values)):
            bright = t != p and values[t, p] > 0.6 * most
            axes.text(p, t, text.format(values[t, p]), ha="center", va="center",
                      fontsize=7.5, color="white" if bright else FLOOR)  # fmt: skip
        axes.set_xticks(range(k), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(k), names)
        axes.set_xticks(np.arange(k - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(k - 1) + 0.5, minor=True)
        axes.grid(which="minor", color=GRID, lw=0.6)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("read as")
        axes.set_ylabel("class")
        axes.set_title(title, loc="left", fontsize=11)


def class_scores(figure: Any, scores: Sequence[ClassScore]) -> None:
    """Precision, recall and F1 of each class, the worst ones if there are many."""
    shown = list(scores)
    if len(shown) > SHOWN:
        shown = sorted(shown, key=lambda score: score.f1)[:SHOWN]
    figure.set_size_inches(7.5, 1.4 + 0.27 * len(shown))
    axes = plain(figure.subplots())
    rows = range(len(shown))
    f1 = [100 * s.f1 for s in shown]
    ends = [(100 * s.precision, 100 * s.recall) for s in shown]
    axes.hlines(rows, [min(e) for e in ends], [max(e) for e in ends], color=GUIDE, lw=1.2, zorder=1)
    axes.plot([e[0] for e in ends], rows, "o", color=OURS, ms=7, label="precision")
    axes.plot([e[1] for e in ends], rows, "D", color=THEIRS, ms=6, label="recall")
    axes.plot(f1, rows, "|", color=FLOOR, ms=13, mew=2, label="F1")
    axes.set_yticks(rows, [s.name for s in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("%")
    title = "Each class" if len(shown) == len(scores) else f"The {SHOWN} classes of lowest F1"
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def misread(
    figure: Any, images: NDArray[np.uint8], mistakes: Sequence[Mistake], names: Sequence[str]
) -> None:
    """The images (N, H, W, C) of mistakes, each over what it is called and what it is read as."""
    columns = min(8, len(mistakes))
    rows = -(-len(mistakes) // columns)
    lines = 2 if max(map(len, names)) > 3 else 1
    high = 1.2 * images.shape[1] / images.shape[2]
    figure.set_size_inches(1.25 * columns + 0.2, (high + 0.2 + 0.25 * lines) * rows + 0.1)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells[len(mistakes) :]:
        axes.set_visible(False)
    for axes, image, mistake in zip(cells, images, mistakes):
        show_image(axes, image)
        gap = " " if lines == 1 else "\n"
        title = f"{names[mistake.label]}{gap}read as {names[mistake.read_as]}"
        axes.set_title(title, fontsize=8, pad=3)
        text = f"{100 * mistake.probability:.1f} %"
        if mistake.doubted:
            axes.spines[:].set_visible(True)
            axes.spines[:].set(color=THEIRS, linewidth=3)
            seen = "?" if mistake.people is None else names[mistake.people]
            text += f",{gap}people: {seen}"
        axes.set_xlabel(text, fontsize=7.5, color=THEIRS if mistake.doubted else FLOOR, labelpad=3)


def reliability(figure: Any, bins: Sequence[Bin], error: float) -> None:
    """Accuracy over confidence with its interval in each bin, and below how many images are in."""
    figure.set_size_inches(5.2, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    plain(upper)
    plain(lower)
    filled = [b for b in bins if b.images]
    middles = [50 * (b.low + b.high) for b in filled]
    width = 100 / len(bins)
    accuracy = np.array([100 * (b.accuracy or 0) for b in filled])
    interval = 100 * np.array([b.interval for b in filled])
    upper.plot([0, 100], [0, 100], "--", color=GUIDE, lw=1.2, label="perfectly calibrated")
    upper.bar(middles, accuracy, 0.92 * width, color=OURS, alpha=0.85, label="accuracy")
    around = np.abs(interval.T - accuracy)
    upper.errorbar(middles, accuracy, around, fmt="none", ecolor=FLOOR, elinewidth=1, capsize=2,
                   label="its 95 % interval")  # fmt: skip
    confidence = [100 * (b.confidence or 0) for b in filled]
    upper.plot(confidence, confidence, "D", color=THEIRS, ms=5, label="mean confidence")
    upper.set_ylim(0, 104)
    upper.set_ylabel("accuracy (%)")
    upper.set_title(f"Expected calibration error {100 * error:.2f} %", loc="left", fontsize=11)
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    lower.bar(middles, [b.images for b in filled], 0.92 * width, color=GUIDE)
    lower.set_yscale("log")
    lower.set_ylim(0.7, 3 * max(b.images for b in filled))
    lower.set_xlim(0, 100)
    lower.set_ylabel("images")
    lower.set_xlabel("confidence (%)")


def filters(figure: Any, weights: NDArray[np.float32]) -> None:
    """Weights (N, H, W) as images: orange is positive, blue negative, white nothing."""
    shown = weights[:FILTERS]
    n, h, w = shown.shape
    columns = min(16 if n > 32 else 8, n)
    rows = -(-n // columns)
    gap = max(1, round(0.12 * h))
    mosaic = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for i, weight in enumerate(shown):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        mosaic[y : y + h, x : x + w] = weight
    limit = float(np.abs(shown).max()) or 1.0
    figure.set_size_inches(0.62 * columns + 1.1, 0.62 * h / w * rows + 0.3)
    axes = figure.subplots()
    bare(axes)
    drawn = axes.imshow(mosaic, cmap=weight_colors(), vmin=-limit, vmax=limit)
    figure.colorbar(drawn, ax=axes, shrink=min(1.0, 3 / rows), aspect=14, pad=0.02)


def features(figure: Any, found: Sequence[Features]) -> None:
    """A row a layer: the inputs that excite its channels most."""
    columns = max(len(each.images) for each in found)
    _, h, w, _ = found[0].images.shape
    figure.set_size_inches(0.82 * columns + 0.2, (0.78 * h / w + 0.37) * len(found) + 0.1)
    for part, each in zip(figure.subfigures(len(found), 1, squeeze=False)[:, 0], found):
        part.suptitle(each.title, x=0.005, ha="left", fontsize=9)
        cells = part.subplots(1, columns, squeeze=False)[0]
        for axes in cells[len(each.images) :]:
            axes.set_visible(False)
        for axes, image, name in zip(cells, each.images, each.names):
            show_image(axes, image)
            axes.set_xlabel(name, fontsize=7, labelpad=2)


def compared(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a table, as `hwr.tabulate` makes them: a dot a run, interval, mean and claim."""
    figure.set_size_inches(8, 1.3 + 0.36 * len(rows))
    axes = plain(figure.subplots())
    named = {"run": True, "mean": True, "claimed": True}  # what the legend has yet to name
    for i, row in enumerate(rows):
        marks = [("claimed", [row["claimed"]] if row["claimed"] else [], "D", THEIRS, 7)]
        if row["accuracies"]:
            axes.hlines(i, *row["interval"], color=GUIDE, lw=1.5, zorder=1)
            marks += [("run", row["accuracies"], "o", OURS, 6),
                      ("mean", [row["accuracy"]], "|", FLOOR, 14)]  # fmt: skip
        for name, values, marker, color, size in marks:
            if values:
                label = name if named.pop(name, False) else None
                axes.plot(values, [i] * len(values), marker, color=color, ms=size, mew=1.5,
                          alpha=0.8, label=label)  # fmt: skip
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("test accuracy (%)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def several_curves(figure: Any, runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> None:
    """Training loss and validation accuracy, if any, by epoch: a colour a name, a line a run."""
    from matplotlib import colormaps
    from matplotlib.ticker import LogLocator

    named = {"train_loss": (1, "Training loss (nats)")}
    if any("validation_accuracy" in e for of in runs.values() for epochs in of for e in epochs):
        named["validation_accuracy"] = (100, "Validation accuracy (%)")
    figure.set_size_inches(9.5, 3.6)
    colors = colormaps["viridis"](np.linspace(0, 0.9, len(runs)))
    panels = plain_row(figure.subplots(1, len(named), squeeze=False).ravel())
    for (name, repeats), color in zip(runs.items(), colors):
        for axes, (key, (scale, _)) in zip(panels, named.items()):
            for i, epochs in enumerate(repeats):
                points = [(e["epoch"], scale * e[key]) for e in epochs if key in e]
                if points:
                    axes.plot(*zip(*points), "o-", color=color, lw=1.3, ms=3, alpha=0.85,
                              label=None if i else name)  # fmt: skip
    for axes, (_, title) in zip(panels, named.values()):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color=GRID, lw=0.6)
        axes.set_xlabel("epoch")
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlim(0.5, axes.dataLim.x1 + 0.5)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].minorticks_off()
    handles, labels = panels[0].get_legend_handles_labels()
    across = 4 if max(map(len, labels)) < 24 else 2
    figure.legend(
        handles, labels, loc="outside lower center", ncols=across, frameon=False, fontsize=9
    )


def plain_row(panels: Any) -> list[Any]:
    """Axes without the frames' upper and right lines."""
    return [plain(axes) for axes in panels]


def bare(axes: Any) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def show_image(axes: Any, image: NDArray[np.uint8]) -> None:
    """One image (H, W, C), grey or of colours, pixels as they are."""
    bare(axes)
    grey = image.shape[2] != 3
    axes.imshow(image.mean(2) if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)


def weight_colors() -> Any:
    """From the project's blue over white to its orange."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", [OURS, "white", THEIRS])
