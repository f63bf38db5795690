"""Look at trained runs: `python -m hwr.report runs/<name>` writes tables and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hwr import command
from hwr.errors import UserError
from hwr.evaluate import add_run_options, opened, read_config, require_classes
from hwr.files import write_atomic
from hwr.statistics import describe_accuracy

NAME = "report"  # of the folder in a run, and of the files in it


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.report",
        description="Write what a run learnt and how it reads: RUN/report/report.html, the same as "
        "Markdown, and the numbers as report.json.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="a run folder")
    p.add_argument(
        "--output-dir",
        metavar="DIR",
        type=Path,
        help="folder of the report, or with several runs of a folder for each (default: "
        "RUN/report)",
        default=argparse.SUPPRESS,
    )
    add_run_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write a report on every run named."""
    args = parser().parse_args(argv)
    for run, folder in zip(args.runs, folders(args)):
        write_report(run, folder, args)
    return 0


def folders(args: argparse.Namespace) -> list[Path]:
    """Where each report goes. UserError if a run is none, or two reports would be one."""
    for run in args.runs:  # before the first report is begun
        require_classes(read_config(run), "a report")
    if "output_dir" not in args:
        return [run / NAME for run in args.runs]
    if len(args.runs) == 1:
        return [args.output_dir]
    names = [run.resolve().name for run in args.runs]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UserError(
            f"--output-dir {args.output_dir}: two of the runs are called {twice[0]!r} and would "
            "share a folder there; report on them one after the other"
        )
    return [args.output_dir / name for name in names]


def write_report(run: Path, folder: Path, args: argparse.Namespace) -> None:
    """Write one report and say where it is."""
    from hwr.report import numbers, page, style  # with numba behind them

    with opened(run, args) as (config, model):
        seen = numbers.look(run, args.weights, args.split, config, model)
        values = numbers.numbers(seen)
        document = page.page(seen)
    document.write(folder, NAME)
    write_atomic(folder / f"{NAME}.json", json.dumps(values, indent=1) + "\n")
    if not style.installed():
        print(f"no pictures: matplotlib is not installed; {style.INSTALL}", file=sys.stderr)
    if args.json:
        print(json.dumps(values))
    else:
        right, total = values["correct"], values["total"]
        print(f"{run}: {args.split} accuracy {describe_accuracy(right, total)}")
        print(f"report: {folder / NAME}.html (and .md, .json)")


if __name__ == "__main__":
    command.run("hwr.report", main)
