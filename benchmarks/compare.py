"""Timing engines against each other: each in its own process, one at a time, turn by turn.

In one process the thread pools of two libraries disturb each other (a worker that has finished
keeps spinning for a while); between processes an engine that waits for its turn is asleep.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from hwr.errors import UserError

Step = Callable[[], object]
Facts = dict[str, Any]  # how a step was set up: "engine", "memory_format", ...
Make = tuple[Callable[..., tuple[Step, Facts]], tuple[Any, ...]]  # makes a step; its arguments

WARM_UP = 3  # steps before the first that counts
PAUSE_S = 0.15  # between turns: the threads of the engine before go to sleep
WARM_S = 0.2  # a turn begins with steps that do not count: a processor that was idle, or did other
# work, takes a while to come to its full rate, and its caches to fill
TURN_S = 0.2  # then it takes as many steps as it is asked for, and more of those that are short
MOST_STEPS = 200


class EngineError(UserError):
    """An engine could not make or take a step."""


@dataclass(frozen=True)
class Timing:
    """Seconds a step, over all rounds, and the engine's peak resident memory."""

    engine: str
    memory_format: str
    median: float
    low: float
    high: float
    peak_mib: float
    facts: Facts

    @property
    def label(self) -> str:
        """The engine and its memory format, as tables show them."""
        return f"{self.engine}, {self.memory_format}"


def serve(channel: Connection) -> None:
    """An engine's process: make the steps it is told to, and take as many as it is asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it closes the channel
    step: Step | None = None
    while True:
        try:
            request = channel.recv()
        except EOFError:
            return
        try:
            if isinstance(request, int):
                assert step is not None
                warm_up(step)
                answer: Any = take(step, request)
            else:
                make, arguments = request
                step, facts = make(*arguments)
                answer = facts, take(step, WARM_UP)[0][-1]
        except Exception as error:  # the parent says what failed
            answer = EngineError(f"{type(error).__name__}: {error}".splitlines()[0])
        channel.send(answer)


def warm_up(step: Step) -> None:
    """Steps for WARM_S, at least one."""
    end = time.perf_counter() + WARM_S
    step()
    while time.perf_counter() < end:
        step()


def take(step: Step, count: int) -> tuple[list[float], float]:
    """The seconds of each of `count` steps, and the peak resident memory in MiB."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return times, peak_mib()


def peak_mib() -> float:
    """The most memory this process has held. (getrusage's figure begins with the parent's.)"""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            (line,) = (line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Engine:
    """A process of its own in which steps are made and timed. Leave it by `with`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.channel, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.facts: Facts = {}

    def make(self, make: Make) -> float:
        """Make a step and warm it up. Returns the seconds of one. Raises EngineError."""
        self.facts, seconds = self.ask(make)
        return seconds

    def take(self, count: int) -> tuple[list[float], float]:
        """The seconds of `count` steps, and the process's peak memory in MiB."""
        return self.ask(count)

    def ask(self, request: Any) -> Any:
        try:
            self.channel.send(request)
            answer = self.channel.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            raise EngineError(f"the engine's process ended with code {code}") from None
        if isinstance(answer, EngineError):
            raise answer
        return answer

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # it may be in the middle of a long step
            self.process.terminate()
        self.channel.close()
        self.process.join()


def take_turns(
    engines: Sequence[Engine],
    rounds: int,
    steps: int,
    tick: Step = lambda: None,
    failed: dict[Engine, str] | None = None,
) -> list[Timing]:
    """Let the engines take their steps in turn, `rounds` times `steps`; `tick` after each turn.

    An engine that cannot raises EngineError; or, where `failed` is given, its reason is put there,
    and the others go on without it.
    """
    times: dict[Engine, list[float]] = {engine: [] for engine in engines}
    peaks = dict.fromkeys(engines, 0.0)
    for _ in range(rounds):
        for engine in list(times):
            time.sleep(PAUSE_S)
            try:
                measured, peaks[engine] = engine.take(steps)
                times[engine] += measured
            except EngineError as error:
                if failed is None:
                    raise
                failed[engine] = str(error)
                del times[engine]
            tick()
    return [
        Timing(
            engine=engine.facts["engine"],
            memory_format=engine.facts["memory_format"],
            median=statistics.median(t),
            low=min(t),
            high=max(t),
            peak_mib=peaks[engine],
            facts=engine.facts,
        )
        for engine, t in times.items()
    ]


def steps_of_turn(seconds: float, least: int) -> int:
    """How many steps of so many seconds an engine takes before the next has its turn."""
    return min(max(least, round(TURN_S / seconds)), max(least, MOST_STEPS))


def compare(
    makes: Sequence[Make], rounds: int, steps: int, tick: Step = lambda: None
) -> list[Timing]:
    """Time one step of each engine: a process for each, compiled and warmed up one by one."""
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine()) for _ in makes]
        seconds = [engine.make(make) for engine, make in zip(engines, makes)]
        return take_turns(engines, rounds, steps_of_turn(max(seconds), steps), tick)
