"""Timing engines against each other: each in its own process, one at a time, turn by turn.

In one process the thread pools of two libraries disturb each other (a worker that has finished
keeps spinning for a while); between processes an engine that waits for its turn is asleep.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import Any

Engine = tuple[Callable[..., Any], tuple[Any, ...]]  # a function making a step, its arguments


@dataclass(frozen=True)
class Timing:
    """Seconds a step, over all rounds, and the engine's peak resident memory."""

    label: str
    median: float
    low: float
    high: float
    peak_mib: float


def serve(channel: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The engine's process: warm up, then time as many steps as it is asked to."""
    step, label = make(*arguments)
    for _ in range(3):
        step()
    channel.send(label)
    while steps := channel.recv():
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        channel.send((times, peak))


def compare(engines: list[Engine], rounds: int, steps: int) -> list[Timing]:
    """Time the engines in turn, `rounds` times `steps` steps each."""
    context = multiprocessing.get_context("spawn")
    channels, processes = [], []
    for make, arguments in engines:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        process.start()
        theirs.close()
        channels.append(ours)
        processes.append(process)
        ours.poll(None)  # compile and warm up one after the other
    labels = [channel.recv() for channel in channels]
    times: list[list[float]] = [[] for _ in engines]
    peaks = [0.0] * len(engines)
    for _ in range(rounds):
        for i, channel in enumerate(channels):
            channel.send(steps)
            measured, peaks[i] = channel.recv()
            times[i] += measured
    for channel, process in zip(channels, processes):
        channel.send(0)
        process.join()
    return [
        Timing(label, statistics.median(t), min(t), max(t), peak)
        for label, t, peak in zip(labels, times, peaks)
    ]


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, versions, load and date."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    found["processor"], flags = platform.machine(), ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        named = {key.strip(): value.strip() for key, value in lines.items()}
        found["processor"], flags = named.get("model name", ""), named.get("flags", "")
    except OSError:  # not Linux
        pass
    found["vectors"] = [f for f in ("avx2", "avx512f") if f in flags.split()]
    found["cores"] = len(os.sched_getaffinity(0))
    found["load"] = round(os.getloadavg()[0], 2)
    for package in ("tinynn", "numpy", "numba", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def as_json(results: dict[str, Any]) -> str:
    """Results with the machine they came from."""
    plain = {
        name: [asdict(r) if isinstance(r, Timing) else r for r in rows]
        for name, rows in results.items()
    }
    return json.dumps({"machine": machine(), "results": plain}, indent=2) + "\n"
