"""How well photographs are read: `python -m hwr.evaluate --photos FOLDER`.

The folder holds images (in itself or in `images/`) and `labels.json`: for each image its `rows` in
reading order and, where known, its `digits` with label and box x, y, w, h after `rotate_to_read`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tinynn as tn
from hwr import command
from hwr.errors import UserError
from hwr.progress import Progress
from hwr.statistics import describe_accuracy, wilson_interval
from hwr.strings import edit_distance
from hwr.vision.classifier import from_run
from hwr.vision.photograph import decode, read_bytes, require_cv2
from hwr.vision.reader import Reader
from tinynn.kernels.threads import usable_cpus

LABELS = "labels.json"
CLAIMED, CLAIMED_OF = 99, 100  # P0, section 4: photographed digits read right
OVERLAP = 0.3  # intersection over union from which two boxes are of one digit
WITHIN = 0.5  # share of a box inside another from which it is a part of it

Box = Sequence[float]


@dataclass
class Counts:
    """Digits of photographs, by what became of them.

    By box: of the known `boxes` so many were `found`, of these some `misread`. Of the others some
    were `refused` as no digit and some `merged` with a neighbour. `split` ones were read as
    several; `false` finds are of no digit. By transcript: `edits` make what was read what was
    written; `exact` lines need none.
    """

    digits: int = 0
    edits: int = 0
    lines: int = 0
    exact: int = 0
    boxes: int = 0
    found: int = 0
    misread: int = 0
    refused: int = 0
    split: int = 0
    merged: int = 0
    false: int = 0

    def add(self, other: Counts) -> None:
        """Count another photograph in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def right(self) -> int:
        """Digits less edits."""
        return max(self.digits - self.edits, 0)


