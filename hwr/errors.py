"""Errors a user can put right. The command lines print one as a line on stderr and exit with 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A wrong argument, file or folder; the message says where, what, both values and the fix."""


class DataError(UserError):
    """A data file or an array of images or labels is not what it should be."""


class UnknownName(UserError):
    """A name that no model, recipe, dataset, ... has. Made by :func:`unknown_name`."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for ``name``, with the nearest known name (upper and lower case count the same).

    >>> unknown_name("model", "resnet81", ["lenet5", "resnet18"]).args[0]
    "unknown model 'resnet81'; did you mean 'resnet18'? Known: lenet5, resnet18"
    """
    names = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {names[near[0]]!r}? " if near else ""
    listing = ", ".join(names.values()) or "none"
    return UnknownName(f"unknown {kind} {name!r}; {hint}Known: {listing}")
