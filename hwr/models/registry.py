"""The table of models, and `create`, which makes one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from hwr.errors import UserError
from hwr.registry import Registry
from tinynn.nn import Module

models: Registry[Callable[..., Module]] = Registry("model")


def options_of(name: str) -> list[str]:
    """The options that the model called `name` takes. UnknownName if there is no such model."""
    return [p for p in inspect.signature(models.get(name)).parameters if p != "generator"]


def create(
    name: str,
    *,
    generator: np.random.Generator | None = None,
    seed: int | None = None,
    **options: Any,
) -> Module:
    """A new model by name, with the options its class takes.

    `seed` or `generator` draws the initial weights (and later the dropout masks). Raises UserError
    for an unknown name, an option the model does not have, or a value it refuses.
    """
    known = options_of(name)
    if unknown := sorted(options.keys() - set(known)):
        raise UserError(f"model {name!r} has no option {unknown[0]!r}; it has: {', '.join(known)}")
    if seed is not None:
        generator = np.random.default_rng(seed)
    try:
        return models.get(name)(generator=generator, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"model {name!r}: {error}") from error
