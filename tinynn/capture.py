"""A step captured once and replayed: on a GPU one launch, where eagerly there are hundreds.

    step = tn.capture(train_step, (images, labels), model=model)
    for images, labels in batches:
        loss, read = step(images, labels)

A step is some hundred kernels, and the host takes longer to launch most of them than the device to
run them. A CUDA graph holds all launches of a step with their pointers and numbers, so what differs
between steps must lie in memory of its own:

    inputs    copied into arrays that the recorded step reads
    lr, step counts, keys of random numbers    arrays; the host writes them before it launches
    what the step allocates    from a pool that nothing else uses, as long as the graph lives
    results   copied into a ring, so that they can be read a few steps later, and seldom

On the CPU there is nothing to launch, and `capture` returns the step as it is.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tinynn.autograd import is_grad_enabled
from tinynn.backend import Array, Backend, current_backend
from tinynn.kernels.precision import get_float32_matmul_precision
from tinynn.kernels.replay import noting
from tinynn.nn import Module
from tinynn.tensor import Tensor

Step = Callable[..., tuple[Tensor, ...]]
WARM_UP = 3  # steps before the recording: kernels are compiled when they are first used
NO_MEMORY = 2  # of CUDA's runtime: cudaErrorMemoryAllocation
KEPT = 32  # steps that results can be read after theirs


def capture(step: Step, example: Sequence[Any], *, model: Module | None = None) -> Step:
    """`step`, recorded as one CUDA graph where the current backend is a GPU's.

    `step(*arrays)` computes on the device alone and returns tensors; it may update weights, and it
    reads nothing back. `example`: inputs as it will be given. The first three calls run as they
    are, the third on copies on the device, then the step is recorded. Inputs of another shape, or
    another mode of `model` (or of gradients, or precision), begin anew. A batch of fewer rows, the
    last of an epoch, runs as it is and keeps the recording. Results are valid for 32 further calls.
    Numbers that the step reads on the host, all but an optimiser's lr, stay what they were: capture
    anew to change a momentum.

    A step that cannot be recorded runs as it is, with a RuntimeWarning that says why; `model` has
    the gradients again that it had before. (Without one the step must begin with `zero_grad`.)
    """
    backend = current_backend()
    return CapturedStep(step, example, model, backend) if backend.has_device else step


class CapturedStep:
    """What `capture` returns on a GPU. `recording` is None while steps run as they are."""

    def __init__(self, step: Step, example: Sequence[Any], model: Module | None, backend: Backend):
        self.step, self.backend, self.pool = step, backend, graph_pool(backend.xp)
        self.recording: Recording | None = None
        self.modules = list(model.modules()) if model else []
        self.parameters = list(model.parameters()) if model else []
        self.refused = False  # it cannot be recorded
        self.begin(list(map(shape_of, example)))

    def begin(self, shapes: list[Any]) -> None:
        """Begin anew: the inputs have these shapes from now on, or the mode is new."""
        self.forget()
        self.shapes, self.mode, self.warm = shapes, self.present_mode(), 0

    def forget(self) -> None:
        """Drop the recording and its memory."""
        self.recording = None
        self.pool.free_all_blocks()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.forget()

    def present_mode(self) -> tuple[Any, ...]:
        """All that a recording depends on besides the shapes of its inputs."""
        training = [module.training for module in self.modules]
        return is_grad_enabled(), get_float32_matmul_precision(), training

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        shapes = list(map(shape_of, inputs))
        if self.refused or is_rest(shapes, self.shapes):
            return self.step(*inputs)
        if shapes != self.shapes or self.present_mode() != self.mode:
            self.begin(shapes)
        if self.recording is None:
            if self.warm < WARM_UP:
                self.warm += 1
                # At last as it will be recorded: arrays of the host may take other ways.
                return self.step(*(self.static(inputs) if self.warm == WARM_UP else inputs))
            reason = self.record(inputs)
            if self.recording is None:
                self.refused = True
                self.forget()
                warnings.warn(
                    f"capture: the step cannot be recorded, so it runs launch by launch ({reason})",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return self.step(*inputs)
        return self.recording.replay(inputs)

    def static(self, inputs: Sequence[Any]) -> list[Array]:
        """Copies of inputs on the device."""
        return [self.backend.asarray(array_of(x)).copy() for x in inputs]

    def record(self, inputs: Sequence[Any]) -> str:
        """Make the recording, or say why there is none (by words: an error would keep arrays)."""
        grads = [p.grad for p in self.parameters]
        try:
            self.recording = Recording(self.step, self.static(inputs), self.backend, self.pool)
        except (RuntimeError, TypeError, MemoryError) as error:
            for p, grad in zip(self.parameters, grads):  # those there now nobody has computed
                p.grad = grad
            return str(error)
        return ""


class Recording:
    """A step as a CUDA graph, and all the memory that the graph points to."""

    def __init__(self, step: Step, inputs: list[Array], backend: Backend, pool: Any):
        self.inputs, self.backend, self.pool, xp = inputs, backend, pool, backend.xp
        xp.get_default_memory_pool().free_all_blocks()  # what the warm-up used
        self.stream = xp.cuda.Stream(non_blocking=True)
        with self.stream, xp.cuda.using_allocator(self.pool.malloc), noting() as self.notes:
            self.stream.begin_capture()
            try:
                self.outputs = [result.data for result in step(*self.inputs)]
            except BaseException:
                with suppress(RuntimeError):  # which repeats that it failed
                    self.stream.end_capture()
                raise
            self.graph = self.stream.end_capture()
        self.rings: list[Array] = [xp.empty((KEPT, *y.shape), y.dtype) for y in self.outputs]
        self.replays = 0

    def replay(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """The step on other inputs; waits for nothing. Events keep the order of the streams."""
        stream = self.backend.xp.cuda.get_current_stream()
        self.stream.wait_event(stream.record())
        with self.stream:
            for static, x in zip(self.inputs, inputs):
                static[...] = self.backend.asarray(array_of(x))
            for action in self.notes.actions:
                action()
            self.graph.launch(self.stream)
            kept = [ring[self.replays % KEPT] for ring in self.rings]
            for slot, output in zip(kept, self.outputs):
                slot[...] = output
        stream.wait_event(self.stream.record())
        self.replays += 1
        return tuple(map(Tensor, kept))


def graph_pool(xp: Any) -> Any:
    """A pool for what a graph points to. Whoever drops the graph frees the blocks: CuPy's pools
    keep them even when they die.

    An ordinary pool that finds the device full, or comes to the limit that the environment sets,
    gives back blocks that no array uses, and the part of the graph that is recorded already writes
    there. This one raises MemoryError, and has no limit.
    """

    def allocate(size: int) -> Any:
        try:
            return xp.cuda.MemoryPointer(xp.cuda.Memory(size), 0)
        except xp.cuda.runtime.CUDARuntimeError as error:
            if error.status != NO_MEMORY:
                raise
            raise MemoryError(f"{size:,} bytes do not fit beside the rest: {error}") from None

    pool = xp.cuda.MemoryPool(allocate)
    pool.set_limit(size=0)  # none
    return pool


def array_of(x: Any) -> Any:
    """The array of a tensor, and an array as it is."""
    return x.data if isinstance(x, Tensor) else x


def shape_of(x: Any) -> tuple[tuple[int, ...], str]:
    """What an input's array must have in common with the one recorded."""
    return tuple(x.shape), str(x.dtype)


def is_rest(shapes: Sequence[Any], whole: Sequence[Any]) -> bool:
    """Whether all inputs are as those of a whole batch, but of fewer rows."""
    return len(shapes) == len(whole) and all(
        shape[1:] == full[1:] and dtype == of_full and shape[:1] < full[:1]
        for (shape, dtype), (full, of_full) in zip(shapes, whole)
    )
