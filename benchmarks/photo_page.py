"""The page of results on photographs, with what its figures are worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from hwr.statistics import wilson_interval
from hwr.vision.classifier import FACTS, SHIPPED
from hwr.vision.evaluation import Counts

TOUCHING = tuple(f"hypjudy_{i}_A4" for i in (1, 2, 3, 4))  # pages on which digits touch
HEAD = "| {} | digits read right | 95 % interval | lines |"
RULE = "|---|---|---|---|"


def tables(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Photographs", "", "Made by `python -m benchmarks.photos --photos FOLDER`, part by "
             "part; `photos.json` holds the commit and the machine of each.", ""]  # fmt: skip
    lines += network()
    for name, section in SECTIONS.items():
        if name in results:
            about = results[name]["machine"]
            threads = results[name]["threads"]
            lines += section(results[name]["rows"])
            lines += ["", f"<sub>{threads} threads, commit {about['commit']}</sub>", ""]
    if missing := [name for name in SECTIONS if name not in results]:
        lines += [f"Not measured yet, of the parts of the command: {', '.join(missing)}.", ""]
    lines += [
        "## Pictures", "",
        "A sheet on a desk, half in shadow, drawn from MNIST, and every step of reading it:", "",
        "![read](read.png)", "", "![every step](explain.png)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def network() -> list[str]:
    """What is shipped, and how it was settled."""
    facts = json.loads((SHIPPED / FACTS).read_text("utf-8"))
    test, recipe = facts["test"], facts["recipe"]
    low, high = test["interval"]
    return [
        "## The network",
        "",
        f"MNIST's {test['images']:,} test images: **{100 * test['accuracy']:.2f} %** read right "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %), refused ones counted as errors; "
        f"{100 * test['as_trained']:.2f} % with the reject class's share of the training set, "
        f"{100 * test['nothing_refused']:.2f} % if none is refused. Trained by `{facts['train']}`.",
        "",
        f"Settled before it was trained: one training of {recipe['epochs']} epochs over "
        f"{facts['train_images']:,} photographs of the first 55,000 of MNIST's training images "
        "and marks that are no digits, seed "
        f"{facts['seed']}, the average of the weights after the last epoch. Only the temperature "
        f"({facts['temperature']:g}) was left to choose: photographs of the last 5,000, which are "
        "in the training set in no form, are likeliest at it. The reject class has the prior that "
        "every class has, 1/11. The test images were read once, when all this was done. An "
        "earlier network was shipped with a prior settled after its effect on the test images was "
        "seen (99.46 %; 99.32 % as trained); that 1/11 is near it was known.",
        "",
    ]


def photographs(found: dict[str, Any]) -> list[str]:
    """The labelled photographs by writer."""
    photos, counts = found["photos"], found["counts"]
    lines = [
        "## Real photographs",
        "",
        "P0 reports 99 of 100 digits of its own. These figures flatter: all of these photographs "
        "were looked at while rules and parameters (ruling lines, cut costs, lone digits, page "
        "scores) were adjusted.",
        "",
        HEAD.format("writer"), RULE,
    ]  # fmt: skip
    for writer in dict.fromkeys(photo["writer"] for photo in photos):
        lines.append(row_of(writer, summed(p for p in photos if p["writer"] == writer)))
    touching = [p for p in photos if p["image"].rsplit(".", 1)[0] in TOUCHING]
    lines += [
        row_of("all", counts),
        row_of("pages with touching digits", summed(touching)),
        row_of("all other pages", summed(p for p in photos if p not in touching)),
        "",
        f"Of {counts['boxes']} digits with known boxes {counts['found']} were found, "
        f"{counts['misread']} misread, {counts['refused']} refused, {counts['merged']} merged, "
        f"{counts['split']} split; {counts['false']} false finds.",
    ]
    return lines


def desks(rows: list[dict[str, Any]]) -> list[str]:
    """Sheets on a desk, found and made flat, then read."""
    sheets = sum(row["sheet"] for row in rows)
    return [
        "## Sheets photographed on a desk",
        "",
        f"{sheets} of {len(rows)} sheets were found and made flat; read by their transcripts. The "
        "same sheets, cut out, are among the photographs above.",
        "",
        HEAD.format("photograph"), RULE,
        *(row_of(row["image"], row) for row in rows),
        row_of("all", summed(rows)),
    ]  # fmt: skip


def writers(found: dict[str, Any]) -> list[str]:
    """What parameters chosen without a writer read of that writer."""
    names = ", ".join(row["change"] for row in found["grid"])
    total = summed(found["chosen"])
    return [
        "## Parameters chosen without the writer they are tested on",
        "",
        "Of this grid, each row with the setting that needs the fewest edits on all other "
        f"writers; of equal ones the first: {names}. The values as shipped had seen all writers, "
        "and so had the rules.",
        "",
        "| writer left out | chosen | digits read right | 95 % interval | lines |",
        "|---|---|---|---|---|",
        *(row_of(f"{row['writer']} | {row['chosen']}", row) for row in found["chosen"]),
        row_of("all | ", total),
        "",
        "| the grid on all writers | digits read right | 95 % interval | lines |", RULE,
        *(row_of(row["change"], row) for row in found["grid"]),
    ]  # fmt: skip


def steps(title: str) -> Callable[[list[dict[str, Any]]], list[str]]:
    """A section with a row for each change."""
    return lambda rows: [
        f"## {title}", "", HEAD.format("change"), RULE,
        *(row_of(row["change"], row) for row in rows),
    ]  # fmt: skip


def preparation(rows: list[dict[str, Any]]) -> list[str]:
    """Ways to 28x28 by network."""
    networks = list(rows[0]["networks"])
    lines = [
        "## From a photographed digit to 28x28",
        "",
        f"{rows[0]['images']:,} test digits of MNIST, each drawn on a small photograph of its own "
        "with uneven light, noise and blur; digits read right in %, of ten classes.",
        "",
        "| preparation | " + " | ".join(networks) + " |",
        "|---|" + "---|" * len(networks),
    ]
    for row in rows:
        shares = (f"{100 * row['networks'][name]['accuracy']:.1f}" for name in networks)
        lines.append(f"| {row['preparation']} | " + " | ".join(shares) + " |")
    return lines


def blanks(rows: list[dict[str, Any]]) -> list[str]:
    """Pages without numbers."""
    pages, false = (sum(row[name] for row in rows) for name in ("pages", "digits"))
    return [
        "## Pages without numbers",
        "",
        f"Drawn here, of seeds that no rule was chosen by: {false} digits read on {pages} pages.",
        "",
        "| page | pages | read on | digits |", RULE,
        *(f"| {row['kind']} | {row['pages']} | {row['read_on']} | {row['digits']} |"
          for row in rows),
    ]  # fmt: skip


def times(found: dict[str, Any]) -> list[str]:
    """Where the time goes."""
    lines = [
        "## Time",
        "",
        f"A photograph of 12 megapixels, decoded: {found['seconds']:.2f} s "
        f"({found['cpu_seconds']:.2f} s of the processor).",
        "",
        "| step | seconds |", "|---|---|",
        *(f"| {step} | {seconds:.3f} |" for step, seconds in found["steps"].items()), "",
        "The command, from its start to its end:", "",
        "| photograph | seconds | of the processor | peak memory, MiB |", RULE,
    ]  # fmt: skip
    for name, run in found["commands"].items():
        lines.append(
            f"| {name} | {run['seconds']:.2f} | {run['cpu_seconds']:.2f} | {run['peak_mib']:.0f} |"
        )
    return lines


SECTIONS: dict[str, Callable[[Any], Sequence[str]]] = {
    "real": photographs,
    "desk": desks,
    "singles": steps("Pictures of one digit"),
    "writers": writers,
    "steps": steps("One step left out or replaced, on the real photographs"),
    "drawn": steps("One step left out or replaced, on photographs drawn from MNIST's test digits"),
    "preparation": preparation,
    "altered": steps("Some of the real photographs, altered"),
    "blank": blanks,
    "time": times,
}


def summed(photos: Any) -> dict[str, int]:
    """The counts of several photographs together."""
    total = asdict(Counts())
    for photo in photos:
        total = {name: value + photo[name] for name, value in total.items()}
    return total


def row_of(name: str, counts: dict[str, Any]) -> str:
    """A row of a table: what was read right."""
    right, digits = max(counts["digits"] - counts["edits"], 0), counts["digits"]
    low, high = wilson_interval(right, digits)
    return (
        f"| {name} | {100 * right / digits:.1f} % ({right} of {digits}) | "
        f"{100 * low:.1f} to {100 * high:.1f} % | {counts['exact']} of {counts['lines']} |"
    )
