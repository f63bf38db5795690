"""Run folders: config.json, metrics.jsonl, last.safetensors and best.safetensors.

A run told to keep the weights after some epochs holds them as epoch-N.safetensors.

`last` holds the weights in PyTorch's names and layout, the optimiser's moments under `optimizer.`,
and as metadata where training stood, so that a resumed run goes on bit for bit. `best` holds the
weights that did best on the held-out part of the training set, and nothing else.

In a run that averages its weights, those averages are what is measured and used, so they bear the
names of the weights; the weights that training goes on with stand under `ema.`.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hwr.config import Config
from hwr.errors import UserError
from hwr.files import append_line, cannot_write, make_folder, write_atomic
from tinynn import state
from tinynn.nn import Module
from tinynn.optim import EMA, Optimizer

LAST, BEST, CONFIG, METRICS = "last.safetensors", "best.safetensors", "config.json", "metrics.jsonl"
OPTIMIZER_PREFIX, EMA_PREFIX = "optimizer.", "ema."


def kept(epoch: int) -> str:
    """The name of the file that keeps the weights after an epoch."""
    return f"epoch-{epoch}.safetensors"


def create_run(folder: Path, config: Config) -> None:
    """Make a run folder. UserError if it holds a run already, or cannot be written."""
    try:
        taken = (make_folder(folder) / CONFIG).exists()
    except OSError as error:  # a name too long
        raise cannot_write(folder, error) from error
    if taken:
        raise UserError(
            f"{folder} already holds a run; choose another --output-dir or, if the run was "
            f"interrupted, go on with it by --resume {folder}"
        )
    write_atomic(folder / CONFIG, config.to_json())


def averaged(ema: EMA | None) -> AbstractContextManager[Any]:
    """Within the block the model holds its averages, and `ema` the weights; None: as it is."""
    return nullcontext() if ema is None else ema.applied()


def save(
    path: Path,
    model: Module,
    optimizer: Optimizer,
    ema: EMA | None,
    progress: dict[str, Any],
) -> None:
    """Write weights, moments and progress, whole or not at all. UserError names the reason."""
    with averaged(ema):
        arrays = state.to_torch(model) | prefixed(OPTIMIZER_PREFIX, optimizer.state_dict())
        if ema is not None:
            arrays |= prefixed(EMA_PREFIX, ema.state_dict())
    write(path, arrays, progress)


def save_weights(path: Path, model: Module, facts: dict[str, Any]) -> None:
    """Write the weights alone, whole or not at all."""
    write(path, state.to_torch(model), facts)


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write arrays and metadata; a failure is a UserError and the old file survives."""
    try:
        state.write_arrays(path, arrays, metadata)
    except OSError as error:
        raise cannot_write(path, error) from error


def load(
    path: Path, model: Module, optimizer: Optimizer | None = None, ema: EMA | None = None
) -> dict[str, Any]:
    """Read a checkpoint into a model (and what trains it); returns the metadata.

    UserError if the file is missing, damaged, or of another model.
    """
    try:
        arrays, progress = state.read_arrays(path)
        moments, weights = taken(OPTIMIZER_PREFIX, arrays), taken(EMA_PREFIX, arrays)
        with averaged(ema):
            state.from_torch(model, arrays)
            if ema is not None:
                ema.load_state_dict(weights)
        if optimizer is not None:
            optimizer.load_state_dict(moments)
    except state.StateError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return progress


def prefixed(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The same arrays under longer names."""
    return {prefix + name: array for name, array in arrays.items()}


def taken(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """What `prefixed` gave these names, under its own names and removed from `arrays`."""
    found = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in found}


def progress_of(folder: Path) -> dict[str, Any]:
    """Where a run stands, from its last checkpoint; empty if it has none yet."""
    if not (folder / LAST).exists():
        return {}
    try:
        return state.read_metadata(folder / LAST)
    except state.StateError as error:
        raise UserError(str(error)) from None


def log(folder: Path, **values: Any) -> None:
    """Append one line to metrics.jsonl."""
    append_line(folder / METRICS, json.dumps(values))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none if there is no such file. Half a line is left out."""
    found: list[dict[str, Any]] = []
    if (folder / METRICS).exists():
        for line in (folder / METRICS).read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                found.append(dict(json.loads(line)))
    return found


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had not finished writing."""
    for path in folder.glob(".tinynn-*.tmp"):
        path.unlink(missing_ok=True)


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that tell of an epoch."""
    return [values for values in metrics(folder) if "epoch" in values]


def rewind_metrics(folder: Path, epoch: int) -> None:
    """Keep the lines of metrics.jsonl up to `epoch`: the resumed run writes the others again."""
    if (folder / METRICS).exists():
        kept = [values for values in epochs(folder) if values["epoch"] <= epoch]
        write_atomic(folder / METRICS, "".join(f"{json.dumps(values)}\n" for values in kept))


def find_unfinished(runs: Path) -> Path | None:
    """The run folder under `runs` (or `runs` itself) that stopped last before its end."""
    folders = [runs, *sorted(p for p in runs.glob("*") if p.is_dir())] if runs.is_dir() else []
    started = [folder for folder in folders if (folder / CONFIG).exists()]
    for folder in sorted(started, key=_last_touched, reverse=True):
        if not progress_of(folder).get("finished"):
            return folder
    return None


def _last_touched(folder: Path) -> float:
    newest = folder / LAST if (folder / LAST).exists() else folder / CONFIG
    return newest.stat().st_mtime
