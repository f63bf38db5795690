"""The worker threads: each task is done once whatever becomes of the workers, and none spins on."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from array import array
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numba import carray

import tinynn as tn
from hwr import models
from tinynn import functional as F
from tinynn import optim
from tinynn.kernels import (
    cpu_conv,
    cpu_direct_conv,
    cpu_launch,
    cpu_linear,
    cpu_matmul,
    cpu_norm,
    cpu_winograd,
    cpu_winograd_weights,
)
from tinynn.kernels.cpu_parallel import Job, job_type, kernel
from tinynn.kernels.cpu_threads import Pool, add, call_with_workers, pause
from tinynn.kernels.threads import get_num_threads, set_num_threads, usable_cpus

COUNT = job_type("counts by_thread pauses")


@kernel(COUNT)
def count(lo, hi, thread, job_pointer):
    """Task i: add 1 to counts[i] and to by_thread[thread]; take some time."""
    job = carray(job_pointer, 1)[0]
    for task in range(lo, hi):
        add(job.counts, task, 1)
        add(job.by_thread, thread, 1)
        for _ in range(job.pauses):
            pause()


class Counts:
    """A job of `tasks`, to be done once and then checked."""

    def __init__(self, tasks: int, pauses: int = 0):
        self.tasks = tasks
        self.counts, self.by_thread = np.zeros(tasks, np.int64), np.zeros(64, np.int64)
        self.job = Job(COUNT, counts=self.counts, by_thread=self.by_thread, pauses=pauses)

    def do(self, pool: Pool, threads: int) -> Counts:
        pool.start(threads - 1)
        call_with_workers.ctypes(pool.address, count, self.job.address, self.tasks, threads, None)
        return self

    def check(self, threads: int) -> None:
        assert (self.counts == 1).all()
        assert self.by_thread.sum() == self.tasks
        assert not self.by_thread[threads:].any()  # there is scratch memory for so many only


@pytest.fixture
def pool():
    """Five threads: more than some machines have processors, so workers are late."""
    pool = Pool(capacity=5)
    yield pool
    pool.stop()
    assert not any(thread.is_alive() for thread in pool.threads)


@pytest.fixture
def busy_processors():
    """Another program wants them."""
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while 1: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.fixture(autouse=True)
def all_threads():
    before = get_num_threads()
    set_num_threads(usable_cpus())
    yield
    set_num_threads(before)


def together(function, number: int = 4) -> None:
    """Call `function` in several Python threads at once; raise what any of them raises."""
    errors = []

    def call():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def convolve() -> list[bytes]:
    """Direct and Winograd convolutions and their gradients, bit for bit."""
    rng = np.random.default_rng(0)
    results = []
    for size, channels in (7, 40), (12, 64):
        x = rng.standard_normal((16, size, size, channels), np.float32)
        w = rng.standard_normal((64, 3, 3, channels), np.float32)
        arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        y = cpu_conv.conv2d(x, w, *arguments)
        results += [
            y.tobytes(),
            cpu_conv.conv2d_input_grad(y, w, x.shape, *arguments).tobytes(),
            cpu_conv.conv2d_weight_grad(y, x, w.shape, *arguments).tobytes(),
        ]
    return results


def test_each_task_is_done_once(pool):
    rng = np.random.default_rng(0)
    for _ in range(3000):  # a worker who is late finds another job, for other threads
        tasks, threads, pauses = (int(rng.integers(low, 50)) for low in (1, 1, 0))
        threads = 1 + threads % 5
        Counts(tasks, pauses).do(pool, threads).check(threads)


def test_workers_help(pool):
    for _ in range(100):
        by_thread = Counts(50, 3000).do(pool, 2).by_thread
        if by_thread[:2].all():
            return
    pytest.fail("all tasks were done by the caller")


def test_nobody_waits_for_workers_who_do_not_come(pool, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    Counts(50).do(pool, 4).check(1)


def test_after_the_end_callers_work_alone(pool):
    Counts(50).do(pool, 4).check(4)
    pool.stop()
    Counts(50).do(pool, 4).check(1)


def test_several_callers(pool):
    def call():
        for _ in range(300):
            Counts(30, 20).do(pool, 3).check(3)

    together(call)


def test_number_of_threads_may_change_at_any_time():
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for threads in range(1, usable_cpus() + 1):
                set_num_threads(threads)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(200):
            counts = Counts(30, 20)
            counts.job.run(count, 30, False)
            counts.check(usable_cpus())
    finally:
        stop.set()
        changer.join()


def products(rng: np.random.Generator) -> dict[str, Any]:
    """A call of each kernel that shares out memory among its threads, by the kernel's file; but of
    `cpu_direct_weights`, which has no more tasks than threads."""
    x, y = (rng.standard_normal((300, 7, 7, c), np.float32) for c in (32, 64))
    shapes = (64, 3, 3, 32), (128, 600), (600, 300), (9999, 32)
    w, a, b, rows = (rng.standard_normal(shape, np.float32) for shape in shapes)
    direct, one = (cpu_direct_conv.Axis(7, 3, 1, (1, 1), 1),) * 2, np.ones(32, np.float32)
    return {
        "cpu_direct_conv": lambda: cpu_direct_conv.conv2d(x, w, *direct),
        "cpu_winograd": lambda: cpu_winograd.conv2d(x, w, *direct),
        "cpu_winograd_weights": lambda: cpu_winograd_weights.conv2d_weight_grad(y, x, *direct),
        "cpu_matmul": lambda: cpu_matmul.matmul(a, b),
        "cpu_linear": lambda: cpu_linear.multiply_swapped(a, b.T.copy(), None, False),
        "cpu_norm": lambda: cpu_norm.batch_norm(rows, one, one, None, False, 1e-5),
    }


@contextmanager
def launched_with(place: int, address: int | None):
    """Launches find another function or number there."""
    before = cpu_launch.pool[place]
    cpu_launch.pool[place] = address
    yield
    cpu_launch.pool[place] = before


@pytest.mark.skipif(usable_cpus() == 1, reason="one processor")
@pytest.mark.parametrize("name", products(np.random.default_rng(0)))
def test_no_more_threads_than_memory_was_made_for(name):
    """Another Python thread may set their number after the memory is made."""
    function = products(np.random.default_rng(0))[name]
    set_num_threads(1)
    expected = function()
    numbers: list[int] = []
    share_out = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(call_with_workers.address)

    def counted(*job: int) -> None:
        numbers.append(job[-1])
        share_out(*job)

    callback = type(share_out)(counted)
    as_set = array("q", [usable_cpus()])  # what is asked last
    with launched_with(cpu_launch.SHARE_OUT, ctypes.cast(callback, ctypes.c_void_p).value):
        with launched_with(cpu_launch.COUNT, as_set.buffer_info()[0]):
            np.testing.assert_array_equal(function()[0], expected[0])
        assert not numbers
        set_num_threads(usable_cpus())
        function()
    assert numbers


def test_same_bits_on_busy_processors(busy_processors):
    expected = convolve()
    for _ in range(10):
        assert convolve() == expected


def test_batch_norm_adds_in_one_order():
    """Large numbers that cancel: what is left of their sum tells in which order it was made."""
    x = np.random.default_rng(0).standard_normal((64, 14, 14, 16)).astype(np.float32)
    x[:20] *= 1e15
    x[20:40] = -x[19::-1]
    one = np.ones(16, np.float32)
    results = set()
    for threads in [1, *[usable_cpus()] * 20]:
        set_num_threads(threads)
        _, mean, var = cpu_norm.batch_norm(x, one, one, None, False, 1e-5)
        numbers = one, one, mean, var
        _, dweight, dbias, _ = cpu_norm.batch_norm_grad(x, x, None, *numbers, False, 1, False)
        results.add(b"".join(a.tobytes() for a in (mean, var, dweight, dbias)))
    assert len(results) == 1


def test_same_bits_for_several_callers():
    expected = convolve()

    def call():
        for _ in range(5):
            assert convolve() == expected

    together(call)


def trained(seed: int) -> list[bytes]:
    """What three steps make of a small ResNet, bit for bit: weights, statistics and losses."""
    rng = np.random.default_rng(seed)
    model = models.create("resnet18", stem="3x3", width=16, seed=seed)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(3):
        images = rng.normal(size=(16, 28, 28, 1)).astype(np.float32)
        loss = F.cross_entropy(model(tn.Tensor(images)), rng.integers(0, 10, 16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.numpy().tobytes())
    return [tensor.numpy().tobytes() for _, tensor in model.named_tensors()] + losses


def test_two_trainings_end_with_the_same_bits(busy_processors):
    """The paper's network from the data to the weights, with threads that come late."""
    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_several_trainings_at_once_end_as_each_alone():
    """They share the worker threads and the pool of memory, but no number."""
    alone = [trained(seed) for seed in range(3)]
    seeds, results = iter(range(3)), {}

    def call():
        seed = next(seeds)
        results[seed] = trained(seed)

    together(call, 3)
    assert [results[seed] for seed in range(3)] == alone
