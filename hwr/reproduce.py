"""Make the tables of the papers anew: `python -m hwr.reproduce chi2022-table3`.

Each row of a table is a training run, repeated with several seeds. A run that is done is never
done again; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr import checkpoint, command, tabulate
from hwr.config import Config
from hwr.data import datasets, location
from hwr.errors import UserError
from hwr.evaluate import main as evaluate
from hwr.files import make_folder, write_atomic
from hwr.progress import clock
from hwr.recipes import Table, tables
from hwr.report import style
from hwr.report.__main__ import main as report
from hwr.report.document import Document, Paragraph
from hwr.report.document import Table as PageTable
from hwr.svm import fit
from hwr.svm.__main__ import main as svm
from hwr.svm.hybrid import KERNELS
from hwr.trials import Outcome, Trial, check_trials, trials_of
from tinynn.backend import backend_names
from tinynn.kernels.threads import usable_cpus

ROOT = Path("runs/reproduce")
TRIALS = "trials"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m hwr.reproduce",
        description="Train what a table of a paper needs and set claimed beside measured.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.add_argument("tables", nargs="*", metavar="TABLE", help="; ".join(tables.names()))
    p.add_argument("--all", action="store_true", help="every table")
    p.add_argument("--list", action="store_true", help="show the tables and how far they are")
    p.add_argument("--pages", action="store_true", help="write the pages of what is done; no runs")
    p.add_argument("--report", action="store_true", help="join all results into one page")
    p.add_argument(
        "--budget",
        metavar="TIME",
        type=duration,
        help="do what fits into this time, as in 90m or 2h: first seeds first, quick runs first",
    )
    p.add_argument(
        "--seeds", metavar="N", type=command.count(1), help="seeds 0 to N - 1; else the table's own"
    )
    p.add_argument("--output-dir", metavar="DIR", type=Path, default=ROOT, help="of all results")
    p.add_argument("--backend", metavar="NAME", default="numpy", help=", ".join(backend_names()))
    command.add_allow_reference(p)
    p.add_argument(
        "--threads", metavar="N", type=command.count(1), default=usable_cpus(), help="of kernels"
    )
    p.add_argument("--data-dir", metavar="DIR", help="folder of the data; else the data inside")
    p.add_argument(
        "--any-commit", action="store_true", help="let a table hold runs of different commits"
    )
    return p


def duration(text: str) -> float:
    """An argument type: seconds from 45s, 90m, 2h or 1h30m."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 45s, 90m, 2h or 1h30m")
    return float(sum(int(n or 0) * unit for n, unit in zip(parts.groups(), (3600, 60, 1))))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the named tables need, and write their pages."""
    args = parser().parse_args(argv)
    chosen = [tables.get(name) for name in (tables.names() if args.all else args.tables)]
    if not (chosen or args.list or args.report):
        raise UserError(
            f"name a table ({', '.join(tables.names())}), or give --all, --list or --report"
        )
    command.check_backend(args.backend, args.allow_reference)
    command.set_threads(args.threads)
    if args.list:
        return list_tables(args)
    unfit = [table for table in chosen if args.all and needs_svm(table) and not fit.possible()]
    chosen = [table for table in chosen if table not in unfit]
    code = reproduce(chosen, args) if chosen else 0
    if unfit:
        names = ", ".join(table.name for table in unfit)
        print(f"left out, for scikit-learn is not installed: {names}; {fit.INSTALL}")
    if args.report and code == 0:
        join(args.output_dir)
    return code


def reproduce(chosen: Sequence[Table], args: argparse.Namespace) -> int:
    """Train what is missing, within the budget, and write each table's page."""
    plans = {table.name: plan(table, args) for table in chosen}
    for trials in plans.values():
        check_trials(trials, any_commit=args.any_commit)
    missing = {t.folder: t for trials in plans.values() for t in trials if not t.done}
    possible = [trial for trial in missing.values() if trial.possible]
    left_out, code = run_all([] if args.pages else possible, args.budget)
    for table in chosen:
        write_page(table, plans[table.name], args)
    for name in sorted(set().union(*(t.absent for trials in plans.values() for t in trials))):
        above = location.root(args.data_dir and Path(args.data_dir))
        advice = location.how_to_get(datasets.get(name), above)
        print(f"what needs {name} is not run, for it is not in {above}: {advice}")
    if left_out:
        listed = ", ".join(f"{trial.name} (about {clock(s)})" for trial, s in left_out)
        print(f"left out, for the budget: {listed}")
    return code


def needs_svm(table: Table) -> bool:
    """Whether a row of it is read by an SVM."""
    return any(row.classifier in KERNELS for row in table.rows)


def plan(table: Table, args: argparse.Namespace) -> list[Trial]:
    """The runs that a table needs, first seeds first."""
    settings = Config(
        recipe=table.rows[0].recipe,
        backend=args.backend,
        threads=args.threads,
        data_dir=args.data_dir and str(Path(args.data_dir).absolute()),
    )
    return list(trials_of(table, args.output_dir / TRIALS, settings, seeds_of(table, args)))


