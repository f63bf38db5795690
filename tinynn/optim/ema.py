"""An exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinynn.backend import current_backend
from tinynn.kernels.replay import on_host
from tinynn.nn.module import Module


class EMA:
    """average <- decay average + (1 - decay) weights, after every step.

    Running statistics are averaged too; counters are copied. The first update copies the weights.
    Evaluate under `with ema.applied():`, which swaps the averages in and out again.
    Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017.
    """

    def __init__(self, model: Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), not {decay}")
        self.backend = current_backend()
        self.model, self.decay, self.updates = model, decay, 0
        self.averages = {name: t.data.copy() for name, t in model.named_tensors()}

    def update(self) -> None:
        """Take the model's present weights into the average."""
        decay = self.decay if self.updates else 0.0
        on_host(self._count)
        for name, tensor in self.model.named_tensors():
            average = self.averages[name]
            if tensor.dtype.kind == "f":
                self.backend.update_average(average, tensor.data, 1 - decay)
            else:
                average[...] = tensor.data

    def _count(self) -> None:
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Within the block the model holds the averages; afterwards its own weights again."""
        self._swap()
        try:
            yield self.model
        finally:
            self._swap()

    def _swap(self) -> None:
        swapped: set[int] = set()  # a shared tensor has several names and averages, all alike
        for name, tensor in self.model.named_tensors():
            if id(tensor) in swapped:
                continue
            swapped.add(id(tensor))
            held = tensor.data.copy()
            tensor.data[...] = self.averages[name]
            self.averages[name][...] = held

    def state_dict(self) -> dict[str, Any]:
        """The averages and the number of updates, as NumPy copies."""
        averages = {k: self.backend.to_numpy(v) for k, v in self.averages.items()}
        return {**averages, "updates": np.array(self.updates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; ValueError, and nothing is changed, if it is another's."""
        problems = [f"missing {k}" for k in (*self.averages, "updates") if k not in state]
        problems += [
            f"{k}: {np.shape(state[k])} in the state, {average.shape} here"
            for k, average in self.averages.items()
            if k in state and np.shape(state[k]) != average.shape
        ]
        if problems:
            raise ValueError("EMA: the state is of another model: " + "; ".join(problems))
        for name, average in self.averages.items():
            average[...] = self.backend.asarray(state[name], average.dtype)
        self.updates = int(state["updates"])
