"""How well, how fast and why photographs are read: `python -m benchmarks.photos`.

Every part is measured by itself, so that `--parts` can renew one and keep the rest:
`time` (a 12-megapixel photograph step by step, peak memory, the command from a cold start), `drawn`
(steps left out or replaced, on photographs drawn from MNIST's test digits), `preparation` (ways to
28x28), `blank` (pages without numbers), and of the labelled photographs of `--photos FOLDER` `real`
(what is read, by writer), `desk` (sheets to be found on a desk), `singles` (pictures of one digit),
`steps`, `altered` and `writers` (parameters chosen without each writer).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photo_steps
from benchmarks.photo_page import tables
from benchmarks.photo_preparation import preparations
from benchmarks.photo_singles import singles
from hwr import command, data
from hwr.errors import UserError
from hwr.files import write_atomic
from hwr.machine import machine
from hwr.vision import Reader
from hwr.vision.classifier import from_run
from hwr.vision.draw import annotated
from hwr.vision.evaluation import evaluate_photos
from hwr.vision.explain import contact_sheet
from hwr.vision.photograph import require_cv2
from hwr.vision.synthetic import Scene, photograph
from tinynn.kernels.threads import usable_cpus

RESULTS = Path("benchmarks/results/photos")
TWELVE = (4000, 3000)
PREPARED = 2000  # digits
SHOWN = Scene(rows=(6, 7, 5), digit=56, desk=True, ruling="lines", shadow=0.45, turn_deg=6)
OF_PHOTOS = ("real", "desk", "singles", "steps", "altered", "writers")
Part = Callable[[Reader, argparse.Namespace], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write them as JSON and Markdown."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    p.add_argument("--parts", metavar="NAMES", help=f"of {','.join(PARTS)} (default: all)")
    p.add_argument("--photos", type=Path, metavar="FOLDER", help="labelled photographs")
    p.add_argument("--model", type=Path, metavar="RUN", action="append", default=[],
                   help="runs that read the prepared digits as well")  # fmt: skip
    p.add_argument("--repeats", type=command.count(1), default=3,
                   help="of times, scenes and blank pages")  # fmt: skip
    p.add_argument("--threads", type=command.count(1), default=usable_cpus())
    p.add_argument("--output-dir", type=Path, default=RESULTS)
    args = p.parse_args(argv)
    command.set_threads(args.threads)
    require_cv2().setNumThreads(args.threads)
    wanted = [name for name in PARTS if args.photos or name not in OF_PHOTOS]
    if args.photos and not (args.photos / "desk").is_dir():
        wanted.remove("desk")
    if args.parts:
        wanted = args.parts.split(",")
        if unknown := [name for name in wanted if name not in PARTS]:
            raise UserError(f"--parts {unknown[0]}: expected some of {', '.join(PARTS)}")
        if not args.photos and (lost := [name for name in wanted if name in OF_PHOTOS]):
            raise UserError(f"--parts {lost[0]} needs --photos FOLDER")
    reader, path = Reader(), args.output_dir / "photos.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        found = PARTS[name](reader, args)
        about = {"machine": machine("opencv-python-headless"), "threads": args.threads}
        results[name] = {**about, "rows": found}
        write_atomic(path, json.dumps(results, indent=1) + "\n")
        write_atomic(args.output_dir / "README.md", tables(results))
    print(tables(results))
    return 0


def timed(reader: Reader, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each step for 12 megapixels, the median run, peak memory in MiB, cold start."""
    import cv2

    digits = data.load("mnist", split="test")
    drawn = photograph(Scene(rows=(8,) * 6), digits, np.random.default_rng(0))
    photo = np.asarray(cv2.resize(drawn.image, TWELVE, interpolation=cv2.INTER_CUBIC), np.uint8)
    reader.read(photo)  # compiles
    runs = []
    for _ in range(args.repeats):
        began, busy = time.perf_counter(), time.process_time()
        seen = reader.examine(photo)
        wall, cpu = time.perf_counter() - began, time.process_time() - busy
        runs.append((wall, cpu, seen.seconds))
    wall, cpu, steps = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.jpg", Path(folder) / "small.jpg"
        cv2.imwrite(str(large), photo)
        cv2.imwrite(str(small), np.full((200, 200, 3), 255, np.uint8))
        commands = {
            "12 megapixels": run_command(large, args), "a blank page": run_command(small, args),
        }  # fmt: skip
    return {"pixels": list(TWELVE), "seconds": wall, "cpu_seconds": cpu, "steps": steps,
            "commands": commands}  # fmt: skip


