"""Tensor: an array, its gradient, and the node that made it. No maths of its own: every operator
looks its function up in `operators`, which `tinynn.functions` fills."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tinynn.backend import Array, current_backend
from tinynn.kernels.reference import namespace

if TYPE_CHECKING:
    from tinynn.autograd import Function

HOLDERS = 3  # of `grad_storage`: the tensor, the optimiser's list, and who counts them

operators: dict[str, Callable[..., Any]] = {}
Op = TypeVar("Op", bound=Callable[..., Any])


def operator(function: Op) -> Op:
    """Make a function available to Tensor's methods under its own name."""
    operators[function.__name__] = function
    return function


class Tensor:
    """An array in a graph of operations.

    data           the array (NumPy, or of the backend it was made under); shared, not copied
    grad           the gradient array after `backward`, or None
    requires_grad  whether `backward` should reach it (leaves), or passes through it
    node           the Function that made it, None for a leaf

    Python floats become float32 and integers int64; arrays keep their dtype.
    """

    __slots__ = ("__weakref__", "data", "grad", "grad_storage", "node", "requires_grad")
    __array_ufunc__ = None  # array + tensor is the Tensor's business, not NumPy's

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        if isinstance(data, Tensor):
            data = data.data
        if dtype is None and not hasattr(data, "dtype"):
            dtype = _default_dtype(data)
        if dtype is not None or not current_backend().owns(data):
            data = current_backend().asarray(data, dtype)
        if requires_grad:
            check_differentiable(data)
        self.data: Array = data
        self.grad: Array | None = None
        self.grad_storage: Array | None = None  # where an optimiser wants the gradient to live
        self.node: Function | None = None
        self.requires_grad = requires_grad

    @classmethod
    def of(cls, data: Array) -> Tensor:
        """A leaf around an array of the backend, which is not looked at: quicker than Tensor()."""
        tensor = cls.__new__(cls)
        tensor.data, tensor.requires_grad = data, False
        tensor.grad = tensor.grad_storage = tensor.node = None
        return tensor

    # -- what it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than by an operation that is recorded."""
        return self.node is None

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        made_by = f", node={self.node.name}" if self.node else ""
        leaf = ", requires_grad=True" if self.requires_grad and not self.node else ""
        values = np.array2string(
            current_backend().to_numpy(self.data), separator=", ", prefix="T" * 7
        )
        return f"Tensor({values}, dtype={self.dtype}{leaf}{made_by})"

    # -- its values -------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A NumPy copy of the values, also from another device."""
        return current_backend().to_numpy(self.data)

    def item(self) -> float | int | bool:
        """The one element as a Python number. ValueError if there are more."""
        if self.size != 1:
            raise ValueError(f"item: the tensor has {self.size} elements, shape {self.shape}")
        return self.data.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def detach(self) -> Tensor:
        """The same array outside the graph."""
        return Tensor(self.data)

    # -- its gradient -----------------------------------------------------------------------

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to `grad` of every leaf that requires one.

        `gradient` is d(loss)/d(self); 1 for a scalar. The graph is freed on the way, so a second
        call raises RuntimeError unless `retain_graph`.
        """
        from tinynn.autograd import backward

        if not self.requires_grad:
            raise RuntimeError(
                "backward: this tensor does not depend on anything that requires a gradient "
                "(or was made under no_grad)"
            )
        xp = namespace(self.data)  # of the backend that made it, whichever is current now
        if gradient is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward: a tensor of shape {self.shape} needs an explicit gradient of that "
                    "shape; reduce the loss to a scalar, or pass backward(gradient)"
                )
            gradient = xp.ones(self.shape, self.dtype)
        elif isinstance(gradient, Tensor):
            gradient = gradient.data
        gradient = xp.asarray(gradient, self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(
                f"backward: gradient has shape {gradient.shape}, expected {self.shape}"
            )
        backward(self, gradient, retain_graph)

    def accumulate_grad(self, dy: Array) -> None:
        """grad += dy, in storage of its own: `dy` may be shared with another gradient."""
        if self.grad is not None:
            self.grad += dy
        elif dy is self.grad_storage:
            self.grad = dy
        else:
            storage = self.free_grad_storage()
            if storage is None or storage.shape != self.shape:
                self.grad = namespace(self.data).array(dy, self.dtype, order="C")  # always a copy
            else:
                storage[...] = dy
                self.grad = storage

    def free_grad_storage(self) -> Array | None:
        """Where an optimiser wants the gradient to live; None if there is no such place, or if the
        user still holds the last gradient there (see `Backend.split`) and it would change."""
        if self.grad_storage is None or sys.getrefcount(self.grad_storage) > HOLDERS:
            return None
        return self.grad_storage

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this intermediate tensor too, to look at it after `backward`."""
        if self.node is not None:
            self.node.retained = self
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Change `requires_grad` of a leaf, in place."""
        if self.node is not None:
            raise RuntimeError("requires_grad_: only a leaf can change; use detach() first")
        if requires_grad:
            check_differentiable(self.data)
        self.requires_grad = requires_grad
        return self

    # -- operators --------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return operators["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return operators["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return operators["sub"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return operators["sub"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return operators["mul"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return operators["mul"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return operators["div"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return operators["div"](other, self)

    def __pow__(self, exponent: Any) -> Tensor:
        return operators["pow"](self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return operators["pow"](base, self)

    def __matmul__(self, other: Any) -> Tensor:
        return operators["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return operators["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return operators["neg"](self)

    def __getitem__(self, index: Any) -> Tensor:
        return operators["getitem"](self, index)

    def _compare(self, other: Any, symbol: str) -> Tensor:
        value = other.data if isinstance(other, Tensor) else other
        return Tensor(getattr(self.data, symbol)(value))

    def __lt__(self, other: Any) -> Tensor:
        return self._compare(other, "__lt__")

    def __le__(self, other: Any) -> Tensor:
        return self._compare(other, "__le__")

    def __gt__(self, other: Any) -> Tensor:
        return self._compare(other, "__gt__")

    def __ge__(self, other: Any) -> Tensor:
        return self._compare(other, "__ge__")

    # `==` stays identity so that tensors can be dictionary keys; use eq().

    def eq(self, other: Any) -> Tensor:
        """Elementwise equality, as a boolean tensor."""
        return self._compare(other, "__eq__")

    # -- methods that are functions of the same name ------------------------------------------

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The transposed matrix."""
        return operators["transpose"](self, 0, 1) if self.ndim == 2 else self._no_transpose()

    def _no_transpose(self) -> Tensor:
        raise ValueError(f"T: needs 2 dimensions, this tensor has shape {self.shape}; use permute")

    def exp(self) -> Tensor:
        return operators["exp"](self)

    def log(self) -> Tensor:
        return operators["log"](self)

    def sqrt(self) -> Tensor:
        return operators["sqrt"](self)

    def abs(self) -> Tensor:
        return operators["abs"](self)

    def pow(self, exponent: Any) -> Tensor:
        return operators["pow"](self, exponent)

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        return operators["clip"](self, min, max)

    def relu(self) -> Tensor:
        return operators["relu"](self)

    def sigmoid(self) -> Tensor:
        return operators["sigmoid"](self)

    def tanh(self) -> Tensor:
        return operators["tanh"](self)

    def softmax(self, dim: int) -> Tensor:
        return operators["softmax"](self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        return operators["log_softmax"](self, dim)

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return operators["sum"](self, dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return operators["mean"](self, dim, keepdim)

    def var(self, dim: Any = None, *, correction: int = 1, keepdim: bool = False) -> Tensor:
        return operators["var"](self, dim, correction=correction, keepdim=keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return operators["max"](self, dim, keepdim)

    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return operators["amax"](self, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        return operators["argmax"](self, dim, keepdim)

    def reshape(self, *shape: Any) -> Tensor:
        return operators["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return operators["flatten"](self, start_dim, end_dim)

    def permute(self, *dims: Any) -> Tensor:
        return operators["permute"](self, dims[0] if len(dims) == 1 else dims)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        return operators["transpose"](self, dim0, dim1)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; the gradient comes back in this one."""
        return operators["astype"](self, dtype)


def check_differentiable(array: Array) -> None:
    """Raise TypeError for an array whose elements are not floating-point numbers."""
    if array.dtype.kind != "f":
        raise TypeError(
            f"Tensor: only floating-point tensors can require a gradient, not {array.dtype}; "
            "pass dtype='float32'"
        )


def _default_dtype(data: Any) -> Any:
    """float32 for Python floats (nested or not); None leaves integers and booleans to NumPy."""
    kind = np.asarray(data).dtype.kind
    return "float32" if kind == "f" else None
