"""Random generators are passed explicitly; where none is, the process's default one is drawn from.

    model = nn.Linear(4, 2, generator=np.random.default_rng(0))     # explicit
    tn.manual_seed(0); model = nn.Linear(4, 2)                      # the default generator

Parameters are always drawn by NumPy on the host, then moved: a seed gives one network on every
backend. So are masks, but for those of a GPU, which grow there from a key that NumPy draws.
"""

from __future__ import annotations

import numpy as np

_default = np.random.default_rng()


def default_generator() -> np.random.Generator:
    """The generator used where none is passed."""
    return _default


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the default generator from `seed` and return it."""
    _default.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return _default
