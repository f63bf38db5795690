"""What the commands share around their measuring: options, the machine, the file of results."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.compare import Timing
from hwr import command
from hwr.errors import UserError, unknown_name
from hwr.files import make_folder, write_atomic
from hwr.machine import machine
from tinynn.backend import get_backend
from tinynn.kernels.threads import usable_cpus

FOLDER = Path(__file__).parent / "results"
INSTALL_TORCH = "pip install '.[bench]'"


def parser(
    name: str, description: str, *, rounds: int | None = None, steps: int | None = None
) -> argparse.ArgumentParser:
    """A command line with the options that the commands share; turns only where there are any."""
    p = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    turns = {"rounds": (rounds, "turns of each engine"), "steps": (steps, "steps a turn")}
    for option, (default, text) in turns.items():
        if default is not None:
            p.add_argument(f"--{option}", type=command.count(1), default=default, help=text)
    p.add_argument("--seed", type=command.count(0), default=0, help="of weights and batches")
    p.add_argument(
        "--output",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"file of results, a picture beside it (default: {name}-THREADS-threads.json in "
        f"{FOLDER.parent.name}/{FOLDER.name})",
    )
    return p


def thread_count(text: str) -> int:
    """An argument type: a number of threads that the machine has processors for."""
    count = command.count(1)(text)
    if count > usable_cpus():
        raise argparse.ArgumentTypeError(f"{count} is more than the {usable_cpus()} processors")
    return count


def thread_counts(text: str) -> list[int]:
    """An argument type: one or more of them, as in 1,2."""
    return [thread_count(part) for part in text.split(",")]


def chosen(kind: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names typed, or all that are known. UserError for one that is not."""
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    return list(names or known)


def has_torch() -> bool:
    """Whether PyTorch is installed; if not, say how it is."""
    if importlib.util.find_spec("torch"):
        return True
    print(f"PyTorch is not installed: tinynn alone is timed. Install it by {INSTALL_TORCH}")
    return False


class Report:
    """What a command ran on and found: printed, and saved as JSON with a picture beside it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str] | None,
        args: argparse.Namespace,
        threads: Sequence[int | str],
        **settings: Any,
    ):
        """Print the machine and the settings: figures mean nothing without them.

        UserError, before anything is measured, if the results could not be saved.
        """
        words = sys.argv[1:] if argv is None else argv
        self.command = shlex.join(["python", "-m", f"benchmarks.{name}", *words])
        counts = "-".join(map(str, threads))
        self.path: Path = getattr(args, "output", FOLDER / f"{name}-{counts}-threads.json")
        make_folder(self.path.parent)
        if self.path.is_dir() or self.path.suffix == ".png":
            raise UserError(f"--output {self.path}: choose the name of a JSON file")
        if device := get_backend(settings.get("backend", "numpy")).device:
            settings["device"] = device
        common = {n: getattr(args, n) for n in ("seed", "rounds", "steps") if hasattr(args, n)}
        self.settings = {"threads": list(threads), **common, **settings}
        for title, values in (("machine", machine("torch")), ("settings", self.settings)):
            shown = (f"{k} {', '.join(map(str, v)) if isinstance(v, list) else v}"
                     for k, v in values.items())  # fmt: skip
            print(f"{title}: {'; '.join(shown)}")
        if os.getloadavg()[0] > usable_cpus() / 2:
            print("this machine is busy with other work: figures and ratios will be off")
        sys.stdout.flush()

    def save(
        self,
        rows: Sequence[dict[str, Any]],
        draw: Callable[[Any, Sequence[dict[str, Any]]], None],
        **more: Any,
    ) -> None:
        """Write the results and, where matplotlib is installed, the picture."""
        document = {
            "command": self.command,
            "machine": machine("torch"),
            "settings": self.settings,
            **more,
            "results": rows,
        }
        write_atomic(self.path, json.dumps(document, indent=2, default=as_plain) + "\n")
        print(f"results: {self.path}")
        charts.picture(self.path.with_suffix(".png"), draw, rows)


def as_plain(value: Any) -> Any:
    """What JSON makes of our own types."""
    if isinstance(value, Timing):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not for a file of results")
