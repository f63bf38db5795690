"""Saving and loading weights as safetensors, in PyTorch's names and layout.

A file written here loads into torchvision's model of the same architecture, and the other way
round: this module is the only place where the layouts meet. Filters are (OC, KH, KW, C) here and
(OC, C, KH, KW) there; everything else stands the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tinynn.files import replace_file
from tinynn.nn.module import Module, Parameter


class StateError(ValueError):
    """A file that is not what it should be, or does not fit the model."""


def to_torch(model: Module) -> dict[str, np.ndarray]:
    """The state of a model in PyTorch's names and layout."""
    state = model.state_dict()
    for name, axes in _torch_axes(model).items():
        state[name] = np.ascontiguousarray(state[name].transpose(axes))
    return state


def from_torch(model: Module, state: Mapping[str, Any]) -> None:
    """Copy a state in PyTorch's layout (arrays, or CPU tensors) into a model.

    StateError lists every missing, extra and misshapen entry; nothing is changed then.
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, axes in _torch_axes(model).items():
        if name in arrays and arrays[name].ndim == len(axes):
            arrays[name] = arrays[name].transpose(np.argsort(axes))
    try:
        model.load_state_dict(arrays)
    except ValueError as error:
        raise StateError(str(error)) from None


def _torch_axes(model: Module) -> dict[str, tuple[int, ...]]:
    return {
        name: tensor.torch_axes
        for name, tensor in model.named_tensors()
        if isinstance(tensor, Parameter) and tensor.torch_axes is not None
    }


def save(model: Module, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model's state to a safetensors file, with JSON-able metadata."""
    write_arrays(path, to_torch(model), metadata)


def load(model: Module, path: str | Path) -> dict[str, Any]:
    """Read a safetensors file into a model of the same architecture; returns the metadata.

    StateError for a file that is damaged, foreign or of another model.
    """
    arrays, metadata = read_arrays(path)
    try:
        from_torch(model, arrays)
    except StateError as error:
        raise StateError(f"{path}: {error}") from None
    return metadata


def write_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays to a safetensors file, whole or not at all. OSError if it cannot be."""
    text = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    # A strided array would be written wrongly by some versions of safetensors.
    plain = {name: np.ascontiguousarray(a).reshape(np.shape(a)) for name, a in arrays.items()}
    replace_file(path, safetensors.numpy.save(plain, metadata=text))


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read every array and the metadata of a safetensors file. StateError if it is not one."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata alone. StateError if the file is not a safetensors file."""
    with _opened(path) as file:
        return _metadata(file)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            yield file
    except FileNotFoundError:
        raise StateError(f"{path}: there is no such file") from None
    except TypeError as error:  # bfloat16, float8: numbers without a NumPy type
        raise StateError(f"{path}: {error}; convert the file to float32 first") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise StateError(
            f"{path}: not a readable safetensors file ({error}); it may be truncated: take another "
            "checkpoint, or train again"
        ) from None


def _metadata(file: Any) -> dict[str, Any]:
    return {key: _from_json(value) for key, value in (file.metadata() or {}).items()}


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # metadata of a foreign file is any text
        return text
