"""Module: parameters, buffers and submodules found by walking attributes in definition order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinynn.backend import current_backend
from tinynn.tensor import Tensor


class Parameter(Tensor):
    """A tensor that is trained.

    `torch_axes` says how its axes stand in PyTorch: a filter (OC, KH, KW, C) is permuted by
    (0, 3, 1, 2) there. `state` uses it when it reads and writes files.
    """

    __slots__ = ("torch_axes",)

    def __init__(self, data: Any, torch_axes: tuple[int, ...] | None = None):
        super().__init__(data, requires_grad=True)
        self.torch_axes = torch_axes


class Buffer(Tensor):
    """A tensor that belongs to the state but is not trained: running statistics, counters."""

    __slots__ = ()


class Module:
    """A part of a network. Assign parameters, buffers and modules to attributes, define `forward`.

    A list or tuple of modules is not walked: use ModuleList or Sequential.
    """

    training: bool = True

    def forward(self, *inputs: Any) -> Any:
        """Compute the output. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    # -- walking ------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules, in definition order."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Direct submodules, in definition order."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and everything below it, with dotted names; a shared one under each."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and everything below it."""
        return (module for _, module in self.named_modules())

    def named_tensors(self) -> Iterator[tuple[str, Parameter | Buffer]]:
        """Parameters and buffers under their state names, such as `layer1.0.bn2.running_mean`."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, (Parameter, Buffer)):
                    yield (f"{prefix}.{name}" if prefix else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Trainable tensors under their state names; one that is shared appears once."""
        seen: set[int] = set()
        for name, value in self.named_tensors():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Trainable tensors, in definition order."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Buffers under their state names."""
        for name, value in self.named_tensors():
            if isinstance(value, Buffer):
                yield name, value

    def buffers(self) -> Iterator[Buffer]:
        """Buffers, in definition order."""
        return (buffer for _, buffer in self.named_buffers())

    # -- state --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer as a NumPy copy, in this library's layout."""
        return {name: tensor.numpy() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters and buffers of the same names, in place.

        Nothing is changed if anything does not fit: ValueError then lists every missing, extra
        and misshapen entry.
        """
        own = dict(self.named_tensors())
        problems = [f"missing {name} {own[name].shape}" for name in own if name not in state]
        problems += [f"extra {name} {np.shape(state[name])}" for name in state if name not in own]
        problems += [
            f"misshapen {name}: {np.shape(state[name])} in the state, {tensor.shape} in the model"
            for name, tensor in own.items()
            if name in state and np.shape(state[name]) != tensor.shape
        ]
        if problems:
            shown = "\n  ".join(
                problems[:20] + [f"... {len(problems) - 20} more"][: len(problems) > 20]
            )
            raise ValueError(
                f"load_state_dict: the state is not of this {type(self).__name__}; create the "
                f"model with the options it was saved with:\n  {shown}"
            )
        backend = current_backend()
        for name, tensor in own.items():
            tensor.data[...] = backend.asarray(state[name], tensor.dtype)

    def astype(self, dtype: Any) -> Module:
        """Convert every floating-point parameter and buffer, in place. Returns self."""
        for _, tensor in self.named_tensors():
            if tensor.dtype.kind == "f":
                tensor.data = tensor.data.astype(dtype)
                tensor.grad = tensor.grad_storage = None
        return self

    # -- mode ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training mode: batch statistics and dropout. Returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: running statistics, no dropout. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze or thaw every parameter. Returns self."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of every parameter."""
        for parameter in self.parameters():
            parameter.grad = None

    # -- display ------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The options shown in the representation."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        body = "".join("\n  " + line.replace("\n", "\n  ") for line in lines)
        return f"{type(self).__name__}({self.extra_repr()}{body}{chr(10) if body else ''})"


class Sequential(Module):
    """Modules applied one after another; named by their position, as in PyTorch."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        for module in self.children():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]


class ModuleList(Module):
    """A list of modules that is walked; it has no forward of its own."""

    def __init__(self, modules: Any = ()):
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end. Returns self."""
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(list(self.children()))

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]
