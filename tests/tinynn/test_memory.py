"""The pool of memory: old blocks are used again, and never while anyone can see them."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import tinynn as tn
from hwr import models
from tinynn import functional as F
from tinynn import nn, optim
from tinynn.kernels import memory
from tinynn.kernels.memory import empty, release_memory

LARGE = 300, 400  # half a megabyte


@pytest.fixture(autouse=True)
def fresh_pool():
    gc.collect()
    release_memory()


def address(array):
    return array.__array_interface__["data"][0]


def test_an_array_that_is_gone_leaves_its_memory_to_the_next():
    first = empty(LARGE)
    place = address(first)
    del first
    assert address(empty(LARGE)) == place


def test_a_view_keeps_the_memory():
    first = empty(LARGE)
    first[...] = 1
    view = first[7:9].T.reshape(-1)[3:]
    kept = memoryview(first)
    del first
    empty(LARGE)[...] = 2
    del kept
    empty(LARGE)[...] = 2
    np.testing.assert_array_equal(view, 1)


def test_a_view_of_the_base_gives_nothing_back():
    array = empty(LARGE)
    array[...] = 1
    part = array.base[8:16]
    del part
    empty(LARGE)[...] = 2
    np.testing.assert_array_equal(array, 1)


def test_arrays_are_contiguous_writeable_and_on_a_cache_line():
    for dtype in np.float32, np.uint8, np.float64:
        array = empty((100, 33, 31), dtype)
        assert array.dtype == dtype
        assert array.shape == (100, 33, 31)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert address(array) % memory.LINE == 0
    assert empty((0, 5)).shape == (0, 5)
    assert empty(()).shape == ()


def train(model, optimizer, images, labels):
    loss = F.cross_entropy(model(tn.Tensor(images)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.fixture
def training():
    generator = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, generator=generator),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.BasicBlock(16, 32, 2, generator=generator),
        nn.Flatten(),
        nn.Linear(7 * 7 * 32, 10, generator=generator),
    )
    images = generator.normal(size=(64, 28, 28, 1)).astype(np.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, images, generator.integers(0, 10, 64)


def test_steps_after_the_first_take_no_new_memory(training):
    with tn.use_backend("numpy"):
        train(*training)
        made = memory.pool.made
        for _ in range(3):
            train(*training)
    assert memory.pool.made == made


def test_a_later_step_allocates_little_outside_the_pool():
    """The least of a stage's activations takes 130 kB: none comes from the system anew. Besides
    Python's own objects the step takes two arrays of 32 kB, and smaller ones."""
    generator = np.random.default_rng(0)
    model = models.create("resnet18", width=16, seed=0)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = generator.normal(size=(64, 28, 28, 1)).astype(np.float32)
    labels = generator.integers(0, 10, 64)
    with tn.use_backend("numpy"):
        for _ in range(2):
            train(model, optimizer, images, labels)
        gc.collect()
        made = memory.pool.made
        tracemalloc.start()
        try:
            train(model, optimizer, images, labels)
            before, _ = tracemalloc.get_traced_memory()  # with what Python keeps for the next
            tracemalloc.reset_peak()
            train(model, optimizer, images, labels)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert memory.pool.made == made
    assert peak - before < 160_000


def test_activations_that_a_user_keeps_do_not_change(training):
    model, _, images, _ = training
    with tn.use_backend("numpy"):
        kept = [model[0](tn.Tensor(images)) for _ in range(3)]
        copies = [y.numpy() for y in kept]
        for _ in range(2):
            train(*training)
            model[0].weight.data[...] = 0
    for y, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(y.data, copy)


def test_weights_start_on_a_cache_line_and_take_nothing_from_the_pool():
    made = memory.pool.made
    layers = [nn.Linear(300, 200) for _ in range(5)]
    optimizer = optim.SGD(layers[0].parameters(), lr=0.1)
    assert memory.pool.made == made
    storage = [layer.weight.data for layer in layers] + [optimizer.param_groups[0].weights]
    assert all(array.ctypes.data % 64 == 0 and array.flags.writeable for array in storage)


def test_unused_memory_is_bounded_and_can_be_released():
    for i in range(100):
        empty((1000 + 300 * i, 250))  # a new size each time: 1 to 31 MB, 1.6 GB in all
    assert memory.pool.total < 4 * memory.SPARE
    release_memory()
    assert memory.pool.total == 0


def test_python_threads_never_share_an_array():
    wrong = []

    def work(number):
        for _ in range(300):
            arrays = [empty(LARGE) for _ in range(3)]
            for k, array in enumerate(arrays):
                array[0] = 10 * number + k
            wrong.extend(a for k, a in enumerate(arrays) if (a[0] != 10 * number + k).any())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
