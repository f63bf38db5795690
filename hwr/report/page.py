"""One run's report as a page: what was measured, and the pictures where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hwr.data.picture import augmented, png
from hwr.evaluate import split_loader
from hwr.progress import clock
from hwr.report import features, figures, measure
from hwr.report.document import Block, Document, Heading, Paragraph, Picture, Table
from hwr.report.numbers import Look, doubted
from hwr.report.style import INSTALL, draw_png, installed
from hwr.statistics import wilson_interval

MISTAKES = 24  # shown; report.json lists all
CLASSES = 40  # with a line in the tables
MATRIX = 20  # classes up to which the confusion matrix is written out, and all are augmented
AUGMENTED = 12  # versions of a digit


def page(seen: Look) -> Document:
    """The report on a run."""
    document = Document(f"Report on {seen.folder.resolve().name}")
    for section in (
        summary, learning, confusion, classes, calibration, misread, layers, augmentation, settings
    ):  # fmt: skip
        document.add(*section(seen))
    if not installed():
        document.add(Paragraph(f"Pictures are missing: they need matplotlib. `{INSTALL}`"))
    return document


def picture(name: str, caption: str, draw: Callable[..., None], *args: Any) -> Iterator[Picture]:
    """What `draw` draws, or nothing without matplotlib."""
    if installed():
        yield Picture(f"{name}.png", draw_png(draw, *args), caption)


def summary(seen: Look) -> Iterator[Block]:
    """What was run and how well it reads."""
    config, readings = seen.config, seen.readings
    recipe, split = config.recipe, seen.loader.dataset.split
    which = f"Weights: {seen.weights}, of epoch {seen.epoch}"
    if seen.weights == "best":
        which += ", which did best on images held out of training"
    judged = "which had no part in any choice" if split == "test" else "most of them trained on"
    yield Paragraph(f"{recipe.paper}.")
    yield Paragraph(
        f"{recipe.network}, {config.facts.get('parameters', 0):,} parameters, trained on "
        f"{config.facts.get('train_images', 0):,} images of {recipe.dataset}, seed {config.seed}. "
        f"{which}. Measured on the {len(readings):,} {split} images, {judged}."
    )
    for sentence in seen.deviations:
        yield Paragraph(f"Mind that {sentence}.")
    right, total = int(readings.right.sum()), len(readings)
    scores = measure.per_class(readings.confusion, seen.names)
    error = measure.calibration_error(measure.reliability(readings))
    claim = recipe.claim() if split == "test" else None
    rows = [
        ["accuracy", percent(right / total), interval(right, total), f"{right:,} of {total:,}"],
        ["loss", f"{readings.loss:.4f}", "", ""],
        ["F1", percent(measure.macro(scores).f1), "", ""],
        ["calibration error", percent(error), "", ""],
        ["Brier score", f"{measure.brier(readings):.4f}", "", ""],
    ]
    caption = (
        "Loss: the mean negative log-likelihood of the labels, in nats. F1: the mean of the "
        "classes. Brier score: 0 is perfect, 2 the worst."
    )
    if people := doubted(seen):
        n, correct, out = people["total"], people["correct"], people["people_see"].count(None)
        name = "accuracy as people see"
        rows.append([name, percent(correct / n), interval(correct, n), f"{correct:,} of {n:,}"])
        caption += (
            f" Accuracy as people see: of the {len(people['indices'])} labels that people did not "
            f"agree with (Northcutt et al. 2021), {len(people['indices']) - out} are replaced by "
            f"what most of them saw, {out} left out."
        )
    header = ["", "measured", "95 % interval", "images"]
    if claim:
        header.insert(1, "claimed")
        for i, row in enumerate(rows):
            row.insert(1, "" if i else percent(claim / 100))
    yield Table(header, rows, caption)


def learning(seen: Look) -> Iterator[Block]:
    """Loss and accuracy by epoch."""
    if not seen.epochs:
        yield from (Heading("Learning"), Paragraph("No epoch is recorded in `metrics.jsonl`."))
        return
    yield Heading("Learning")
    smoothing = seen.config.recipe.label_smoothing
    caption = (
        "Loss and accuracy by epoch. Training: of each image as it was trained on, before the step "
        "that learnt from it, averaged over the epoch"
        + (f", with label smoothing {smoothing:g}" if smoothing else "")
        + ". Validation: of the images held out, after the epoch."
    )
    yield from picture("curves", caption, figures.curves, seen.epochs)
    shares = ("train_accuracy", "validation_accuracy")
    columns = {
        "train_loss": "training loss",
        "train_accuracy": "training accuracy",
        "validation_loss": "validation loss",
        "validation_accuracy": "validation accuracy",
        "lr": "learning rate at the end",
        "images_per_s": "images a second",
        "seconds": "time",
    }
    formats: dict[str, Callable[[float], str]] = dict.fromkeys(columns, "{:.4f}".format)
    formats |= dict.fromkeys(shares, percent)
    formats |= {"lr": "{:.2g}".format, "images_per_s": "{:,.0f}".format, "seconds": clock}
    kept = [name for name in columns if any(name in line for line in seen.epochs)]
    rows = [
        [f"{line['epoch']}", *(formats[n](line[n]) if n in line else "" for n in kept)]
        for line in seen.epochs
    ]
    yield Table(["epoch", *(columns[name] for name in kept)], rows)


def confusion(seen: Look) -> Iterator[Block]:
    """What is read as what."""
    counts, names = seen.readings.confusion, seen.names
    yield Heading("What is read as what")
    caption = (
        "Left: images of a class (row) read as a class (column). Right: the same in % of the "
        "images of the class. Only the errors are coloured."
    )
    yield from picture("confusion", caption, figures.confusion, counts, names)
    pairs = measure.confused_pairs(counts, 10)
    share = measure.rates(counts)
    rows = [[names[t], names[p], f"{n:,}", percent(share[t, p])] for t, p, n in pairs]
    if not rows:
        yield Paragraph("Every image is read right.")
        return
    yield Table(["class", "read as", "images", "of the class"], rows, "The most frequent errors.")
    if len(names) <= MATRIX:
        matrix = [[name, *map("{:,}".format, line)] for name, line in zip(names, counts)]
        yield Table(["class", *names], matrix, "Images of a class (row) read as a class (column).")


def classes(seen: Look) -> Iterator[Block]:
    """How well each class is read."""
    scores = measure.per_class(seen.readings.confusion, seen.names)
    yield Heading("Each class")
    caption = (
        "Precision: the share of what is read as a class that is of it. Recall: the share of a "
        "class that is read as it. F1: their harmonic mean."
    )
    yield from picture("classes", caption, figures.class_scores, scores)
    shown = scores if len(scores) <= CLASSES else sorted(scores, key=lambda s: s.f1)[:CLASSES]
    rows = [
        [s.name, f"{s.images:,}", percent(s.precision), percent(s.recall), percent(s.f1)]
        for s in (*shown, measure.macro(scores))
    ]
    left = (
        "" if len(shown) == len(scores) else f"The {CLASSES} of {len(scores)} with the lowest F1."
    )
    yield Table(["class", "images", "precision", "recall", "F1"], rows, left)


def calibration(seen: Look) -> Iterator[Block]:
    """Whether the model is as often right as it says."""
    bins = measure.reliability(seen.readings)
    error = measure.calibration_error(bins)
    yield Heading("Calibration")
    yield Paragraph(f"{measure.CALIBRATION} Here {percent(error)}.")
    caption = (
        "How often the model is right, by how sure it is; below, how many images are how sure."
    )
    yield from picture("reliability", caption, figures.reliability, bins, error)
    rows = [
        [f"{100 * b.low:.1f} to {100 * b.high:.1f} %", f"{b.images:,}",
         percent(b.confidence), percent(b.accuracy)]
        for b in bins if b.confidence is not None and b.accuracy is not None
    ]  # fmt: skip
    yield Table(
        ["confidence", "images", "its mean", "accuracy"], rows, "Bins without images left out."
    )


def misread(seen: Look) -> Iterator[Block]:
    """The mistakes that the model was surest of."""
    dataset, names = seen.loader.dataset, seen.names
    every = measure.mistakes(seen.readings, dataset.doubted)
    if not every:
        return
    shown = every[:MISTAKES]
    yield Heading("The most confident mistakes")
    caption = "What each image is labelled and read as, and the probability of that reading."
    if dataset.doubted:
        caption += (
            f" Framed: {sum(m.doubted for m in shown)} of the {len(dataset.doubted)} images whose "
            "label people did not agree with, and what most of them saw "
            "instead, ? where they disagreed."
        )
    images = dataset.images[[m.index for m in shown]]
    yield from picture("mistakes", caption, figures.misread, images, shown, names)
    rows = []
    for m in shown:
        people = "no agreement" if m.people is None else names[m.people]
        rows.append([str(m.index), names[m.label], names[m.read_as], percent(m.probability),
                     percent(m.label_probability), people if m.doubted else ""])  # fmt: skip
    header = ["image", "label", "read as", "probability", "of the label", "people see"]
    kept = range(len(header) if dataset.doubted else len(header) - 1)
    count = f"{len(shown)} of {len(every):,} mistakes; `report.json` lists all."
    yield Table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], count)


def layers(seen: Look) -> Iterator[Block]:
    """What the layers look for."""
    if not installed():
        return
    yield Heading("What the network looks for")
    weights = features.first_weights(seen.model, seen.image_shape)
    if weights is None:
        yield Paragraph("The first layer is recurrent: its weights are not images, and left out.")
    else:
        caption = "Weights of the first layer: orange raises its output, blue lowers it."
        if len(weights) > figures.FILTERS:
            caption += f" {figures.FILTERS} of {len(weights)}."
        yield from picture("filters", caption, figures.filters, weights)
    found = features.find_features(seen.model, seen.loader.normalize, seen.image_shape, seen.names)
    caption = (
        "Images made by gradient ascent on their pixels, from noise, to excite one channel each: "
        "of the first, the middle and the last convolution, and the logit of each class."
        if len(found) > 1
        else "Images made by gradient ascent on their pixels, from noise, to excite the logit of "
        "each class."
    )
    yield from picture("features", caption, figures.features, found)


def augmentation(seen: Look) -> Iterator[Block]:
    """What training makes of its images, if the recipe warps them."""
    recipe = seen.config.recipe
    if recipe.augment is None:
        return
    train = split_loader(seen.config, "train").dataset
    first = train.subset(np.flatnonzero(train.labels < MATRIX))
    sheet = augmented(first, recipe.augment, AUGMENTED, seen.config.seed)
    if sheet.shape[2] not in (1, 3):  # neither grey nor colours
        return
    yield Heading("Augmentation")
    several = "each class" if len(seen.names) <= MATRIX else f"each of {MATRIX} classes"
    caption = f"An image of {several}, and beside it as training warps it: `{recipe.augment}`."
    yield Picture("augmented.png", png(sheet), caption)


def settings(seen: Look) -> Iterator[Block]:
    """Everything that decides the run, and where it ran."""
    config = seen.config
    yield Heading("The run")
    if config.recipe.note:
        yield Paragraph(config.recipe.note)
    left_out = {"claimed", "paper", "note", "model_options"}
    values = {k: v for k, v in vars(config.recipe).items() if k not in left_out}
    values["model"] = config.recipe.network
    own = ("seed", "backend", "threads", "train_size", "limit_batches")
    values |= {name: getattr(config, name) for name in own}
    values |= config.facts.get("machine", {})
    rows = [
        [f"`{name}`", ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for name, value in values.items()
        if value not in (None, [])
    ]
    yield Table(["setting", "value"], rows)


def percent(share: float) -> str:
    """ "99.31 %"."""
    return f"{100 * share:.2f} %"


def interval(correct: int, total: int) -> str:
    """ "99.12 to 99.46 %"."""
    low, high = wilson_interval(correct, total)
    return f"{100 * low:.2f} to {100 * high:.2f} %"
