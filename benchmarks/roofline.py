"""What the machine can do: multiply-adds a second and bytes a second, and the floor they set.

    a kernel takes at least  max(multiply-adds / sgemm rate, bytes / copy rate)

Both rates are measured in the same run, on as many threads as the engines use.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.compare import Facts, Make, Step, Timing

SIZE = 1536  # of the matrices: large enough for BLAS's full rate, 14 ms a core
COPY_BYTES = [1 << n for n in range(22, 29, 2)]  # 4 MiB (in the cache) to 256 MiB (in memory)
COPY_S = 0.02  # seconds of copying at each size


def sgemm_step(threads: int) -> tuple[Step, Facts]:
    """One product of square matrices by NumPy's BLAS."""
    threadpool_limits(threads, user_api="blas")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, SIZE, SIZE), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out), {"engine": "NumPy's sgemm", "memory_format": "rows"}


def sgemm(threads: int) -> Make:
    """The engine that measures the rate of multiply-adds: give it turns beside the others."""
    return sgemm_step, (threads,)


def rate(timing: Timing) -> float:
    """Multiply-adds a second, from the fastest product."""
    return SIZE**3 / timing.low


@dataclass(frozen=True)
class Roofline:
    """Multiply-adds a second, and bytes a second by the size of what is moved."""

    multiply_adds: float
    copies: dict[int, float]

    def seconds(self, multiply_adds: int, count: int) -> float:
        """The floor of a kernel that does so many multiply-adds on so many bytes."""
        nearest = min(self.copies, key=lambda size: abs(np.log(size / max(count, 1))))
        return max(multiply_adds / self.multiply_adds, count / self.copies[nearest])

    @property
    def memory(self) -> float:
        """Bytes a second where no cache helps."""
        return self.copies[max(self.copies)]


def copy_rates(threads: int) -> dict[int, float]:
    """Bytes read and written a second, for each size of what is moved (read and written)."""
    return {size: max(copy_rate(size, threads) for _ in range(7)) for size in COPY_BYTES}


def copy_rate(size: int, threads: int) -> float:
    """Each thread copies its share of size / 2 bytes, again and again."""
    pairs = [np.ones((2, size // (2 * threads)), np.uint8) for _ in range(threads)]
    counts = [0] * threads
    begin = time.perf_counter()

    def copy(number: int) -> None:
        source, target = pairs[number]
        while time.perf_counter() - begin < COPY_S:
            np.copyto(target, source)  # without the interpreter's lock
            counts[number] += 1

    workers = [threading.Thread(target=copy, args=(i,)) for i in range(1, threads)]
    for worker in workers:
        worker.start()
    copy(0)
    for worker in workers:
        worker.join()
    return sum(counts) * (size // threads) / (time.perf_counter() - begin)
