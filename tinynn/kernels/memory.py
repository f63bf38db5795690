"""Memory for large arrays that is used again.

The system hands out fresh memory page by page, as each is first touched, and at every step of a
training loop that costs more than some kernels. So large arrays come from a pool:

    memory   a block of the pool, an array of bytes
      ^
    lease    a view of the block; when it dies, the block goes back into the pool
      ^
    array    what `empty` returns, and all its views: each keeps the lease alive

An array that is kept, by a user or by a graph, keeps its block. In a loop of equal steps all
arrays after the first step are old blocks.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tinynn.kernels.threads import ForkSafeLock

SMALL = 1 << 15  # bytes; below, NumPy's own allocation is quick
LINE = 64  # blocks start on a cache line
SPARE = 1 << 26  # bytes that may lie unused, ...
SHARE = 0.5  # ... besides this share of the most that was ever in use


class Memory(np.ndarray):
    """A block of bytes."""

    __slots__ = ()


class Lease(np.ndarray):
    """The use of a block, which is its base."""

    __slots__ = ()

    def __del__(self) -> None:
        if type(self.base) is Memory:  # and not a view of a lease
            pool.blocks[self.nbytes].append(self.base)


class Part(np.ndarray):
    """A stretch of a long array: the base of a view of it, which so is the base of its own views,
    and is counted as many times as there are of these."""

    __slots__ = ()


class Pool:
    """Blocks that nobody uses, by their size; taken and given back without a lock."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[Any]] = {}
        self.total = 0  # bytes of all blocks, in use or not
        self.peak = 0  # the most that was in use when a new block was needed
        self.made = 0  # blocks so far
        self.lock = ForkSafeLock()

    def take(self, size: int) -> Any:
        """A lease of a block of `size` bytes."""
        try:
            return self.blocks[size].pop().view(Lease)
        except (KeyError, IndexError):
            return self.new_block(size).view(Lease)

    def new_block(self, size: int) -> Memory:
        with self.lock:
            self.blocks.setdefault(size, [])
            unused = sum(size * len(blocks) for size, blocks in self.blocks.items())
            self.peak = max(self.peak, self.total - unused + size)
            if self.total + size > (1 + SHARE) * self.peak + SPARE:
                self.release()
            self.total += size
            self.made += 1
            return on_a_line(np.empty(size + LINE, np.uint8)).view(Memory)

    def release(self) -> None:
        """Give unused blocks back to the system."""
        for size, blocks in list(self.blocks.items()):
            while blocks:
                try:
                    blocks.pop()
                except IndexError:  # another thread took it
                    break
                self.total -= size


@lru_cache(maxsize=1024)  # a network asks the same again at every step
def block_size(shape: tuple[int, ...], dtype: Any) -> int:
    """The bytes of an array's block, 0 if it is small: rounded up to one of eight sizes between
    powers of two, so that similar arrays can share."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return 0
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """np.empty from the pool: C-contiguous, and for the user an array like any other."""
    size = block_size(shape, dtype)
    return np.ndarray(shape, dtype, pool.take(size)) if size else np.empty(shape, dtype)


def empty_like(array: np.ndarray) -> np.ndarray:
    """`empty` in the shape and dtype of another array."""
    return empty(array.shape, array.dtype)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """np.zeros that starts on a cache line: vectors in it do not lie across two. Not from the pool,
    for what lives as long as a model does."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return on_a_line(np.zeros(size + LINE, np.uint8)).view(dtype).reshape(shape)


def on_a_line(memory: np.ndarray) -> np.ndarray:
    """All but LINE of the bytes, from the first that starts a cache line."""
    start = -memory.ctypes.data % LINE
    return memory[start : start + memory.size - LINE]


def release_memory() -> None:
    """Give memory that no array uses any more back to the system."""
    with pool.lock:
        pool.release()
        pool.peak = 0


pool = Pool()
