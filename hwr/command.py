"""What the commands share: a user's mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

from hwr.errors import UserError, unknown_name


def run(program: str, main: Callable[[], int]) -> None:
    """Run a command's main function and exit with its code."""
    try:
        code = main()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader of our output went away, as in `... | head`
        sys.stderr.close()
        code = 0
    sys.exit(code)


def count(least: int) -> Callable[[str], int]:
    """An argument type: a whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return parse


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """An argument type: a finite number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and least <= value <= most):
            limit = f"from {least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
            raise argparse.ArgumentTypeError(f"{text} is not {limit}")
        return value

    return parse


def check_backend(name: str) -> None:
    """UserError, with what to install, for a backend that is unknown or not installed."""
    from tinynn.backend import backend_names, get_backend

    if name not in backend_names():
        raise unknown_name("backend", name, backend_names())
    try:
        get_backend(name)
    except ImportError as error:
        raise UserError(str(error)) from None
