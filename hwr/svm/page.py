"""A run's classifiers side by side, as numbers, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwr.report import document as page
from hwr.report import style
from hwr.report.style import FLOOR, GRID, OURS, THEIRS, plain
from hwr.statistics import wilson_interval
from hwr.svm.machine import SVM
from hwr.svm.rejection import Reading

TITLES = {
    "softmax": "network",
    "linear-svm": "network + linear SVM",
    "rbf-svm": "network + RBF SVM",
}
COLORS = {"softmax": FLOOR, "linear-svm": THEIRS, "rbf-svm": OURS}
TICKS = (0, 1, 2, 5, 10, 20, 50, 100)
PICTURE = "rejection.png"
CAPTION = (
    "What is wrong among the test images that are read, by the share refused; a circle marks the "
    "threshold chosen on the validation images."
)


def numbers(
    validation: Mapping[str, Reading], test: Mapping[str, Reading], machines: Mapping[str, SVM]
) -> dict[str, Any]:
    """What svm.json holds of each classifier; the thresholds come from the validation images."""
    found = {}
    for name, tested in test.items():
        held_out, threshold = validation[name], validation[name].threshold()
        found[name] = {
            "accuracy": tested.correct / len(tested),
            "interval": wilson_interval(tested.correct, len(tested)),
            "correct": tested.correct,
            "total": len(tested),
            "validation_accuracy": held_out.correct / len(held_out),
            "rejection": {
                "threshold": threshold,
                "validation_images": len(held_out),
                "validation_share_read": held_out.at(threshold)["share_read"],
                **tested.at(threshold),
            },
            "share_read_without_error": tested.at(tested.threshold())["share_read"],
            "curve": tested.curve(),
        }
    for name, machine in machines.items():
        found[name]["machine"] = {**machine.facts, "gamma": machine.gamma}
    return found


def document(found: Mapping[str, Any], run: str, pictures: bool) -> page.Document:
    """The page of `numbers`."""
    doc = page.Document(f"Support vector machines on the features of {run}")
    doc.add(accuracies(found), rejections(found))
    if pictures:
        doc.add(page.Picture(PICTURE, style.draw_png(rejection, found), CAPTION))
    doc.add(page.Heading("Machines"), machines(found))
    return doc


def accuracies(found: Mapping[str, Any]) -> page.Table:
    """Test accuracy with its interval, a line for each classifier."""
    header = ["", "test accuracy", "95 % interval", "validation"]
    rows = [
        [
            TITLES[name],
            percent(each["accuracy"]),
            span(each["interval"]),
            percent(each["validation_accuracy"]),
        ]
        for name, each in found.items()
    ]
    total = next(iter(found.values()))["total"]
    return page.Table(header, rows, f"{total:,} test images; the intervals are Wilson's.")


def rejections(found: Mapping[str, Any]) -> page.Table:
    """What is read with refusal, a line for each classifier."""
    header = ["", "read", "errors", "accuracy of those", "95 % interval", "best possible"]
    rows = []
    for name, each in found.items():
        refused = each["rejection"]
        cells = [percent(refused["share_read"]), f"{refused['errors']}"]
        cells += [percent(refused["accuracy"]), span(refused["interval"])]
        rows.append([TITLES[name], *cells, percent(each["share_read_without_error"])])
    count = next(iter(found.values()))["rejection"]["validation_images"]
    caption = (
        f"Test images read and refused by a threshold that leaves no error among {count:,} "
        "validation images. The last column is the share that a threshold chosen on the test "
        "images themselves would read without an error: what these scores could do at most."
    )
    return page.Table(header, rows, caption)


def machines(found: Mapping[str, Any]) -> page.Table:
    """How each machine was fitted."""
    header = ["", "C", "gamma", "support vectors", "cross-validation"]
    made = {name: each["machine"] for name, each in found.items() if "machine" in each}
    rows = [
        [
            TITLES[name],
            f"{facts['C']:g}",
            "-" if facts["gamma"] is None else f"{facts['gamma']:.4g}",
            f"{facts['support_vectors']:,}",
            percent(facts["cross_validation"]),
        ]
        for name, facts in made.items()
    ]
    facts = next(iter(made.values()))
    caption = (
        "One machine for each pair of classes, on features scaled to mean 0 and variance 1. C and "
        f"gamma by cross-validation ({facts['folds']} folds) on {facts['searched_images']:,} of "
        f"the {facts['train_images']:,} training images, whose features the network has learnt: "
        "hence its optimism."
    )
    return page.Table(header, rows, caption)


def rejection(figure: Any, found: Mapping[str, Any]) -> None:
    """Error rate of what is read over the share refused, a line for each classifier."""
    figure.set_size_inches(7, 3.8)
    axes = plain(figure.subplots())
    for name, each in found.items():
        x, y = ([100 * value for value in values] for values in zip(*each["curve"]))
        axes.plot(x, y, color=COLORS[name], lw=1.6, label=TITLES[name])
        refused = each["rejection"]
        if refused["read"]:
            at = 100 * (1 - refused["share_read"]), 100 * refused["errors"] / refused["read"]
            axes.plot(*at, "o", color=COLORS[name], ms=8, mfc="none", mew=1.8, clip_on=False)
    axes.set_xscale("symlog", linthresh=1)  # from 0 to 1 % in proportion, then by tens
    axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("refused (% of the test images)")
    axes.set_ylabel("errors (% of those read)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def percent(share: float | None) -> str:
    """ "98.60 %"; "-" for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def span(ends: Any) -> str:
    """ "97.15 to 99.32 %"; "-" for None."""
    return "-" if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f} %"
