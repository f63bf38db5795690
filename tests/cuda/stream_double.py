"""The double's streams, events, memory pools and graphs: `cupy.cuda`, as strict as on a GPU.

While a stream is recorded nothing is computed: a result holds NaN, an array that is written to
keeps what it holds, and what waits for the device, copies from the host or calls cuBLAS raises. A
launch of the graph computes all. Afterwards what the step allocated and nobody holds is NaN again,
for the next launch, or another graph of that pool, writes there.

Streams compute at once, yet one that uses memory which another has used, without waiting for an
event of it, raises. (That the host has waited counts for nothing: none of the engine relies on it.)
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, Token
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

NO_MEMORY = 2  # cudaErrorMemoryAllocation
UNRECORDABLE = frozenset({"waiting", "copying", "libraries"})
forbidden: ContextVar[frozenset[str]] = ContextVar("forbidden", default=frozenset())
_graph: ContextVar[Graph | None] = ContextVar("graph", default=None)
_pool: ContextVar[MemoryPool | None] = ContextVar("pool", default=None)


class StreamError(RuntimeError):
    """What the present stream cannot do: CuPy's CUDARuntimeError, or a silent loss of time."""

    def __init__(self, message: str, status: int = 900):
        super().__init__(message)
        self.status = status


@contextmanager
def forbid(*kinds: str) -> Iterator[None]:
    """Within the block raise StreamError for "waiting" (for the device: `float(x)`, `x.get()`, a
    mask as an index), "copying" (from the host) and "libraries" (cuBLAS)."""
    token = forbidden.set(forbidden.get() | set(kinds))
    try:
        yield
    finally:
        forbidden.reset(token)


@contextmanager
def permit() -> Iterator[None]:
    """Within the block nothing is forbidden."""
    token = forbidden.set(frozenset())
    try:
        yield
    finally:
        forbidden.reset(token)


def doing(kind: str, what: str) -> None:
    """StreamError if that is forbidden now."""
    if kind in forbidden.get():
        raise StreamError(f"{what}: {kind} is not possible here")


class Memory:
    """Memory of the device, as it is taken from the driver. StreamError if it is `full`."""

    full = False

    def __init__(self, size: int):
        if Memory.full:
            raise StreamError("cudaErrorMemoryAllocation: out of memory", NO_MEMORY)


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem: Memory, offset: int):
        self.mem = mem


class MemoryPool:
    """Where arrays come from within `using_allocator(pool.malloc)`: it only counts, the double's
    arrays are NumPy's. What it took it holds until it is told to free it, or comes to its limit."""

    limit = 0  # bytes; 0 is none. What CUPY_GPU_MEMORY_LIMIT says

    def __init__(self, allocator: Callable[[int], MemoryPointer] | None = None):
        self.allocator, self.total, self.freed = allocator, 0, 0

    def set_limit(self, size: int) -> None:
        """What this pool may take."""
        self.limit = size

    def malloc(self, size: int) -> None:
        """Take memory."""
        if self.limit and self.total + size > self.limit:
            self.free_all_blocks()
        if self.allocator is not None:
            self.allocator(size)
        self.total += size

    def free_all_blocks(self) -> None:
        """Give it all back."""
        self.total, self.freed = 0, self.freed + 1

    def total_bytes(self) -> int:
        """What was taken."""
        return self.total


@contextmanager
def using_allocator(allocator: Callable[[int], Any]) -> Iterator[None]:
    """Within the block arrays come from the pool whose `malloc` this is."""
    token = _pool.set(allocator.__self__)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _pool.reset(token)


Event = weakref.WeakKeyDictionary["Stream", int]  # the time in each stream that it stands for
_times = itertools.count(1)
_uses: dict[int, tuple[weakref.ref[np.ndarray], weakref.ref[Stream], int]] = {}  # the last


def use(host: np.ndarray) -> None:
    """The present stream reads or writes an array. StreamError if another did, and may do so yet.

    Whether it reads or writes is one to a kernel's pointers, and so it is here.
    """
    while isinstance(host.base, np.ndarray):
        host = host.base
    memory, stream, time = _uses.get(id(host), (None, None, 0))
    before, now = stream and stream(), _stream.get()
    is_other = memory and memory() is host and before not in (None, now)
    if is_other and now.seen.get(before, 0) < time:
        raise StreamError("a stream uses what another may still write: wait for an event of it")
    _uses[id(host)] = weakref.ref(host), weakref.ref(now), next(_times)


