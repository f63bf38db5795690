"""Random bits of the CUDA kernel are Philox's, and masks made of them drop the right share."""

from types import SimpleNamespace

import emulator
import numpy as np
import pytest

import tinynn as tn
from tinynn.backend import get_backend

pytestmark = pytest.mark.skipif(
    emulator.compiler() is None, reason="no C++ compiler (g++ or clang++) to emulate kernels with"
)


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """(N, 4) words of 32 bits in uint64 -> as many random ones: Salmon et al. 2011, in NumPy."""
    word, low = counter.T.copy(), 2**32 - 1
    for turn in range(10):
        keys = [(part + turn * step) & low for part, step in zip((key & low, key >> 32), STEPS)]
        a, b = word[0] * np.uint64(0xD2511F53), word[2] * np.uint64(0xCD9E8D57)
        upper_a, upper_b = a >> np.uint64(32), b >> np.uint64(32)
        parts = upper_b ^ word[1] ^ np.uint64(keys[0]), b, upper_a ^ word[3] ^ np.uint64(keys[1]), a
        word = np.stack([part & np.uint64(low) for part in parts])
    return word.T


STEPS = 0x9E3779B9, 0xBB67AE85


@pytest.mark.parametrize(
    ("word", "key", "expected"),  # the test vectors that their authors publish
    [
        ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0_A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_truth_is_philox(word: list[int], key: int, expected: str) -> None:
    (got,) = philox(np.array([word], np.uint64), key)
    assert " ".join(f"{w:08x}" for w in got.tolist()) == expected


@pytest.mark.parametrize("shape", [(3, 1, 1), (8,), (13, 5, 33)])
def test_the_kernel_draws_its_bits(shape: tuple[int, ...]) -> None:
    backend, key = get_backend("emulated"), 0x0123456789ABCDEF
    generator = SimpleNamespace(integers=lambda *limits, dtype: dtype(key))
    like = backend.asarray(np.zeros((2, 3), np.float32))
    bits = backend.to_numpy(backend.random_bits(generator, shape, like))
    counters = np.zeros((-(-bits.size // 8), 4), np.uint64)
    counters[:, 0] = np.arange(len(counters))
    words = np.ascontiguousarray(philox(counters, key), "<u4")
    np.testing.assert_array_equal(bits.ravel(), words.view("<u2").ravel()[: bits.size])
    assert bits.dtype == np.uint16


def test_dropout_drops_its_share_and_follows_the_seed() -> None:
    def mask(seed: int) -> np.ndarray:
        with tn.use_backend("emulated") as backend:
            x = tn.Tensor(backend.asarray(np.ones(20_000, np.float32)), requires_grad=True)
            y = tn.functional.dropout(x, 0.3, generator=np.random.default_rng(seed))
            y.sum().backward()
            np.testing.assert_array_equal(backend.to_numpy(x.grad), y.numpy())
            return y.numpy()

    first = mask(0)
    assert abs((first == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / first.size)
    assert np.array_equal(first, mask(0))
    assert not np.array_equal(first, mask(1))
