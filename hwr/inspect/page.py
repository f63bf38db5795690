"""The page of a look inside: what was measured, in words, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hwr.inspect import figures
from hwr.inspect.inside import Inside
from hwr.report.document import Document, Heading, Paragraph, Picture, Table
from hwr.report.style import draw_png, installed

NONE = ""  # what a table shows where there is no number


def page(inside: Inside, title: str, about: str) -> Document:
    """The whole page; without matplotlib the tables alone. `about` says which run it is."""
    document = Document(title)
    image = inside.image
    outcome = "right" if image.label == image.read_as else "wrong"
    document.add(
        Paragraph(about),
        Paragraph(
            f"Image {image.index} of the {image.split} split is a {image.label} and was read as "
            f"{image.read_as}, which is {outcome}, with probability {image.probability:.4f} "
            f"(loss {image.loss:.3g} nats)."
        ),
    )
    for part in (add_activations, add_shortcuts, add_taps, add_batch_norms, add_updates):
        part(document, inside)
    return document


def add_picture(
    document: Document, name: str, caption: str, draw: Callable[..., None], rows: Any
) -> None:
    """A picture, where matplotlib is installed."""
    if installed():
        document.add(Picture(f"{name}.png", draw_png(draw, rows), caption))


def add_activations(document: Document, inside: Inside) -> None:
    """Every layer's output for the image."""
    document.add(
        Heading("What every layer makes of the image"),
        Paragraph(
            "The model reads the image in evaluation mode. Each layer's output is shown channel by "
            "channel, in the order in which the layers run; the elements of a vector are squares. "
            "Red is above 0, blue below, white 0; the strongest colours begin at the 99th "
            "percentile of the layer's absolute values."
        ),
    )
    for number, shown in enumerate(figures.pages(inside.activations), 1):
        caption = "The image" if number == 1 else shown[0].name
        if len(shown) > 1:
            caption += f" to {shown[-1].name}"
        add_picture(document, f"activations-{number}", caption, figures.activations, shown)
    document.add(
        Table(
            ["layer", "kind", "output", "mean", "standard deviation", "zeros"],
            [
                [
                    f"`{each.name}`",
                    each.kind,
                    " x ".join(map(str, each.values.shape)),
                    f"{each.values.mean():.3f}",
                    f"{each.values.std():.3f}",
                    f"{100 * (each.values == 0).mean():.0f} %",
                ]
                for each in inside.activations
            ],
        )
    )


def add_shortcuts(document: Document, inside: Inside) -> None:
    """What the shortcut of each residual block carries."""
    document.add(Heading("What the shortcuts carry"))
    blocks = inside.shortcuts
    if not blocks:
        document.add(Paragraph("This network has no residual blocks, and so no shortcuts."))
        return
    lacking = sum(block.way == "none" for block in blocks)
    document.add(
        Paragraph(
            "A residual block computes y = x + F(x), so that dL/dx = dL/dy (1 + dF/dx): the 1 is "
            "the gradient that comes back through the shortcut, dF/dx what comes back through F "
            "(Chi, Li and Huang, eq. 1). Both parts are measured by giving the two ways an input "
            "of their own; the share is the shortcut's norm over the sum of both norms, and the "
            "cosine says how far they point the same way. Where the shape changes the shortcut is "
            "a 1x1 convolution, a projection, whose part of the gradient is not dL/dy itself."
        )
    )
    if lacking:
        document.add(
            Paragraph(
                f"{lacking} of the {len(blocks)} blocks have no shortcut: F alone carries "
                "everything."
            )
        )
    add_picture(
        document,
        "shortcuts",
        "Norms over all elements for this image; the gradient is that of its loss",
        figures.shortcuts,
        blocks,
    )
    header = ["block", "shortcut", "‖x‖", "‖F(x)‖", "gradient, shortcut", "gradient, F", "cosine"]
    header += ["share", "share in training"]
    rows = []
    for block, trained in zip(blocks, inside.batch.shortcuts):
        numbers = block.x, block.branch, block.through_shortcut, block.through_branch
        cosine = NONE if block.cosine is None else f"{block.cosine:.2f}"
        shares = percent(block.share), percent(trained.share)
        rows.append([f"`{block.name}`", block.way, *map(scientific, numbers), cosine, *shares])
    document.add(
        Table(
            header,
            rows,
            f"The last column is measured on {inside.batch.size} images in training mode, where "
            "batch norm uses the batch's statistics.",
        )
    )


