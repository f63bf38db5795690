"""Where the time of a photograph goes, and which steps matter: `python -m benchmarks.photos`.

Times a 12-megapixel photograph step by step, with the peak memory; then leaves out or replaces one
step at a time on photographs drawn from MNIST's test digits, and counts what is still read right.
With `--photos FOLDER` the photographs there are counted too, page by page and without each writer.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwr import command, data
from hwr.files import write_atomic
from hwr.machine import machine
from hwr.progress import Progress
from hwr.statistics import wilson_interval
from hwr.vision import Parameters, Reader
from hwr.vision.evaluation import Counts, compare, evaluate_photos
from hwr.vision.synthetic import Scene, photograph
from tinynn.kernels.threads import usable_cpus

RESULTS = Path("benchmarks/results/photos")
TWELVE = (4000, 3000)
SCENES = (
    Scene(), Scene(pen=-2, ink=(0.5, 0.35, 0.35)), Scene(light=0.7), Scene(shadow=0.5),
    Scene(ruling="lines", turn_deg=2), Scene(desk=True, turn_deg=10), Scene(noise=0.04, blur=1.5),
    Scene(gap=(-0.1, 0.1)),
)  # fmt: skip
ABLATIONS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "box stretched to 28x28": {"normalise": "stretch"},
    "20-box centred by box, not by mass": {"normalise": "box"},
    "global Otsu": {"threshold": "otsu"},
    "adaptive 51,15": {"threshold": "adaptive"},
    "Sauvola": {"threshold": "sauvola"},
    "no sheet sought": {"page": False},
    "no ruling taken out": {"ruling": 9.0},
    "no search of the orientation": {"orient": False},
    "no levelling of lines": {"skew_deg": 90.0},
    "no cuts inside components": {"cuts": False},
    "one piece a digit": {"pieces": 1},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write them as JSON and Markdown."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    p.add_argument("--photos", type=Path, metavar="FOLDER", help="labelled photographs, as well")
    p.add_argument("--repeats", type=command.count(1), default=3, help="of each time and scene")
    p.add_argument("--threads", type=command.count(1), default=usable_cpus())
    p.add_argument("--output-dir", type=Path, default=RESULTS)
    args = p.parse_args(argv)
    command.set_threads(args.threads)
    reader = Reader()
    results: dict[str, Any] = {
        "machine": machine("opencv-python-headless"),
        "threads": args.threads,
    }
    results["time"] = timed(reader, args.repeats)
    results["ablation"] = ablation(reader, args.repeats)
    if args.photos is not None:
        found = evaluate_photos(reader, args.photos)
        results["photos"] = found.as_json()
        results["writers"] = by_writer(found.photos)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    text = tables(results)
    write_atomic(args.output_dir / "photos.json", json.dumps(results, indent=1) + "\n")
    write_atomic(args.output_dir / "README.md", text)
    print(text)
    return 0


def timed(reader: Reader, repeats: int) -> dict[str, Any]:
    """Seconds of each step for 12 megapixels, the median run, and the peak memory in MiB."""
    import cv2

    digits = data.load("mnist", split="test")
    drawn = photograph(Scene(rows=(8,) * 6), digits, np.random.default_rng(0))
    photo = np.asarray(cv2.resize(drawn.image, TWELVE, interpolation=cv2.INTER_CUBIC), np.uint8)
    reader.read(photo)  # compiles
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        seen = reader.examine(photo)
        runs.append((time.perf_counter() - began, seen.seconds))
    total, steps = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pixels": list(TWELVE), "seconds": total, "steps": steps, "peak_mib": peak}


def ablation(reader: Reader, repeats: int) -> list[dict[str, Any]]:
    """Each change to the parameters, and what is read right on the same drawn photographs."""
    digits = data.load("mnist", split="test")
    drawn = [photograph(scene, digits, np.random.default_rng([seed, k]))
             for seed in range(repeats) for k, scene in enumerate(SCENES)]  # fmt: skip
    rows = []
    with Progress("ablations", len(ABLATIONS) * len(drawn), unit="photographs") as progress:
        for name, changes in ABLATIONS.items():
            changed = Reader(reader.classifier, replace(Parameters(), **changes))
            counts = Counts()
            for each in drawn:
                page = changed.read(each.image)
                counts.add(compare(page, each.truth, each.image.shape[:2]))
                progress.update(1)
            rows.append({"change": name, **asdict(counts)})
    return rows


def by_writer(photos: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is read right of each writer, and of all the others together."""
    names = [each.name for each in fields(Counts)]
    rows = []
    for writer in dict.fromkeys(photo["writer"] for photo in photos):
        of, others = Counts(), Counts()
        for photo in photos:
            counts = Counts(**{name: photo[name] for name in names})
            (of if photo["writer"] == writer else others).add(counts)
        rows.append({"writer": writer, "own": asdict(of), "others": asdict(others)})
    return rows


def tables(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    timing = results["time"]
    lines = [
        "# Photographs", "",
        f"{results['machine']['processor']}, {results['threads']} threads, commit "
        f"{results['machine']['commit']}. Made by `python -m benchmarks.photos`.", "",
        f"A photograph of 12 megapixels: {timing['seconds']:.2f} s, peak memory "
        f"{timing['peak_mib']:.0f} MiB.", "", "| step | seconds |", "|---|---|",
    ]  # fmt: skip
    lines += [f"| {step} | {seconds:.3f} |" for step, seconds in timing["steps"].items()]
    lines += ["", "One change at a time, on photographs drawn from MNIST's test digits:", ""]
    lines += ["| change | digits read right | 95 % interval | lines |", "|---|---|---|---|"]
    lines += [row_of(row["change"], row) for row in results["ablation"]]
    if "photos" in results:
        counts = results["photos"]["counts"]
        lines += ["", "Real photographs (P0 reports 99 of 100 digits of its own):", ""]
        lines += ["| writer | digits read right | 95 % interval | lines |", "|---|---|---|---|"]
        lines += [row_of(row["writer"], row["own"]) for row in results["writers"]]
        lines += [
            row_of("all", counts), "",
            f"Of {counts['boxes']} digits with known boxes {counts['found']} were found, "
            f"{counts['misread']} misread, {counts['refused']} refused, {counts['merged']} merged, "
            f"{counts['split']} split; {counts['false']} false finds.",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def row_of(name: str, counts: dict[str, Any]) -> str:
    """A row of a table: what was read right."""
    right, digits = max(counts["digits"] - counts["edits"], 0), counts["digits"]
    low, high = wilson_interval(right, digits)
    return (
        f"| {name} | {100 * right / digits:.1f} % ({right} of {digits}) | "
        f"{100 * low:.1f} to {100 * high:.1f} % | {counts['exact']} of {counts['lines']} |"
    )


if __name__ == "__main__":
    command.run("benchmarks.photos", main)