class Graph:
    """The work of a recorded stream, and the arrays that it allocated."""

    def __init__(self, pool: MemoryPool):
        self.pool, self.freed = weakref.ref(pool), pool.freed
        self.work: list[Callable[[], Any]] = []
        self.allocated: list[tuple[np.ndarray, weakref.ref[Any]]] = []

    def keep(self, host: np.ndarray, array: Any) -> None:
        """Take memory for an array out of the pool."""
        pool = self.pool()
        assert pool is not None
        pool.malloc(host.nbytes)
        self.allocated.append((host, weakref.ref(array)))

    def launch(self, stream: Stream | None = None) -> None:
        """Compute everything."""
        pool = self.pool()
        if pool is None or pool.freed != self.freed:
            raise StreamError("the graph's memory went back with its pool")
        with stream or _stream.get(), np.errstate(all="ignore"):
            for work in self.work:
                work()
        for host, wrapper in self.allocated:
            if wrapper() is None:
                poison(host)


class Stream:
    """A queue of work; the null stream cannot be recorded."""

    def __init__(self, non_blocking: bool = False):
        self.tokens: list[Token[Any]] = []
        self.streams: list[Token[Any]] = []
        self.seen: Event = weakref.WeakKeyDictionary()  # up to when it has waited for others

    def __enter__(self) -> Stream:
        self.streams.append(_stream.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _stream.reset(self.streams.pop())

    def begin_capture(self) -> None:
        """Record from now on. StreamError where CuPy raises, or a graph would read stale memory."""
        pool = _pool.get()
        if self is NULL or _stream.get() is not self or pool is None:
            raise StreamError("record on a stream and from a pool of the graph's own")
        self.graph = Graph(pool)
        kinds = forbidden.get() | UNRECORDABLE
        self.tokens = [forbidden.set(kinds), _graph.set(self.graph)]

    def end_capture(self) -> Graph:
        """The graph."""
        for variable, token in zip((forbidden, _graph), self.tokens):
            variable.reset(token)
        return self.graph

    def record(self) -> Event:
        """An event: what was queued so far, and what that waited for."""
        return weakref.WeakKeyDictionary({**self.seen, self: next(_times)})

    def wait_event(self, event: Event) -> None:
        """What is queued from now on waits for an event."""
        for stream, time in event.items():
            self.seen[stream] = max(time, self.seen.get(stream, 0))


class Device:
    """The one device."""

    id = 0


def properties(device: int) -> dict[str, bytes]:
    """What `cupy.cuda.runtime.getDeviceProperties` tells, the name above all."""
    return {"name": b"double"}


NULL = Stream()
_stream: ContextVar[Stream] = ContextVar("stream", default=NULL)
cuda = SimpleNamespace(
    Stream=Stream, Graph=Graph, Memory=Memory, MemoryPointer=MemoryPointer, MemoryPool=MemoryPool,
    using_allocator=using_allocator, get_current_stream=_stream.get, Device=Device,
    runtime=SimpleNamespace(CUDARuntimeError=StreamError, getDeviceProperties=properties),
    driver=SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {})),
    compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
)  # fmt: skip


# -- what arrays ask ------------------------------------------------------------------------------


def poison(host: np.ndarray) -> None:
    """What memory holds that nobody wrote: NaN (integers have none: 0)."""
    host[...] = np.nan if host.dtype.kind == "f" else 0


def change(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Call what writes into arrays, now or at each launch of the graph that is recorded."""
    graph, work = _graph.get(), partial(in_turn, function, *args, **options)
    if graph is None:
        work()
    else:
        graph.work.append(work)


def in_turn(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call what uses arrays, in the present stream."""
    for array in arrays_in([*args, *options.values()]):
        use(array)
    return function(*args, **options)


def compute(wrap: Callable[[Any], Any], function: Callable[..., Any], *args: Any, **options: Any):
    """What a function of NumPy returns, wrapped: computed now or at each launch. A view of what it
    is given is no work."""
    graph = _graph.get()
    with np.errstate(all="ignore") if graph else nullcontext():
        result = function(*args, **options)
    several = isinstance(result, (list, tuple))
    hosts = [np.asarray(r) for r in (result if several else [result])]
    given = list(arrays_in([*args, *options.values()]))
    is_view = any(np.may_share_memory(host, a) for host in hosts for a in given)
    if graph is None:
        if not is_view:
            for array in [*given, *hosts]:
                use(array)
        return wrap(result)
    wrapped = [wrap(host) for host in hosts]
    if not is_view:

        def again() -> None:
            new = in_turn(function, *args, **options)
            for host, values in zip(hosts, new if several else [new]):
                use(host)
                host[...] = values

        graph.work.append(again)
        for host, array in zip(hosts, wrapped):
            poison(host)
            graph.keep(host, array)
    return type(result)(wrapped) if several else wrapped[0]


def allocated(array: Any) -> Any:
    """An array whose memory is new, and the graph's if one is recorded."""
    graph = _graph.get()
    if graph is not None:
        graph.keep(array.host, array)
    return array


def arrays_in(values: Iterable[Any]) -> Iterator[np.ndarray]:
    """All arrays among values, those in lists and tuples too."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from arrays_in(value)
        elif isinstance(value, np.ndarray):
            yield value
