"""Read the handwritten digits in photographs: `python -m hwr.predict photo.jpg`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwr import command
from hwr.errors import UserError
from hwr.files import make_folder, write_atomic
from tinynn.backend import backend_names
from tinynn.kernels.threads import usable_cpus

if TYPE_CHECKING:
    from hwr.vision.photograph import Photograph
    from hwr.vision.reader import Reader

STDIN = "-"
ENDINGS = {"picture": ".read.png", "json": ".read.json", "explain": ".explain.png"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.predict",
        description="Find and read the handwritten digits in photographs. Beside each photograph "
        "two files are written: NAME.read.png shows what was read and what was refused, "
        "NAME.read.json holds the same with boxes in pixels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("images", nargs="+", metavar="IMAGE",
                   help="files, folders or patterns; - is standard input")  # fmt: skip
    p.add_argument("--output-dir", type=Path, metavar="DIR",
                   help="where to write (default: beside each photograph)")  # fmt: skip
    p.add_argument("--string", action="store_true",
                   help="each image is one string, read as a whole by --model, a run that reads "
                   "strings; nothing is written")  # fmt: skip
    p.add_argument("--json", action="store_true",
                   help="print the result as JSON and nothing else; write files only if "
                   "--output-dir or --explain is given")  # fmt: skip
    p.add_argument("--explain", action="store_true",
                   help="also write NAME.explain.png: every step of the reading")  # fmt: skip
    p.add_argument("--force", action="store_true", help="overwrite files of an earlier reading")
    p.add_argument("--model", type=Path, metavar="RUN",
                   help="folder of a run, such as runs/photo (default: as shipped)")  # fmt: skip
    p.add_argument("--backend", default="reference",
                   help=f"one of {', '.join(backend_names())}; numpy compiles kernels when first "
                   "used, which pays for many photographs or a large --model")  # fmt: skip
    command.add_allow_reference(p)
    p.add_argument("--threads", metavar="N", type=command.count(1), default=usable_cpus(),
                   help="threads the kernels use")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read each photograph and report; 0 also if there are no digits in it."""
    args = parser().parse_args(argv)
    command.check_backend(args.backend, args.allow_reference)
    command.set_threads(args.threads)
    from hwr.vision.photograph import find_photographs, require_cv2

    require_cv2().setNumThreads(args.threads)
    paths = find_photographs(args.images)
    import tinynn as tn

    with tn.use_backend(args.backend):
        if args.string:
            return read_strings(args, paths)
        outputs = plan(args, paths)
        reader = make_reader(args.model)
        pages, failures = [], 0
        for path in paths:
            try:
                pages.append(read_one(reader, path, outputs[path], args, many=len(paths) > 1))
            except UserError as error:
                if len(paths) == 1:
                    raise
                print(f"hwr.predict: error: {error}", file=sys.stderr)
                failures += 1
    if args.json:
        print(json.dumps(pages[0] if len(paths) == 1 else pages))
    return 2 if failures else 0


def make_reader(run: Path | None) -> Reader:
    """A reader with the shipped network, or with that of a run."""
    from hwr.vision.classifier import from_run
    from hwr.vision.reader import Reader

    return Reader(None if run is None else from_run(run))


def plan(args: argparse.Namespace, paths: Sequence[Path]) -> dict[Path, dict[str, Path]]:
    """What to write for each photograph. UserError if a file would be overwritten."""
    kinds = [] if args.json and args.output_dir is None else ["picture", "json"]
    kinds += ["explain"] if args.explain else []
    if args.output_dir is not None:
        make_folder(args.output_dir)
    plans: dict[Path, dict[str, Path]] = {}
    taken: set[Path] = set()
    for path in paths:
        if str(path) == STDIN:
            folder, names = Path(), ["stdin"]
        else:
            folder, names = path.parent, [path.stem, path.name]  # a.jpg and a.png: both differ
        folder = args.output_dir or folder
        for name in [*names, *(f"{names[-1]}-{n}" for n in range(2, len(paths) + 2))]:
            plans[path] = {kind: folder / f"{name}{ENDINGS[kind]}" for kind in kinds}
            if not taken & set(plans[path].values()):
                break
        taken |= set(plans[path].values())
    present = [path for path in sorted(taken) if path.exists()]
    if present and not args.force:
        raise UserError(
            f"{present[0]} exists already; --force overwrites it, --output-dir DIR writes elsewhere"
        )
    return plans


def read_strings(args: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Read each image as one string, without cutting it into digits."""
    from hwr.string_reader import StringReader

    if args.model is None:
        raise UserError(
            "--string needs --model, a run that reads strings; train one: "
            "python -m hwr.train --recipe zhan-strings"
        )
    reader = StringReader(args.model)
    found = []
    for path in paths:
        reading = reader.read(photograph(path).image)
        found.append({"image": str(path), **vars(reading)})
        if not args.json:
            where = f"{path}: " if len(paths) > 1 else ""
            print(f"{where}{reading.text}  ({100 * reading.probability:.1f} %)", flush=True)
    if args.json:
        print(json.dumps(found[0] if len(found) == 1 else found))
    return 0


def photograph(path: Path) -> Photograph:
    """The image in a file, or on standard input. UserError if it is none."""
    from hwr.vision.photograph import decode, read_bytes

    data = sys.stdin.buffer.read() if str(path) == STDIN else read_bytes(path)
    photo = decode(data, str(path))
    if photo.note:
        print(photo.note, file=sys.stderr)
    return photo


def read_one(
    reader: Reader, path: Path, outputs: dict[str, Path], args: argparse.Namespace, *, many: bool
) -> dict[str, Any]:
    """Read one photograph, write its files, print its numbers; returns the object for JSON."""
    photo = photograph(path)
    seen = reader.examine(photo.image)
    page = {"image": str(path), **enlarged(seen.page, photo.reduced)}
    if "picture" in outputs:
        from hwr.vision.draw import annotated

        write_atomic(outputs["picture"], annotated(photo.image, seen.page))
        write_atomic(outputs["json"], json.dumps(page, indent=1) + "\n")
    if "explain" in outputs:
        from hwr.vision.explain import contact_sheet

        write_atomic(outputs["explain"], contact_sheet(seen, reader.parameters))
    if not args.json:
        report(page, outputs, many=many)
    return page


def enlarged(page: dict[str, Any], times: int) -> dict[str, Any]:
    """A page with its boxes in pixels of a photograph so many times as large."""
    if times == 1:
        return page

    def scale(mark: dict[str, Any]) -> dict[str, Any]:
        return {**mark, "box": [times * side for side in mark["box"]]}

    lines = [{**line, "digits": [scale(d) for d in line["digits"]]} for line in page["lines"]]
    return {**page, "lines": lines, "refused": [scale(mark) for mark in page["refused"]]}


def report(page: dict[str, Any], outputs: dict[str, Path], *, many: bool) -> None:
    """Print the numbers line by line; on stderr what was doubtful and where it can be seen."""
    if many:
        print(f"{page['image']}:")
    for line in page["lines"]:
        print(line["text"])
    if not page["lines"]:
        print("no digits found")
    unsure = sum(digit["unsure"] for line in page["lines"] for digit in line["digits"])
    notes = [f"{unsure} unsure"] * (unsure > 0)
    notes += [f"{len(page['refused'])} marks refused"] * (len(page["refused"]) > 0)
    written = ", ".join(str(path) for path in outputs.values())
    print("; ".join([*notes, f"written: {written}"]), file=sys.stderr)
    sys.stdout.flush()


if __name__ == "__main__":
    command.run("hwr.predict", main)