def add_taps(document: Document, inside: Inside) -> None:
    """The weights that never receive a gradient."""
    document.add(Heading("The weights that never receive a gradient"))
    layers, dead, weights = inside.batch.taps, inside.dead, inside.weights
    if not layers:
        document.add(Paragraph("This network has no convolutions, and so no padding: none."))
        return
    spatial = [layer for layer in layers if len(layer.live) * len(layer.live[0]) > 1]
    share = 100 * dead / weights
    text = (
        f"{dead:,} of {weights:,} weights ({share:.0f} %) stand on taps that see nothing but "
        "padding at every position, because the images are so small there. Such a weight adds "
        "nothing to any output and receives no gradient: it keeps the value it was drawn with, "
        "unless weight decay shrinks it. "
        "This follows from the sizes alone."
        if dead
        else "None: every tap of every filter sees the image at some position."
    )
    gradients = [layer.dead_gradient for layer in layers if layer.dead_gradient is not None]
    if gradients:
        text += (
            f" The step on {inside.batch.size} images agrees: the largest absolute gradient that "
            f"any of these weights received is {max(gradients):g}."
        )
    document.add(Paragraph(text))
    if spatial:
        caption = "Taps in colour see the image, white ones only padding. Filters of one pixel, "
        caption += "and linear layers, are not shown: they have no padding"
        add_picture(document, "taps", caption, figures.taps, spatial)
        document.add(
            Table(
                ["filter", "its images", "live taps", "weights", "never learn", "zero gradients"],
                [
                    [
                        f"`{layer.name}`",
                        " x ".join(map(str, layer.image)),
                        f"{sum(map(sum, layer.live))} of {len(layer.live) * len(layer.live[0])}",
                        f"{layer.weights:,}",
                        f"{layer.dead:,}",
                        f"{layer.zero_gradients:,}",
                    ]
                    for layer in spatial
                ],
                "The last column counts the weights whose gradient was exactly 0 in this step; "
                "where it is the larger one, inputs or ReLUs that were 0 for the whole batch are "
                "the cause.",
            )
        )


def add_batch_norms(document: Document, inside: Inside) -> None:
    """The batch's statistics beside the running ones."""
    document.add(Heading("Batch norm: this batch beside the running statistics"))
    layers = inside.batch.statistics
    if not layers:
        document.add(Paragraph("This network has no batch norm with running statistics."))
        return
    rows = [layer.figures() for layer in layers]
    shift = max(rows, key=lambda row: row["largest_shift"])
    low = min(rows, key=lambda row: row["lowest_ratio"])
    high = max(rows, key=lambda row: row["highest_ratio"])
    document.add(
        Paragraph(
            f"In training each channel is normalised by the mean and variance of the batch, here "
            f"of {inside.batch.size} images; in evaluation by running averages of these. The "
            f"largest deviations: a mean {shift['largest_shift']:.2f} running standard deviations "
            f"off in `{shift['name']}`, and variances from {low['lowest_ratio']:.2f} times the "
            f"running one in `{low['name']}` to {high['highest_ratio']:.2f} times in "
            f"`{high['name']}`."
        )
    )
    header = ["layer", "channels", "values each", "median shift", "largest shift"]
    header += ["median variance ratio", "lowest", "highest"]
    add_picture(document, "batch-norms", "Every channel of every batch norm", figures.batch_norms,
                layers)  # fmt: skip
    document.add(
        Table(
            header,
            [
                [
                    f"`{row['name']}`",
                    f"{row['channels']:,}",
                    f"{row['values_a_channel']:,}",
                    f"{row['median_shift']:.3f}",
                    f"{row['largest_shift']:.3f}",
                    f"{row['median_ratio']:.3f}",
                    f"{row['lowest_ratio']:.3f}",
                    f"{row['highest_ratio']:.3f}",
                ]
                for row in rows
            ],
            "Shifts are absolute values in running standard deviations.",
        )
    )


def add_updates(document: Document, inside: Inside) -> None:
    """The gradient of every layer and the step that follows from it."""
    batch = inside.batch
    layers = [update for update in batch.updates if len(update.shape) > 1]
    document.add(
        Heading("Gradients and steps"),
        Paragraph(
            f"One more training step on {batch.size} images of the {inside.image.split} split, "
            f"with the optimiser of the run and learning rate {batch.lr:g}, on a copy of the "
            f"network (loss {batch.loss:.3g} nats). Of every layer's weights: the norm of the "
            "gradient, and how far the step moves them."
        ),
    )
    add_picture(document, "updates", "Layers from the image to the logits", figures.updates, layers)
    document.add(
        Table(
            ["weights", "shape", "‖w‖", "‖dL/dw‖", "‖step‖ / ‖w‖"],
            [
                [
                    f"`{each.name}`",
                    " x ".join(map(str, each.shape)),
                    scientific(each.weight),
                    scientific(each.gradient),
                    NONE if each.ratio is None else scientific(each.ratio),
                ]
                for each in layers
            ],
        )
    )


def percent(share: float | None) -> str:
    """A share as a cell of a table."""
    return NONE if share is None else f"{100 * share:.0f} %"


def scientific(value: float) -> str:
    """A number of any size with three digits."""
    return f"{value:.3g}"


def summary(inside: Inside) -> Sequence[str]:
    """The lines that the command prints."""
    image, batch = inside.image, inside.batch
    lines = [
        f"image {image.index} of the {image.split} split: a {image.label}, read as "
        f"{image.read_as} (probability {image.probability:.4f})",
        f"{len(inside.activations) - 1} layers",
    ]
    shares = [block.share for block in inside.shortcuts if block.way != "none" and block.share]
    if shares:
        lines.append(
            f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of the gradient at each block's "
            "input came through its shortcut"
        )
    else:
        lines.append("no shortcuts")
    lines.append(
        f"{inside.dead:,} of {inside.weights:,} weights "
        f"({100 * inside.dead / max(1, inside.weights):.0f} %) never receive a gradient"
    )
    if batch.statistics:
        rows = [each.figures() for each in batch.statistics]
        shift = max(row["largest_shift"] for row in rows)
        low, high = (
            min(row["lowest_ratio"] for row in rows),
            max(row["highest_ratio"] for row in rows),
        )
        lines.append(
            f"batch norms: means up to {shift:.2f} running standard deviations off, variances "
            f"{low:.2f} to {high:.2f} times the running ones"
        )
    else:
        lines.append("no batch norms")
    return lines
