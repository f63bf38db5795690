"""A table's results: claimed beside measured, from the runs that are done, as JSON and as a page.

`results` makes of the runs a dictionary that JSON can hold; `document` makes of it a page, so that
a page of many tables needs no run again. What is not run is listed as not run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hwr.progress import clock
from hwr.recipes import Row, Table
from hwr.report import document as page
from hwr.report import figures, style
from hwr.statistics import wilson_interval
from hwr.svm import page as svm
from hwr.trials import Outcome, folder_name

NAME = "results.json"
NOTHING = "-"  # in a cell
REPORTS = "reports"  # beside the folders of tables: a folder by a run's name for the report on it
REPORT = "report.json"
MACHINES = "svm.json"  # beside it: what SVMs make of the run's features
MISREAD = "misread.png"  # the same place, of a run that reads strings
MISREAD_CAPTION = "Test strings that were misread: as they are labelled, then as they were read."
MISTAKES = 24  # listed
MOST_CURVES = 8  # in one picture
PICTURES = {
    "accuracy.png": "Test accuracy of each run, their mean and its 95 % interval, and the claim.",
    "curves.png": "Training loss and validation accuracy by epoch, a line for each run.",
}
REPORT_PICTURES = {
    "confusion.png": "What is read as what: images, and % of the images of a class.",
    "mistakes.png": "The most confident mistakes; framed where people doubt the label.",
}
SETTINGS = (  # of a recipe, as the page shows them
    "task", "model", "model_options", "dataset", "mean", "std", "image_size", "synthesis", "canvas",
    "patches", "augment", "validation", "validation_split", "pretraining", "epochs", "batch_size",
    "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "label_smoothing",
    "ema_decay", "patience",
)  # fmt: skip


def results(table: Table, outcomes: Mapping[str, Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    """What the runs of a table measured. `outcomes` holds those that are done, by folder name."""
    rows = [measured(row, outcomes, seeds) for row in table.rows]
    if table.by_validation:
        rows.sort(key=lambda row: -(row["validation_accuracy"] or 0))
    return {
        "table": table.name,
        "title": table.title,
        "paper": table.paper,
        "note": table.note,
        "seeds": list(seeds),
        "by_validation": table.by_validation,
        "rows": rows,
        "runs": [run(outcome) for outcome in outcomes.values()],
    }


def measured(row: Row, outcomes: Mapping[str, Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    """A row's figures over the seeds that are done; accuracies in %, losses in nats."""
    names = [folder_name(row, seed) for seed in seeds]
    found = [outcomes[n] for n in names if n in outcomes and outcomes[n].has(row)]
    tests, epochs = [o.test(row) for o in found], [o.epoch(row) for o in found]
    accuracies = [100 * test["test_accuracy"] for test in tests]
    validated = tests if row.further else epochs
    checks = [100 * e["validation_accuracy"] for e in validated if "validation_accuracy" in e]
    total = tests[0]["test_images"] if tests else 0
    return {
        "label": row.label,
        "parameters": found[0].config.facts["parameters"] if found else None,
        "epochs": row.epoch or row.recipe.epochs,
        "of": row.recipe.epochs,  # the epochs of the whole run
        "claimed": row.claimed,
        "claimed_loss": row.claimed_loss,
        "runs": names,
        "accuracies": accuracies,
        "accuracy": mean(accuracies) if found else None,
        "sd": stdev(accuracies) if len(found) > 1 else None,
        "interval": interval(accuracies, total) if found else None,
        "images": total,
        "validation_accuracy": mean(checks) if checks else None,
        "loss": mean(e["train_loss"] for e in epochs) if found and not row.further else None,
        "classifier": row.classifier,
        "test_on": row.test_on or row.recipe.dataset,
        "further": row.further,  # more than the test that ends a training run
    }


def interval(accuracies: Sequence[float], total: int) -> list[float]:
    """Wilson's 95 % interval of the mean accuracy over `total` images, in %.

    Every seed reads the same images: they tell no more about other images than one seed does.
    """
    low, high = wilson_interval(round(mean(accuracies) / 100 * total), total)
    return [100 * low, 100 * high]