@dataclass
class Result:
    """All photographs together, and each with what was read."""

    total: Counts = field(default_factory=Counts)
    photos: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Counts, accuracies with their 95 % intervals, and the photographs."""
        total = self.total
        values: dict[str, Any] = {"counts": asdict(total), "photos": self.photos}
        for name, part, whole in (
            ("digit_accuracy", total.right, total.digits),
            ("line_accuracy", total.exact, total.lines),
            ("found", total.found, total.boxes),
        ):
            if whole:
                values[name] = part / whole
                values[f"{name}_interval"] = wilson_interval(part, whole)
        values["claimed"] = CLAIMED / CLAIMED_OF
        return values


def evaluate_photos(reader: Reader, folder: Path) -> Result:
    """Read every labelled photograph of a folder. UserError if the folder is not as described."""
    labels, result = read_labels(folder), Result()
    with Progress("photographs", len(labels), unit="photographs") as progress:
        for name, truth in labels.items():
            photo = decode(read_bytes(find(folder, name)), name)
            page = reader.read(photo.image)
            counts = compare(page, truth, photo.image.shape[:2])
            result.total.add(counts)
            lines = [line["text"] for line in page["lines"]]
            facts = {"image": name, "writer": truth.get("writer_id_guess")}
            facts |= {"written": truth["rows"], "read": lines}
            result.photos.append(facts | asdict(counts))
            progress.update(1)
    return result


def read_labels(folder: Path) -> dict[str, Any]:
    """labels.json. UserError if it is missing or not of the form described above."""
    path = folder / LABELS
    if not folder.is_dir():
        raise UserError(f"--photos {folder}: there is no such folder")
    text = read_bytes(path)
    try:
        labels = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); correct the file") from None
    if not isinstance(labels, dict) or not labels:
        raise UserError(f"{path}: expected an object with an entry for each image")
    for name, truth in labels.items():
        rows = truth.get("rows") if isinstance(truth, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise UserError(f'{path}: {name} lacks "rows", a list of the lines as text')
    return labels


def find(folder: Path, name: str) -> Path:
    """Where an image lies. UserError if it is missing."""
    for path in (folder / name, folder / "images" / name):
        if path.exists():
            return path
    raise UserError(f"{folder}: {LABELS} names {name}, which is neither there nor in images/")


def compare(page: dict[str, Any], truth: dict[str, Any], shape: tuple[int, ...]) -> Counts:
    """What became of the digits of one photograph."""
    lines, rows = [line["text"] for line in page["lines"]], truth["rows"]
    counts = Counts(digits=sum(map(len, rows)), lines=len(rows))
    counts.edits = edit_distance("".join(lines), "".join(rows))
    left = list(lines)
    for row in rows:
        if row in left:
            left.remove(row)
            counts.exact += 1
    known = [digit for digit in truth.get("digits") or [] if digit.get("box")]
    if known:
        turn = truth.get("rotate_to_read")
        boxes = [upright_to_photo(digit["box"], turn, shape) for digit in known]
        count_boxes(counts, page, boxes, [digit["label"] for digit in known])
    return counts


def upright_to_photo(box: Box, turn: str | None, shape: tuple[int, ...]) -> Box:
    """A box of the photograph turned for reading ("cw", "ccw"), in the photograph as it is."""
    x, y, w, h = box
    height, width = shape
    if turn == "ccw":
        return width - y - h, x, h, w
    return (y, height - x - w, h, w) if turn == "cw" else box


def count_boxes(
    counts: Counts, page: dict[str, Any], boxes: Sequence[Box], labels: Sequence[int]
) -> None:
    """Match the digits read with those written, best overlaps first, and count."""
    read = [digit for line in page["lines"] for digit in line["digits"]]
    pairs = sorted(
        ((overlap(digit["box"], box), i, j) for i, digit in enumerate(read)
         for j, box in enumerate(boxes)), reverse=True,
    )  # fmt: skip
    of_read: dict[int, int] = {}
    for share, i, j in pairs:
        if share >= OVERLAP and i not in of_read and j not in of_read.values():
            of_read[i] = j
    counts.boxes, counts.found = len(boxes), len(of_read)
    counts.misread = sum(read[i]["label"] != labels[j] for i, j in of_read.items())
    counts.false = len(read) - len(of_read)
    for j, box in enumerate(boxes):
        parts = sum(inside(digit["box"], box) > WITHIN for digit in read)
        counts.split += parts > 1
        if j not in of_read.values():
            refused = any(overlap(mark["box"], box) >= OVERLAP for mark in page["refused"])
            counts.refused += refused
            counts.merged += not refused and any(inside(box, d["box"]) > WITHIN for d in read)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    both = common(a, b)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def inside(a: Box, b: Box) -> float:
    """The share of box a that lies in box b."""
    return common(a, b) / (a[2] * a[3])


def common(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0)


def report_photos(args: argparse.Namespace) -> int:
    """What `hwr.evaluate --photos` does: read the folder and print the result, or all as JSON."""
    backend = args.backend or "numpy"
    threads = args.threads or usable_cpus()
    command.check_backend(backend, args.allow_reference)
    command.set_threads(threads)
    require_cv2().setNumThreads(threads)
    with tn.use_backend(backend):
        reader = Reader(None if args.run is None else from_run(args.run))
        result = evaluate_photos(reader, args.photos)
    print(json.dumps(result.as_json()) if args.json else describe(result))
    return 0


def describe(result: Result) -> str:
    """The result as text, beside the paper's."""
    total, lines = result.total, []
    for photo in result.photos:
        if photo["edits"]:
            lines.append(
                f"{photo['image']}: {photo['edits']} of {photo['digits']} wrong: written "
                f"{' '.join(photo['written'])}, read {' '.join(photo['read']) or 'nothing'}"
            )
    lines.append(f"{len(result.photos)} photographs")
    if total.digits:
        lines.append(f"digits read right: {describe_accuracy(total.right, total.digits)}")
        lines.append(f"lines read right: {describe_accuracy(total.exact, total.lines)}")
    if total.boxes:
        lines.append(f"digits found, where boxes are known: "
                     f"{describe_accuracy(total.found, total.boxes)}")  # fmt: skip
        lines.append(
            f"  of those found {total.misread} misread; of the others {total.refused} refused and "
            f"{total.merged} merged; {total.split} split; {total.false} false finds"
        )
    lines.append(f"P0 reports {CLAIMED} of {CLAIMED_OF} photographed digits read right")
    return "\n".join(lines)
