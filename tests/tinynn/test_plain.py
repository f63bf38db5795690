"""The threads of the kernels in plain numba. What the kernels compute: see test_drop_ins.py."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from tinynn.kernels import plain, plain_threads
from tinynn.kernels.plain_threads import in_parts

CONV = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than some machines have processors, so that helpers are late."""
    monkeypatch.setattr(plain_threads, "get_num_threads", lambda: 3)


def compute() -> list[bytes]:
    """Kernels that add up what several threads compute, bit for bit."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((20, 14, 14, 32), np.float32) for _ in range(2))
    w, one = rng.standard_normal((32, 3, 3, 32), np.float32), np.ones(32, np.float32)
    kernels = plain.KERNELS
    results = [
        kernels["conv2d"](x, w, *CONV),
        kernels["conv2d_input_grad"](y, w, x.shape, *CONV),
        kernels["conv2d_weight_grad"](y, x, w.shape, *CONV),
        *kernels["batch_norm"](x, one, one, y, True, 1e-5),
        *kernels["batch_norm_grad"](y, x, y, one, one, one, one, True, 1e-5, True),
    ]
    return [array.tobytes() for array in results]


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_each_part_is_done_once(size: int) -> None:
    counts = np.zeros(size, int)

    def count(lo: int, hi: int) -> None:
        counts[lo:hi] += 1

    for _ in range(100):
        in_parts(size, count)
    assert (counts == 100).all()


def test_several_threads_take_part() -> None:
    together, seen = threading.Barrier(2, timeout=60), set()

    def meet(lo: int, hi: int) -> None:
        together.wait()
        seen.add(threading.get_ident())

    in_parts(2, meet, parts=1)
    assert len(seen) == 2


@pytest.mark.parametrize("fails", [0, 99])
def test_what_a_part_raises_the_caller_raises(fails: int) -> None:
    def divide(lo: int, hi: int) -> None:
        if lo <= fails < hi:
            raise ZeroDivisionError(lo)

    with pytest.raises(ZeroDivisionError):
        in_parts(100, divide)


def test_same_bits_for_several_callers() -> None:
    expected = compute()
    results: list[bool] = []
    callers = [
        threading.Thread(target=lambda: results.extend(compute() == expected for _ in range(5)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 20


def test_an_empty_batch_has_no_weight_gradient() -> None:
    x = np.empty((0, 9, 9, 3), np.float32)
    dw = plain.KERNELS["conv2d_weight_grad"](x, x, (3, 3, 3, 3), *CONV)
    np.testing.assert_array_equal(dw, np.zeros((3, 3, 3, 3)))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork while there are threads
def test_a_child_has_threads_of_its_own() -> None:
    expected = compute()
    child = os.fork()
    if not child:
        os._exit(compute() != expected)
    assert os.waitpid(child, 0)[1] == 0


def test_arrays_may_start_anywhere() -> None:
    """As those in a file's bytes do."""
    aligned = np.random.default_rng(0).standard_normal((5, 6), np.float32)
    memory = np.empty(aligned.nbytes + 1, np.uint8)
    x = np.frombuffer(memory, np.float32, aligned.size, offset=1).reshape(aligned.shape)
    x[...] = aligned
    assert not x.flags.aligned
    for got, expected in zip(
        *(plain.KERNELS["linear_grad"](a, a, None, a, True)[1:] for a in (x, aligned)), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
