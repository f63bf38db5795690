"""A network in two: what finds the features of an image, and the layer that classifies them."""

from __future__ import annotations

import copy

from hwr.errors import UserError
from tinynn import nn
from tinynn.nn import Module


def without_head(model: Module) -> tuple[Module, nn.Linear]:
    """A copy of a model that gives the features (N, F) its last layer reads, and that layer.

    Every classifier here ends with a fully connected layer: `model(x)` is `head(trunk(x))`.
    UserError for a model that has none.
    """
    trunk = copy.deepcopy(model)
    names = [name for name, module in trunk.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UserError(f"{type(model).__name__} has no fully connected layer, so no features")
    owner_name, _, name = names[-1].rpartition(".")
    owner = dict(trunk.named_modules())[owner_name]
    head: nn.Linear = getattr(owner, name)
    setattr(owner, name, nn.Identity())
    return trunk, head