def run(outcome: Outcome) -> dict[str, Any]:
    """A run, whole: what it was, and every figure it logged."""
    config = asdict(outcome.config)
    if first := outcome.config.initial_weights:  # another run of the table
        config["initial_weights"] = Path(first).name
    return {
        "name": outcome.folder.name,
        "config": config,
        "seconds": outcome.seconds,
        "epochs": outcome.epochs,
        "tests": list(outcome.tests.values()),
    }


def drawn(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures of a table, by name."""
    epochs = {run["name"]: run["epochs"] for run in found["runs"]}
    lines: dict[str, list[Any]] = {}
    for row in found["rows"]:
        if is_whole(row):
            lines[row["label"]] = [epochs[name] for name in row["runs"] if name in epochs]
    images = {"accuracy.png": style.draw_png(figures.compared, found["rows"])}
    if any(lines.values()) and len(lines) <= MOST_CURVES:
        images["curves.png"] = style.draw_png(figures.several_curves, lines)
    return images


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a row shows what its runs themselves ended with."""
    return row["epochs"] == row["of"] and not row.get("further")


def with_machines(found: Mapping[str, Any]) -> list[str]:
    """Of the runs to look at closely those whose features SVMs read as well."""
    read = {name for row in found["rows"] if row["classifier"] != "softmax" for name in row["runs"]}
    return [name for name in closest(found) if name in read]


def closest(found: Mapping[str, Any]) -> list[str]:
    """The runs to look at closely: of a search the best, else the longest of each recipe."""
    recipes = {run["name"]: run["config"]["recipe"]["name"] for run in found["runs"]}
    last: dict[str, str] = {}
    for row in found["rows"][: 1 if found["by_validation"] else None]:
        for name in [name for name in row["runs"] if name in recipes][:1]:
            last[recipes[name]] = name
    return list(last.values())


def document(found: Mapping[str, Any], folder: Path) -> page.Document:
    """The page of a table; `folder` holds its pictures and the reports on some of its runs."""
    doc = page.Document(found["title"])
    doc.add(page.Paragraph(f"{found['paper']}. {found['note']}"), comparison(found))
    doc.add(*pictures(folder, PICTURES))
    for row in found["rows"]:
        for name in row["runs"] if is_whole(row) else ():
            if (reported(folder, name) / REPORT).exists():
                doc.add(page.Heading(f"{row['label']}: {name}"), *closer(folder, name))
            elif (reported(folder, name) / MISREAD).exists():
                doc.add(page.Heading(f"{row['label']}: {name}"))
                picture = f"../{REPORTS}/{name}/{MISREAD}"
                doc.add(*pictures(folder, {picture: MISREAD_CAPTION}))
    doc.add(page.Heading("Runs"), runs(found))
    doc.add(page.Heading("Configuration"), configuration(found))
    return doc


def reported(folder: Path, run: str) -> Path:
    """Where the report on a run lies, beside the folder of a table."""
    return folder.parent / REPORTS / run


def closer(folder: Path, name: str) -> Iterator[page.Block]:
    """What the report on a run says about its errors."""
    where = f"../{REPORTS}/{name}"
    yield from pictures(folder, {f"{where}/{file}": text for file, text in REPORT_PICTURES.items()})
    if (reported(folder, name) / MACHINES).exists():
        machines = json.loads((reported(folder, name) / MACHINES).read_text("utf-8"))
        yield from (svm.rejections(machines), svm.machines(machines))
        yield from pictures(folder, {f"{where}/{svm.PICTURE}": svm.CAPTION})
    report = json.loads((reported(folder, name) / REPORT).read_text("utf-8"))
    classes = report["classes"]
    rows = [
        [
            str(mistake["index"]),
            classes[mistake["label"]],
            classes[mistake["read_as"]],
            percent(100 * mistake["probability"]),
            "yes" if mistake["doubted"] else "",
        ]
        for mistake in report["mistakes"][:MISTAKES]
    ]
    caption = (
        f"The {len(rows)} most confident of {len(report['mistakes']):,} mistakes; "
        f"`{REPORTS}/{name}/{REPORT}` lists all, and the page beside it tells more."
    )
    header = ["image", "label", "read as", "probability", "label doubted by people"]
    yield page.Table(header, rows, caption)


def pictures(folder: Path, captions: Mapping[str, str]) -> Iterator[page.Picture]:
    """Those of the named pictures that are there."""
    for name, caption in captions.items():
        if (folder / name).exists():
            yield page.Picture(name, (folder / name).read_bytes(), caption)


def comparison(found: Mapping[str, Any]) -> page.Table:
    """Claimed beside measured, a line for each row."""
    rows = found["rows"]
    several = len({row["parameters"] for row in rows} - {None}) > 1
    unequal = len({row["images"] for row in rows} - {0}) > 1
    columns = {
        "": lambda row: row["label"],
        "parameters": lambda row: shown(row["parameters"], ",") if several else None,
        "claimed": lambda row: percent(row["claimed"]),
        "measured": lambda row: percent(row["accuracy"], row["sd"]) or "not run",
        "seeds": lambda row: str(len(row["accuracies"])),
        "95 % interval": lambda row: span(row["interval"]),
        "validation": lambda row: percent(row["validation_accuracy"]),
        "test images": lambda row: shown(row["images"] or None, ",") if unequal else None,
        "claimed loss": lambda row: shown(row["claimed_loss"], ".4f"),
        "training loss": lambda row: shown(row["loss"], ".4f"),
    }
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    cells = {name: column for name, column in cells.items() if any(column)}
    lines = [[text or NOTHING for text in line] for line in zip(*cells.values())]
    return page.Table(list(cells), lines, caption(rows))


def caption(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the columns of the comparison mean."""
    counts = {row["images"] for row in rows} - {0}
    images = f" over {max(counts):,} images" if len(counts) == 1 else ""
    text = (
        f"Test accuracy{images}, mean ± standard deviation over seeds; the interval "
        "is Wilson's for that mean (all seeds read the same images). Losses in nats; ours is the "
        "mean over the last epoch while it trained."
    )
    whole = [row["of"] for row in rows if row["epochs"] < row["of"]]
    if whole:
        text += f" Rows of one network are checkpoints of one run of {max(whole)} epochs."
    return text


def percent(value: float | None, sd: float | None = None) -> str:
    """ "99.27 ± 0.08 %", or nothing for None."""
    if value is None:
        return ""
    return f"{value:.2f} %" if sd is None else f"{value:.2f} ± {sd:.2f} %"


def span(ends: Sequence[float] | None) -> str:
    """ "99.08 to 99.42 %", or nothing for None."""
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f} %"


def shown(value: float | None, form: str) -> str:
    """A number in a form of `format`, or nothing for None."""
    return "" if value is None else format(value, form)


def runs(found: Mapping[str, Any]) -> page.Table:
    """Where each figure comes from: run folder, machine, commit and time."""
    header = ["run", "test accuracy", "epochs", "time", "threads", "processor", "date", "commit"]
    lines = []
    for one in found["runs"]:
        config = one["config"]
        machine = config["facts"].get("machine", {})
        lines.append(
            [
                one["name"],
                percent(100 * of_network(one)["test_accuracy"]),
                str(len(one["epochs"])),
                clock(one["seconds"]),
                str(config["threads"]),
                *(str(machine.get(name) or NOTHING) for name in ("processor", "date", "commit")),
            ]
        )
    return page.Table(header, lines, f"`{NAME}` holds every run's configuration and curve.")


def of_network(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The test of a run that ended its training."""
    last: Mapping[str, Any] = [test for test in one["tests"] if "classifier" not in test][-1]
    return last


def configuration(found: Mapping[str, Any]) -> page.Table:
    """What decides the runs."""
    recipes = [one["config"]["recipe"] for one in found["runs"]]
    lines = []
    for name in SETTINGS:
        distinct = list(dict.fromkeys(text_of(recipe.get(name)) for recipe in recipes))
        if any(distinct):
            lines.append([name, " / ".join(text or "none" for text in distinct)])
    caption = f"Where runs differ, every value is listed; `{NAME}` tells which run has which."
    return page.Table(["setting", "value"], lines, caption)


def text_of(value: Any) -> str:
    """A setting's value as the page shows it; empty for what is off."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items() if v)
    return "" if value in (None, 0) else str(value)
