"""What the commands share: a user's mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable

import tinynn as tn
from hwr.data.augment import PRESETS, Augment
from hwr.errors import UserError, unknown_name
from tinynn.backend import backend_names, get_backend
from tinynn.kernels.cuda_launch import CompileError, allow_reference


def run(program: str, main: Callable[[], int]) -> None:
    """Run a command's main function and exit with its code."""
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        code = 2
    except CompileError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        code = 2
    except MemoryError as error:
        print(
            f"{program}: error: out of memory ({error}); choose a smaller --batch-size or model",
            file=sys.stderr,
        )
        code = 2
    except KeyboardInterrupt:  # training catches the first one itself, and saves
        print(f"{program}: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of our output went away, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        code = 1
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
            limit = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
            raise argparse.ArgumentTypeError(f"{text} is not a finite number {limit}")
        return value

    return parse


AUGMENT_HELP = (
    f"warps of the training images: none, {', '.join(PRESETS)}, or amounts such as "
    "rotation_deg=10,translation=0.1 or affine,scale=0.2"
)


def augmentation(text: str) -> Augment | None:
    """An argument type: what `Augment.parse` reads."""
    try:
        return Augment.parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_allow_reference(p: argparse.ArgumentParser) -> None:
    """The option that `check_backend` obeys."""
    p.add_argument(
        "--allow-reference",
        action="store_true",
        help="where a CUDA kernel cannot be compiled, let slower array code do its work",
    )


def check_backend(name: str, allowed: bool = False) -> None:
    """UserError, with what to install, for a backend that is unknown or not installed.

    `allowed`: whether the reference may do the work of kernels that cannot be compiled.
    """
    if allowed:
        allow_reference()
    if name not in backend_names():
        raise unknown_name("backend", name, backend_names())
    try:
        get_backend(name)
    except ImportError as error:
        raise UserError(str(error)) from None


def set_threads(count: int) -> None:
    """Let the kernels use so many threads. UserError for more than there are processors."""
    try:
        tn.set_num_threads(count)
    except ValueError as error:
        raise UserError(f"--threads: {error}") from None
