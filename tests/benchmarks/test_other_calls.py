"""Which calls `python -m benchmarks.kernels` times."""

from dataclasses import replace

import pytest

from benchmarks.kernels import NETWORKS, draw
from benchmarks.other_calls import calls_to_time, others
from benchmarks.works import WORKS
from tinynn.backend import get_backend
from tinynn.kernels import cpu, reference


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Works that call the same kernels in less time."""
    for name, work in WORKS.items():
        monkeypatch.setitem(WORKS, name, replace(work, batch=2))


def test_every_kernel_that_the_numpy_backend_replaces_is_timed(small_batches: None) -> None:
    calls = calls_to_time([WORKS[name] for name in NETWORKS], reference.KERNELS)
    assert {call.kernel for call in calls} >= cpu.KERNELS.keys()
    depthwise = [c for c in calls if c.given.get("groups", 1) > 1]
    assert all(c.given["groups"] == c.shape_of("x")[3] for c in depthwise)
    sizes = {(c.shape_of("x"), c.shape_of("w"), c.given["stride"]) for c in depthwise}
    assert len(depthwise) == 3 * len(sizes)  # each forwards and back
    assert {w[1] for _, w, _ in sizes} == {3, 5}


def test_only_the_chosen_kernels_are_timed(small_batches: None) -> None:
    calls = calls_to_time([WORKS["mlp"]], ["matmul", "softmax"])
    assert {call.kernel for call in calls} == {"matmul", "softmax"}


def test_other_calls_are_as_the_kernels_return() -> None:
    """The arguments fit, and the results, whose bytes count, have the shapes that are written."""
    kernels = get_backend("numpy").kernels
    for call in others(64):
        results = kernels[call.kernel](*draw(call, 0).values())
        results = results if isinstance(results, tuple) else (results,)
        shapes = [array.shape for array in results if array is not None]
        # The statistics that layer norm returns are kept: they count too.
        assert shapes == [array.shape for array in call.results], call
