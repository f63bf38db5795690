"""Optimisers over flat storage.

The parameters of a group, their gradients and their moments are views of contiguous buffers, so a
step is one kernel over one long array instead of a loop over a hundred small ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from tinynn.backend import Array, current_backend
from tinynn.kernels.replay import keep_alive, on_host
from tinynn.tensor import Tensor


class ParamGroup:
    """Parameters that share their options, in flat storage.

    `options` are the optimiser's (momentum, weight_decay, ...). `lr` is kept in an array of one
    element, which kernels read; `group["lr"] = 0.1` and `group.lr = 0.1` both set it.
    """

    def __init__(
        self, params: list[Tensor], lr: float, options: dict[str, Any], moments: list[str]
    ):
        self.backend = current_backend()
        xp = self.backend.xp
        self.params, self.options = params, options
        dtypes = {str(p.dtype) for p in params}
        if len(dtypes) > 1:
            raise TypeError(f"optimizer: one group holds {sorted(dtypes)}; make a group for each")
        self.dtype = params[0].dtype
        self.ends = np.cumsum([p.size for p in params]).tolist()
        self.weights, self.grads = self.zeros(), self.zeros()
        self.moments = {name: self.zeros() for name in moments}
        self.lr_array = xp.full(1, lr, np.float64)
        self.steps = xp.zeros(len(params), np.float64)  # on the device, for the kernels
        self.step_counts = [0] * len(params)  # the same on the host, to find runs
        self.views: list[Array | None] = [None] * len(params)  # what each parameter should hold
        self.grad_views = self.backend.split(self.grads, [p.shape for p in params])
        self.gather()

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.lr_array[0])

    @lr.setter
    def lr(self, value: float) -> None:
        self.lr_array[...] = value

    def __getitem__(self, key: str) -> Any:
        return self.lr if key == "lr" else self.params if key == "params" else self.options[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "lr":
            self.lr = value
        elif key in self.options:
            self.options[key] = value
        else:
            raise KeyError(f"optimizer: no option {key!r}; there are lr, {', '.join(self.options)}")

    def zeros(self) -> Array:
        """Flat storage for a number of each weight."""
        return self.backend.zeros((self.ends[-1],), self.dtype)

    def gather(self) -> None:
        """Make every parameter a view of the flat buffer again, if someone replaced its array."""
        begin = 0
        for i, (p, end) in enumerate(zip(self.params, self.ends)):
            if p.data is not self.views[i]:
                shape = self.grad_views[i].shape
                if p.dtype != self.dtype or p.shape != shape:
                    raise ValueError(
                        f"optimizer: a parameter was {shape} {self.dtype} and has become {p.shape} "
                        f"{p.dtype}; make a new optimizer after such a change"
                    )
                view = self.weights[begin:end].reshape(p.shape)
                view[...] = p.data
                p.data = self.views[i] = view
            if p.grad is not None and p.grad is not self.grad_views[i]:
                self.collect(i, p)
            p.grad_storage = self.grad_views[i]
            begin = end

    def collect(self, i: int, p: Tensor) -> None:
        """Copy a gradient that was made elsewhere into the flat storage."""
        if p.grad_storage is self.grad_views[i] and p.free_grad_storage() is None:
            self.leave_grads()
        self.grad_views[i][...] = p.grad
        p.grad = self.grad_views[i]

    def leave_grads(self) -> None:
        """Let the user keep what he holds of the gradients, and go on in other memory."""
        keep_alive(self.grads)  # a step that is recorded has written there
        shapes = [view.shape for view in self.grad_views]
        left, self.grads = self.grad_views, self.zeros()
        self.grad_views = self.backend.split(self.grads, shapes)
        for p, old, new in zip(self.params, left, self.grad_views):
            new[...] = old
            if p.grad is old:
                p.grad = new
            p.grad_storage = new

    def runs(self) -> Iterator[tuple[slice, Array]]:
        """Stretches of the flat arrays to update together, and their step number (1,).

        A parameter without a gradient is left alone, as in PyTorch, and its step does not count.
        """
        begin = 0
        for end in range(1, len(self.params) + 1):
            if end < len(self.params) and self._together(begin, end):
                continue
            if self.params[begin].grad is not None:
                steps = self.steps[begin:end]
                steps += 1  # by its name: `self.steps[...] += 1` copies it onto itself besides
                on_host(partial(self._count, begin, end))
                flat = slice(self.ends[begin - 1] if begin else 0, self.ends[end - 1])
                yield flat, steps[:1]
            begin = end

    def _count(self, begin: int, end: int) -> None:
        """One more step of these parameters."""
        for i in range(begin, end):
            self.step_counts[i] += 1

    def _together(self, i: int, j: int) -> bool:
        """Whether parameters i and j take the same step, or both none."""
        a, b = self.params[i].grad is None, self.params[j].grad is None
        return a == b and self.step_counts[i] == self.step_counts[j]


class Optimizer:
    """Base class: groups, step, zero_grad and state. Subclasses name their moments and update.

    `params` is an iterable of tensors, or of dictionaries {"params": ..., option: value}.
    """

    def __init__(self, params: Iterable[Any], lr: float, **options: Any):
        self.check_lr(lr)
        given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        grouped = bool(given) and isinstance(given[0], Mapping)
        dicts: list[Any] = given if grouped else [{"params": given}]
        self.param_groups: list[ParamGroup] = []
        seen: set[int] = set()
        for entry in dicts:
            own = {**options, **{k: v for k, v in entry.items() if k not in ("params", "lr")}}
            if extra := own.keys() - options.keys():
                raise TypeError(f"{type(self).__name__}: unknown options {sorted(extra)}")
            self.check_options(own)
            members = entry["params"]
            members = [members] if isinstance(members, Tensor) else list(members)
            self.check_params(members, seen)
            group_lr = entry.get("lr", lr)
            self.check_lr(group_lr)
            self.param_groups.append(ParamGroup(members, group_lr, own, self.moment_names(own)))

    def check_params(self, params: list[Any], seen: set[int]) -> None:
        """Raise ValueError or TypeError for what cannot be trained, or is `seen` already."""
        name = type(self).__name__
        if not params:
            raise ValueError(f"{name}: no parameters were given")
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{name}: parameters are Tensors, not {type(p).__name__}; "
                    "use model.parameters()"
                )
            if p.node is not None:
                raise ValueError(f"{name}: only a leaf can be trained, this is a result: {p!r}")
            if id(p) in seen:
                raise ValueError(f"{name}: a parameter was given twice")
            seen.add(id(p))

    def check_lr(self, lr: float) -> None:
        """Raise ValueError unless the learning rate is finite and not negative."""
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"{type(self).__name__}: lr must be finite and >= 0, not {lr}")

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ValueError for an option out of range."""
        for key, value in options.items():
            if key in ("beta1", "beta2", "rho", "alpha") and not 0 <= value < 1:
                raise ValueError(f"{type(self).__name__}: {key} must be in [0, 1), not {value}")
            if not value >= 0:
                raise ValueError(f"{type(self).__name__}: {key} must not be negative, not {value}")

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        """The flat arrays a group keeps besides its weights."""
        raise NotImplementedError

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        """Update one stretch of a group's flat arrays."""
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            group.gather()
            keep_alive(group.weights, group.grads, *group.moments.values())
            for run, step in group.runs():
                self.update(group, run, step)

    def zero_grad(self) -> None:
        """Forget all gradients: the next backward starts from nothing."""
        for group in self.param_groups:
            for p in group.params:
                p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Moments, steps and learning rates as NumPy copies, under flat names."""
        state: dict[str, np.ndarray] = {}
        for i, group in enumerate(self.param_groups):
            state[f"{i}.lr"] = group.backend.to_numpy(group.lr_array)
            state[f"{i}.steps"] = np.array(group.step_counts, np.float64)
            for name, moment in group.moments.items():
                state[f"{i}.{name}"] = group.backend.to_numpy(moment)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of the same optimiser over the same parameters.

        ValueError, listing what does not fit, before anything is changed.
        """
        own = self.state_dict()
        problems = [f"missing {k}" for k in own if k not in state]
        problems += [f"extra {k}" for k in state if k not in own]
        problems += [
            f"{k}: {np.shape(state[k])} in the state, {own[k].shape} here"
            for k in own
            if k in state and np.shape(state[k]) != own[k].shape
        ]
        if problems:
            raise ValueError(
                f"{type(self).__name__}: the state is of another optimiser or model: "
                + "; ".join(problems)
            )
        for i, group in enumerate(self.param_groups):
            asarray = group.backend.asarray
            group.lr_array[...] = asarray(state[f"{i}.lr"])
            group.steps[...] = asarray(state[f"{i}.steps"])
            group.step_counts = [int(s) for s in state[f"{i}.steps"]]
            for name, moment in group.moments.items():
                moment[...] = asarray(state[f"{i}.{name}"], moment.dtype)
