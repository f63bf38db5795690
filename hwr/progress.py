"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

LINE_EVERY_S = 20.0  # seconds between plain lines


class Progress:
    """Progress over `total` images (or other units): rate, time left and one figure beside it.

    A total of 0 is one that is not known.

    On a terminal a bar (stderr); otherwise a plain line now and then, fit for a log file.
    """

    def __init__(self, label: str, total: int, done: int = 0, *, unit: str = "images"):
        self.label, self.total, self.first, self.done = label, total, done, done
        self.unit = unit
        self.started = time.monotonic()
        self.last_line = self.started, done  # when, and how many images were done
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total or None,
                initial=done,
                desc=label,
                unit=f" {unit}",
                leave=False,
                smoothing=0.1,
                dynamic_ncols=True,
            )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Images a second so far."""
        return (self.done - self.first) / max(self.seconds, 1e-9)

    def update(self, images: int, **figures: float) -> None:
        """Count images done, and show figures such as loss=0.123."""
        self.done += images
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.4f}" for k, v in figures.items()}, refresh=False)
            self.bar.update(images)
        elif time.monotonic() - self.last_line[0] >= LINE_EVERY_S:
            self._print_line(figures)

    def _print_line(self, figures: dict[str, float]) -> None:
        now, (before, done_before) = time.monotonic(), self.last_line
        self.last_line = now, self.done
        # The rate since the last line: the first steps of all, which compile, say nothing.
        rate = (self.done - done_before) / max(now - before, 1e-9)
        shown = "".join(f", {k} {v:.4f}" for k, v in figures.items())
        left = (self.total - self.done) / max(rate, 1e-9)
        pace = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        of, end = (f" of {self.total:,}", f", {clock(left)} left") if self.total else ("", "")
        print(
            f"{self.label}: {self.done:,}{of} {self.unit}{shown}, {pace} {self.unit}/s{end}",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