def run_command(photo: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak memory of `hwr.predict` in a process of its own, the median run."""
    command = [sys.executable, "-m", "hwr.predict", str(photo), "--json"]
    runs = []
    for _ in range(args.repeats):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--threads", str(args.threads)], check=True, env=os.environ,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        runs.append((wall, busy, after.ru_maxrss / 1024))  # the peak of all so far
    wall, busy, peak = sorted(runs)[len(runs) // 2]
    return {"seconds": wall, "cpu_seconds": busy, "peak_mib": peak}


def ablated(reader: Reader, args: argparse.Namespace) -> Any:
    """Steps left out or replaced, on drawn photographs."""
    examples = photo_steps.drawn(args.repeats)
    return without_photos(photo_steps.settings(reader, examples, photo_steps.ABLATIONS))


def prepared(reader: Reader, args: argparse.Namespace) -> Any:
    """Ways to 28x28, read by the shipped network and by those of `--model`."""
    digits = data.load("mnist", split="test")
    few = digits.subset(np.arange(0, len(digits), len(digits) // PREPARED))
    networks = {"shipped": reader.classifier}
    networks |= {run.name: from_run(run) for run in args.model}
    return preparations(networks, few, seed=0)


def blanks(reader: Reader, args: argparse.Namespace) -> Any:
    """Pages without numbers, of seeds that no rule was chosen by."""
    first = photo_steps.BLANK_SEED
    return photo_steps.blank_pages(reader, range(first, first + args.repeats))


def photographs(reader: Reader, args: argparse.Namespace) -> Any:
    """The labelled photographs."""
    return evaluate_photos(reader, args.photos).as_json()


def desks(reader: Reader, args: argparse.Namespace) -> Any:
    """Photographs in the folder `desk` of the labelled ones."""
    return photo_steps.on_a_desk(reader, args.photos)


def stepwise(reader: Reader, args: argparse.Namespace) -> Any:
    """Steps left out or replaced, on the labelled photographs."""
    examples = photo_steps.real(args.photos)
    return without_photos(photo_steps.settings(reader, examples, photo_steps.ABLATIONS))


def alterations(reader: Reader, args: argparse.Namespace) -> Any:
    """Some labelled photographs made worse, or turned."""
    return photo_steps.altered(reader, photo_steps.real(args.photos))


def single(reader: Reader, args: argparse.Namespace) -> Any:
    """Pictures of one digit each."""
    return singles(reader, photo_steps.real(args.photos))


def writers(reader: Reader, args: argparse.Namespace) -> Any:
    """Parameters chosen on all writers but one, and what is read of that one."""
    rows = photo_steps.settings(reader, photo_steps.real(args.photos), photo_steps.GRID)
    return {"chosen": photo_steps.left_out(rows), "grid": without_photos(rows)}


def pictures(reader: Reader, args: argparse.Namespace) -> Any:
    """A photograph as read, and every step of it."""
    digits = data.load("mnist", split="test")
    drawn = photograph(SHOWN, digits, np.random.default_rng(5))
    seen = reader.examine(drawn.image)
    write_atomic(args.output_dir / "read.png", annotated(drawn.image, seen.page))
    write_atomic(args.output_dir / "explain.png", contact_sheet(seen, reader.parameters))
    return {"written": drawn.rows, "read": [line["text"] for line in seen.page["lines"]]}


def without_photos(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their sums alone."""
    return [{k: v for k, v in row.items() if k != "photos"} for row in rows]


PARTS: dict[str, Part] = {
    "real": photographs, "desk": desks, "singles": single, "writers": writers, "steps": stepwise,
    "drawn": ablated, "preparation": prepared, "altered": alterations, "blank": blanks,
    "pictures": pictures, "time": timed,
}  # fmt: skip


if __name__ == "__main__":
    command.run("benchmarks.photos", main)
