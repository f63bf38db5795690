"""The data: `python -m hwr.data list | fetch | show | check | augment | strings`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwr import command, data
from hwr.data import location
from hwr.data.augment import Augment
from hwr.data.catalogue import Entry, datasets
from hwr.data.picture import augmented, png, sheet
from hwr.errors import UserError
from hwr.files import write_atomic
from hwr.recipes import DEFAULT, Recipe, recipes
from hwr.strings import text, unpad


def parser() -> argparse.ArgumentParser:
    """The command line: a command for each thing to do with data."""
    p = argparse.ArgumentParser(prog="python -m hwr.data", description="Get and see the data.")
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    defaults: Any = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    listed = commands.add_parser("list", help="every dataset, and whether it is here", **defaults)
    listed.set_defaults(run=list_datasets)
    listed.add_argument("--json", action="store_true", help="everything, as JSON")

    fetched = commands.add_parser("fetch", help="download a dataset", **defaults)
    fetched.set_defaults(run=fetch_dataset)

    shown = commands.add_parser("show", help="draw some of its images with labels", **defaults)
    shown.set_defaults(run=show_dataset)
    shown.add_argument("--split", help="which images (default: the first split)")
    shown.add_argument("--count", metavar="N", type=command.count(1), default=60, help="how many")
    shown.add_argument("--seed", metavar="N", type=command.count(0), default=0, help="which ones")
    shown.add_argument(
        "--output", metavar="FILE", type=Path, help="the picture (default: NAME-SPLIT.png)"
    )

    checked = commands.add_parser(
        "check", help="count its images, and find those in two splits", **defaults
    )
    checked.set_defaults(run=check_dataset)
    for each in (fetched, shown, checked):
        each.add_argument("name", metavar="NAME", help="the dataset; `list` shows them")
    for each in (listed, fetched, shown, checked):
        each.add_argument(
            "--data-dir",
            metavar="DIR",
            type=Path,
            help=f"folder of the data (default: {location.VARIABLE}, else the user's cache)",
        )

    augment = commands.add_parser(
        "augment",
        help="draw augmented images",
        description="Draw images of each class: on the left as they are, beside them as training "
        "sees them.",
        **defaults,
    )
    augment.set_defaults(run=draw_augmented)
    augment.add_argument("--recipe", metavar="NAME", default=DEFAULT, help="the experiment")
    augment.add_argument(
        "--augment",
        metavar="WARP",
        type=command.augmentation,
        default=argparse.SUPPRESS,
        help=f"{command.AUGMENT_HELP} (default: the recipe's)",
    )
    augment.add_argument("--versions", metavar="N", type=command.count(1), default=12, help="each")
    augment.add_argument("--seed", metavar="N", type=command.count(0), default=0, help="of warps")
    augment.add_argument("--data-dir", metavar="DIR", type=Path, help="folder of the data")
    augment.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("augment.png"), help="the picture"
    )

    strings = commands.add_parser(
        "strings",
        help="draw composed strings",
        description="Draw strings of digits as a recipe composes them of single digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    strings.set_defaults(run=draw_strings)
    strings.add_argument("--recipe", metavar="NAME", default="zhan-strings", help="the experiment")
    strings.add_argument(
        "--rows", metavar="N", type=command.count(1), default=14, help="of two strings"
    )
    strings.add_argument("--seed", metavar="N", type=command.count(0), default=0, help="of strings")
    strings.add_argument("--data-dir", metavar="DIR", type=Path, help="folder of the data")
    strings.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("strings.png"), help="the picture"
    )
    return p


def list_datasets(args: argparse.Namespace) -> int:
    """Print the table of datasets."""
    entries = sorted(map(datasets.get, datasets.names()), key=lambda e: (e.kind, e.name))
    above = location.root(args.data_dir)
    here = {entry.name: location.is_here(entry, above) for entry in entries}
    if args.json:
        print(json.dumps([as_json(e) | {"here": here[e.name]} for e in entries], indent=2))
        return 0
    for kind in ("characters", "strings"):
        chosen = [entry for entry in entries if entry.kind == kind]
        print(f"{kind}, one {'an image' if kind == 'characters' else 'line an image'}")
        width = max(len(entry.name) for entry in entries)
        for entry in chosen:
            print(f"  {entry.name:{width}}  {'here' if here[entry.name] else '-':4}  {entry.title}")
            print(f"      {images_of(entry)}; licence: {entry.licence}")
            print(f"      {entry.source}")
        print()
    print(f"data in {above}; get more by python -m hwr.data fetch NAME")
    return 0


def images_of(entry: Entry) -> str:
    """How many images of how many classes, as the table shows it."""
    counts = [f"{count:,} {split}" for split, count in entry.splits.items() if count]
    what = "symbols" if entry.kind == "strings" else "classes"
    sizes = [" + ".join(counts)] if counts else []
    sizes += [f"{entry.classes} {what}"] if entry.classes else []
    return ", ".join([*sizes, entry.size])


def as_json(entry: Entry) -> dict[str, Any]:
    """Everything about a dataset but its loader."""
    values = {k: v for k, v in vars(entry).items() if k not in ("load", "marker", "folder")}
    downloads = [vars(download) for download in entry.downloads]
    return values | {"splits": dict(entry.splits), "downloads": downloads}


def fetch_dataset(args: argparse.Namespace) -> int:
    """Download a dataset and say where it lies."""
    from hwr.data.fetch import fetch  # imports http and ssl

    entry = datasets.get(args.name)
    for path in fetch(entry, location.root(args.data_dir)):
        print(path)
    unchecked = [d.file for d in entry.downloads if not d.hash]
    if unchecked:
        print(
            f"no hash is documented for {', '.join(unchecked)}: checked by size and format, and "
            "recorded for later fetches"
        )
    print(f"licence: {entry.licence}\nnext: python -m hwr.data show {entry.name}")
    return 0


def show_dataset(args: argparse.Namespace) -> int:
    """Write a contact sheet."""
    from hwr.data.contact import choose, contact_sheet

    entry = datasets.get(args.name)
    split = args.split or next(iter(entry.splits))
    found = location.read(entry, split, args.data_dir)
    chosen = choose(found, args.count, args.seed)
    output = args.output or Path(f"{entry.name}-{split}.png")
    write_atomic(output, png(contact_sheet(found, chosen)))
    note = f" ({found.note})" if found.note else ""
    print(f"{output}: {len(chosen)} of the {len(found):,} images of {entry.name} {split}{note}")
    return 0


def check_dataset(args: argparse.Namespace) -> int:
    """Read every split, count, and report repeated images. Returns 1 if two splits share some."""
    from hwr.data.duplicates import compare

    entry = datasets.get(args.name)
    found = {split: location.read(entry, split, args.data_dir) for split in entry.splits}
    for split, part in found.items():
        note = f"; {part.note}" if part.note else ""
        print(f"{entry.name} {split}: {len(part):,} images{note}")
    texts = {
        split: part.texts if isinstance(part, data.Strings) else part.labels.tolist()
        for split, part in found.items()
    }
    report = compare({split: (list(part.images), texts[split]) for split, part in found.items()})
    for split, count in report.within.items():
        if count:
            print(f"{split}: {count:,} images repeat others of it")
    shared = 0
    for (one, other), pairs in report.across.items():
        shared += len(pairs)
        where = ", ".join(f"{other} {j} = {one} {i}" for i, j in pairs[:5])
        print(f"{one} and {other} share {len(pairs):,} images" + (f": {where}" if pairs else ""))
    if report.contradictions:
        (a, i), (b, j) = report.contradictions[0]
        print(
            f"{len(report.contradictions):,} images repeat one with another label: {b} {j} is "
            f"{texts[b][j]!r}, the same as {a} {i}, {texts[a][i]!r}"
        )
    return 1 if shared else 0


def draw_augmented(args: argparse.Namespace) -> int:
    """Write the picture of what an augmentation does. UserError if the recipe has none."""
    recipe: Recipe = recipes.get(args.recipe)
    augment: Augment | None = getattr(args, "augment", recipe.augment)
    if augment is None:
        raise UserError(
            f"{recipe.name} trains on the images as they are; name another --recipe, or say what "
            "to draw, such as --augment affine"
        )
    train = data.load(recipe.dataset, split="train", data_dir=args.data_dir)
    picture = augmented(train, augment, args.versions, args.seed)
    write_atomic(args.output, png(picture))
    print(f"{args.output}: {len(np.unique(train.labels))} classes of {train.name}, {augment}")
    return 0


def draw_strings(args: argparse.Namespace) -> int:
    """Write the picture of composed strings. UserError if the recipe composes none."""
    recipe: Recipe = recipes.get(args.recipe)
    if recipe.synthesis is None:
        raise UserError(f"{recipe.name} composes no strings; name another --recipe")
    digits = data.load(recipe.dataset, split="train", data_dir=args.data_dir)
    chosen = np.arange(2 * args.rows) % len(digits)
    images, labels = recipe.synthesis(digits, chosen, seed=args.seed, epoch=0)
    write_atomic(args.output, png(sheet([images[::2], images[1::2]])))
    texts = [text(string, digits.classes) for string in unpad(labels)]
    print(f"{args.output}: {recipe.synthesis}, of the digits of {digits.name}, row by row:")
    for left, right in zip(texts[::2], texts[1::2]):
        print(f"{left:{recipe.synthesis.longest}} {right}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    args = parser().parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    command.run("hwr.data", main)
