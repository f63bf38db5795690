"""Ctrl-C and SIGTERM as a request to stop between two steps."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted:
    """True once Ctrl-C was pressed or the process was asked to end. A second Ctrl-C ends it."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested

    def request(self, number: int, frame: object) -> None:
        """The signal handler: finish the step, then stop."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nstopping after this step ...", file=sys.stderr, flush=True)


@contextmanager
def catch_interrupts() -> Iterator[Interrupted]:
    """Within the block, Ctrl-C and SIGTERM set a flag between two steps instead of breaking one."""
    interrupted = Interrupted()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, interrupted.request) for s in signals]
    try:
        yield interrupted
    finally:
        for s, handler in zip(signals, before):
            signal.signal(s, handler)