def seeds_of(table: Table, args: argparse.Namespace) -> Sequence[int]:
    """The seeds typed, or the table's own."""
    return range(args.seeds) if args.seeds else table.seeds


def run_all(
    missing: Sequence[Trial], budget: float | None
) -> tuple[list[tuple[Trial, float]], int]:
    """Train what is missing. Returns what the budget left out, and the exit code.

    What tells most comes first: a first seed for every row before a second for any, and among
    those the quick runs before the slow ones; what begins with another's weights after those.
    """
    began, left_out = time.monotonic(), []
    if not missing:
        return [], 0
    print(f"{len(missing)} runs to do; timing a few steps of each ...", flush=True)
    costs: dict[str, float] = {}
    for trial in missing:
        costs[trial.name] = trial.seconds()
    print(f"about {clock(sum(costs.values()))} in all", flush=True)
    order = sorted(
        missing, key=lambda t: (t.config.seed, t.config.initial_weights is not None, costs[t.name])
    )
    if budget is not None and budget < min(costs.values()):
        least = min(missing, key=lambda t: costs[t.name])
        raise UserError(
            f"--budget of {clock(budget)} is too small for anything: the quickest run, "
            f"{least.name}, takes about {clock(costs[least.name])}"
        )
    for i, trial in enumerate(order):
        cost = costs[trial.name]
        too_long = budget is not None and time.monotonic() - began + cost > budget
        if too_long or trial.waits:
            left_out.append((trial, cost))
            continue
        print(f"\nrun {i + 1} of {len(order)}, about {clock(cost)}", flush=True)
        code = trial.run()
        if code == 130:
            print("go on by the same command")
            return left_out, code
    return left_out, 0


def write_page(table: Table, trials: Sequence[Trial], args: argparse.Namespace) -> None:
    """Write a table's results, pictures and page from the runs that are done, and print it."""
    outcomes = {t.name: Outcome.read(t.folder) for t in trials if t.done}
    folder = args.output_dir / table.name
    found = tabulate.results(table, outcomes, seeds_of(table, args))
    write_atomic(make_folder(folder) / tabulate.NAME, json.dumps(found, indent=1) + "\n")
    if style.installed():
        for name, png in tabulate.drawn(found).items():
            write_atomic(folder / name, png)
    else:
        print(f"no pictures: matplotlib is not installed; {style.INSTALL}", file=sys.stderr)
    for name in tabulate.closest(found):
        look_closer(outcomes[name], tabulate.reported(folder, name))
    for name in tabulate.with_machines(found):
        target = tabulate.reported(folder, name)
        if is_older(target / tabulate.MACHINES, outcomes[name].folder):
            svm([str(outcomes[name].folder), "--output-dir", str(target)])
    tabulate.document(found, folder).write(folder, "index")
    print(f"\n{table.title}\n{as_text(tabulate.comparison(found))}\npage: {folder / 'index.html'}")


def look_closer(outcome: Outcome, folder: Path) -> None:
    """Write the report on a run, or of one that reads strings those it misreads."""
    if outcome.config.recipe.task == "strings":
        if style.installed() and is_older(folder / tabulate.MISREAD, outcome.folder):
            picture = make_folder(folder) / tabulate.MISREAD
            evaluate([str(outcome.folder), "--misread", str(picture)])
    elif is_older(folder / tabulate.REPORT, outcome.folder):
        report([str(outcome.folder), "--output-dir", str(folder)])


def is_older(file: Path, run: Path) -> bool:
    """Whether a file about a run is missing, or older than what the run measured last."""
    measured = (run / checkpoint.METRICS).stat().st_mtime_ns
    return not file.exists() or file.stat().st_mtime_ns < measured


def as_text(table: PageTable) -> str:
    """A table for the terminal."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    texts = [
        "  ".join(
            cell.rjust(w) if table.numeric(i) else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(texts)


def list_tables(args: argparse.Namespace) -> int:
    """Print every table, what it is, and how many of its runs are done."""
    for name in tables.names():
        table = tables.get(name)
        trials = plan(table, args)
        done = sum(trial.done for trial in trials)
        print(f"{name}\n  {table.title}\n  {table.paper}\n  {done} of {len(trials)} runs done\n")
    return 0


def join(root: Path) -> None:
    """Write one page of all results under `root`, those not run listed as such."""
    doc, missing = Document("Results"), []
    for name in tables.names():
        path = root / name / tabulate.NAME
        if path.exists():
            doc.include(tabulate.document(read_results(path), root / name), name)
        else:
            missing.append(name)
    if len(missing) == len(tables.names()):
        raise UserError(f"{root} holds no results; make some: python -m hwr.reproduce {missing[0]}")
    if missing:
        doc.add(Paragraph(f"Not run: {', '.join(missing)}."))
    doc.write(root, "report")
    print(f"report: {root / 'report.html'}")


def read_results(path: Path) -> dict[str, Any]:
    """A table's results.json. UserError if it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); run python -m hwr.reproduce {path.parent.name}, "
            "which writes it anew from its runs"
        ) from None
    return found


if __name__ == "__main__":
    command.run("hwr.reproduce", main)
