"""CUDA drop-in for random bits: drawn on the device, from a key that NumPy's generator draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynn.kernels import reference
from tinynn.kernels.cuda_launch import drop_in, int32, per_element, result
from tinynn.kernels.reference import Array
from tinynn.kernels.replay import on_host

EACH = 8  # elements to a thread, as in random.cu


@drop_in(reference.random_bits)
def random_bits(generator: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Drop-in for reference.random_bits: as random, but other bits.

    `generator` is drawn from once, for the key of a counter-based generator. So it holds the whole
    state, as on the CPU, and a step that is replayed gets a new key each time.
    """
    bits, key = result(like, shape, np.uint16), result(like, (1,), np.uint64)
    on_host(lambda: key.fill(generator.integers(0, 2**64, dtype=np.uint64)))
    threads = -(-bits.size // EACH)
    per_element("random", "random_bits", threads, key, bits, int32(bits.size))
    return bits
