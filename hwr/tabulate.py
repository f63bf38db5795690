"""A table's results: claimed beside measured, from the runs that are done, as JSON and as a page.

`results` makes of the runs a dictionary that JSON can hold; `document` makes of it a page. What is
not run is listed as not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hwr.progress import clock
from hwr.recipes import Row, Table
from hwr.report import document as page
from hwr.statistics import wilson_interval
from hwr.trials import Outcome, folder_name

NAME = "results.json"
NOTHING = "-"  # in a cell
SETTINGS = (  # of a recipe, as the page shows them
    "model", "model_options", "dataset", "mean", "std", "image_size", "augment", "validation",
    "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup",
    "label_smoothing", "ema_decay", "patience",
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
        "rows": rows,
        "runs": [run(outcome) for outcome in outcomes.values()],
        "pictures": [],
    }


def measured(row: Row, outcomes: Mapping[str, Outcome], seeds: Sequence[int]) -> dict[str, Any]:
    """A row's figures over the seeds that are done; accuracies in %, losses in nats."""
    names = [folder_name(row, seed) for seed in seeds]
    found = [outcomes[name] for name in names if name in outcomes]
    tests, epochs = [o.test(row) for o in found], [o.epoch(row) for o in found]
    accuracies = [100 * test["test_accuracy"] for test in tests]
    checks = [100 * e["validation_accuracy"] for e in epochs if "validation_accuracy" in e]
    total = tests[0]["test_images"] if tests else 0
    return {
        "label": row.label,
        "parameters": found[0].config.facts["parameters"] if found else None,
        "epochs": row.epoch or row.recipe.epochs,
        "checkpoint_of": row.recipe.epochs if row.epoch else None,
        "claimed": row.claimed,
        "claimed_loss": row.claimed_loss,
        "runs": names,
        "accuracies": accuracies,
        "accuracy": mean(accuracies) if found else None,
        "sd": stdev(accuracies) if len(found) > 1 else None,
        "interval": interval(accuracies, total) if found else None,
        "images": total,
        "validation_accuracy": mean(checks) if checks else None,
        "loss": mean(e["train_loss"] for e in epochs) if found else None,
    }


def interval(accuracies: Sequence[float], total: int) -> list[float]:
    """Wilson's 95 % interval of the mean accuracy over `total` images, in %.

    Every seed reads the same images: they tell no more about other images than one seed does.
    """
    low, high = wilson_interval(round(mean(accuracies) / 100 * total), total)
    return [100 * low, 100 * high]


def run(outcome: Outcome) -> dict[str, Any]:
    """A run, whole: what it was, and every figure it logged."""
    return {
        "name": outcome.folder.name,
        "config": asdict(outcome.config),
        "seconds": outcome.seconds,
        "epochs": outcome.epochs,
        "tests": list(outcome.tests.values()),
    }


def document(found: Mapping[str, Any], folder: Path) -> page.Document:
    """The page of a table; its pictures are read from `folder`."""
    doc = page.Document(found["title"])
    doc.add(page.Paragraph(f"{found['paper']}. {found['note']}"))
    doc.add(comparison(found))
    for picture in found["pictures"]:
        file = folder / picture["name"]
        if file.exists():
            doc.add(page.Picture(picture["name"], file.read_bytes(), picture["caption"]))
    doc.add(page.Heading("Runs"), runs(found))
    doc.add(page.Heading("Configuration"), configuration(found))
    return doc


def comparison(found: Mapping[str, Any]) -> page.Table:
    """Claimed beside measured, a line for each row."""
    rows = found["rows"]
    several = len({row["parameters"] for row in rows} - {None}) > 1
    columns = {
        "": lambda row: row["label"],
        "parameters": lambda row: shown(row["parameters"], ",") if several else None,
        "claimed": lambda row: percent(row["claimed"]),
        "measured": lambda row: percent(row["accuracy"], row["sd"]) or "not run",
        "seeds": lambda row: str(len(row["accuracies"])),
        "95 % interval": lambda row: span(row["interval"]),
        "validation": lambda row: percent(row["validation_accuracy"]),
        "claimed loss": lambda row: shown(row["claimed_loss"], ".4f"),
        "training loss": lambda row: shown(row["loss"], ".4f"),
    }
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    cells = {name: column for name, column in cells.items() if any(column)}
    lines = [[text or NOTHING for text in line] for line in zip(*cells.values())]
    return page.Table(list(cells), lines, caption(rows))


def caption(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the columns of the comparison mean."""
    images = max(row["images"] for row in rows)
    text = (
        f"Test accuracy over {images:,} images, mean ± standard deviation over seeds; the interval "
        "is Wilson's for that mean (all seeds read the same images). Losses in nats; ours is the "
        "mean over the last epoch while it trained."
    )
    shared = {row["checkpoint_of"] for row in rows if row["checkpoint_of"]}
    if shared:
        text += f" Rows of one network are checkpoints of one run of {max(shared)} epochs."
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
                percent(100 * one["tests"][-1]["test_accuracy"]),
                str(len(one["epochs"])),
                clock(one["seconds"]),
                str(config["threads"]),
                *(str(machine.get(name) or NOTHING) for name in ("processor", "date", "commit")),
            ]
        )
    return page.Table(header, lines, f"`{NAME}` holds every run's configuration and curve.")


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
