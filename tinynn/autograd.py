"""Reverse-mode differentiation: a graph of Functions, walked backwards once.

A Function is both an operation and its node in the graph. `forward` computes arrays from arrays
and saves what its derivative needs; `backward` turns the gradient of the output into one gradient
for each input. First order only: gradients are arrays, not graphs of their own.

A node points to what produced its inputs, never to the input Tensors themselves, so an
activation lives only as long as some node has saved it, and `backward` lets go as it passes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tinynn.backend import Array, Backend, current_backend
from tinynn.tensor import Tensor

_grad_enabled: ContextVar[bool] = ContextVar("tinynn_grad_enabled", default=True)
_serial = itertools.count()  # later nodes have larger numbers: a topological order for free


@contextmanager
def no_grad() -> Iterator[None]:
    """Within the block (or the decorated function), record no graph."""
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


@contextmanager
def enable_grad() -> Iterator[None]:
    """Within the block, record the graph again: the inverse of `no_grad`."""
    token = _grad_enabled.set(True)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations record a graph just now."""
    return _grad_enabled.get()


class Function:
    """An operation and its node in the graph. Options are set by the subclass's constructor.

    `self.kernels` is the backend it was called under; `self.needs[i]` says whether input i wants
    a gradient, so that `backward` can return None for the others.

    Gradients may be overwritten by whoever alone holds them: `new_grads` says that those which
    `backward` returns are arrays of their own, or dy; `owns_dy`, while it runs, that dy is such.
    """

    new_grads = False
    owns_dy: bool

    kernels: Backend
    needs: tuple[bool, ...]
    saved: tuple[Any, ...] = ()
    pending: Pending  # while `backward` runs

    def forward(self, *inputs: Any) -> Array:
        """Arrays (and Python scalars) in, one array out."""
        raise NotImplementedError

    def backward(self, dy: Array) -> tuple[Array | None, ...] | Array:
        """The gradient of the output in; one gradient an input out (or None)."""
        raise NotImplementedError

    def save(self, *arrays: Any) -> None:
        """Keep arrays for `backward`."""
        self.saved = arrays

    def __call__(self, *inputs: Any) -> Tensor:
        self.kernels = backend = current_backend()
        recording, array_type = _grad_enabled.get(), backend.xp.ndarray
        arrays, needs, edges = [], [], []
        for x in inputs:
            edge = None
            if isinstance(x, Tensor):
                if recording and x.requires_grad:
                    edge = x.node or x
                x = x.data
                if not isinstance(x, array_type):
                    raise TypeError(
                        f"{self.name}: backend {backend.name!r} works on "
                        f"{backend.xp.__name__} arrays, this input is a {type(x).__module__} "
                        f"array; make the tensor inside use_backend({backend.name!r})"
                    )
            arrays.append(x)
            edges.append(edge)
            needs.append(edge is not None)
        self.needs = tuple(needs)
        try:
            y = self.forward(*arrays)
        except MemoryError as error:
            raise self.out_of_memory("forward", arrays, error) from error
        out = Tensor.of(y) if isinstance(y, array_type) else Tensor(y)  # NumPy's sum is a number
        if True in needs and out.data.dtype.kind == "f":  # rounding to integers has no gradient
            self.edges = tuple(edges)
            self.serial = next(_serial)
            self.freed = False
            self.retained: Tensor | None = None
            out.node, out.requires_grad = self, True
        else:
            self.saved = ()
        return out

    def grad_storage(self, i: int) -> Array | None:
        """Where the gradient of input i can be written at once, rather than copied: the storage
        of a leaf that has no gradient yet and is no other input too."""
        edge = self.edges[i]
        if isinstance(edge, Tensor) and edge.grad is None:
            return edge.free_grad_storage() if self.edges.count(edge) == 1 else None
        return None

    def take_grad(self, i: int) -> tuple[Array | None, bool]:
        """The gradient that input i has so far, by a shortcut for example, or None; and whether
        it may be written to, as nobody else holds it.

        Whoever takes it adds it to the gradient that `backward` returns for that input, as some
        kernels can while they write; what is not contiguous, they could not, so it is not given.
        """
        edge = self.edges[i]
        if not isinstance(edge, Function):
            return NOTHING
        taken, new = self.pending.get(edge, NOTHING)
        if taken is None or not taken.flags.c_contiguous:
            return NOTHING
        self.pending[edge] = NOTHING
        return taken, new

    @property
    def name(self) -> str:
        """The operation's name, as errors show it."""
        return type(self).__name__

    def out_of_memory(self, way: str, arrays: list[Any], error: MemoryError) -> MemoryError:
        """The same error, with the operation and the shapes that did not fit."""
        shapes = " and ".join(str(a.shape) for a in arrays if hasattr(a, "shape"))
        return MemoryError(f"{self.name}, {way} of {shapes}: {error}")

    def free(self) -> None:
        """Let go of the saved arrays and of the graph behind this node."""
        self.saved, self.edges, self.retained, self.freed = (), (), None, True


# Gradients of nodes that wait for all their parts, and whether they are held by nobody else.
Pending = dict[Function, tuple[Array | None, bool]]
NOTHING = None, False


def backward(root: Tensor, gradient: Array, retain_graph: bool = False) -> None:
    """Add d(root)/d(leaf) * gradient to every leaf's `grad`. Iterative: depth costs no stack."""
    if root.node is None:
        root.accumulate_grad(gradient)
        return
    pending: Pending = {root.node: (gradient, False)}
    queue = [(-root.node.serial, root.node)]
    while queue:
        _, node = heapq.heappop(queue)
        if node.freed:
            raise RuntimeError(
                f"backward: the graph behind {node.name} was walked before and its arrays are "
                "freed; run the forward pass again, add the losses and call backward once, or "
                "keep the graph with backward(retain_graph=True)"
            )
        dy, new = pending.pop(node)
        if node.retained is not None:
            node.retained.accumulate_grad(dy)
        node.pending, node.owns_dy = pending, new
        try:
            dxs = node.backward(dy)
        except MemoryError as error:
            raise node.out_of_memory("backward", [dy], error) from error
        finally:
            del node.pending
        edges = node.edges
        if not retain_graph:
            node.free()
        for edge, dx in zip(edges, dxs if isinstance(dxs, tuple) else (dxs,)):
            if edge is None or dx is None:
                continue
            if isinstance(edge, Tensor):
                edge.accumulate_grad(dx)
                continue
            new = node.new_grads and (node.owns_dy or dx is not dy)
            if edge not in pending:
                heapq.heappush(queue, (-edge.serial, edge))
            earlier, _ = pending.get(edge, NOTHING)
            if earlier is not None:
                dx, new = node.kernels.add(earlier, dx), True
            pending[edge] = dx, new
