"""Training in float32: how far the gradients of a whole network are from those of float64."""

from __future__ import annotations

from collections import Counter
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import hwr.models
import tinynn as tn
from tinynn import functional as F
from tinynn.kernels import cpu_winograd, cpu_winograd_weights
from tinynn.kernels.threads import usable_cpus

Gradients = dict[str, np.ndarray]


def gradients(
    stem: str, backend: str, dtype: str, seed: int, width: int = 64, samples: int = 8
) -> Gradients:
    """Of all parameters of the paper's ResNet-18, for a batch of noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(samples, 28, 28, 1)).astype(np.float32)
    labels = rng.integers(0, 10, samples)
    with tn.use_backend(backend):
        model = hwr.models.create("resnet18", stem=stem, width=width, seed=0).astype(dtype)
        F.cross_entropy(model(tn.Tensor(images.astype(dtype))), labels).backward()
        return {name: p.grad.astype(np.float64) for name, p in model.named_parameters()}


def distance(found: Gradients, exact: Gradients) -> float:
    """Of all numbers together, relative, in the 2-norm."""
    squares = sum(((found[name] - exact[name]) ** 2).sum() for name in exact)
    return (squares / sum((g**2).sum() for g in exact.values())) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["7x7", "3x3"])
def test_gradients_of_the_whole_resnet_18_are_within_1e_5_of_float64(stem: str) -> None:
    """The better of three batches: where a number is within rounding of a ReLU's kink, two right
    gradients differ, however they are computed."""
    errors = []
    for seed in range(3):
        exact = gradients(stem, "reference", "float64", seed)
        errors.append(distance(gradients(stem, "numpy", "float32", seed), exact))
        if errors[-1] < 1e-5:
            break
    assert min(errors) < 1e-5


@cache
def exact_gradients(stem: str, seed: int, width: int, samples: int) -> Gradients:
    """The same for any number of threads."""
    return gradients(stem, "numpy", "float64", seed, width, samples)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("stem", "samples", "winograd"), [("7x7", 16, 4), ("3x3", 6, 7)])
def test_each_gradient_of_a_resnet_18_is_right_where_winograd_computes_it(
    stem: str, samples: int, winograd: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each parameter's alone, on the smallest batch of which so many layers are Winograd's.

    Half as wide as the paper's, so that few numbers come near a kink; else as above.
    """
    if threads > usable_cpus():
        pytest.skip("one core")
    calls: Counter[str] = Counter()

    def spy(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def count(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, count)

    spy(cpu_winograd, "conv2d")
    spy(cpu_winograd, "conv2d_input_grad")
    spy(cpu_winograd_weights, "conv2d_weight_grad")
    before, errors = tn.get_num_threads(), []
    tn.set_num_threads(threads)
    try:
        for seed in range(3):
            exact = exact_gradients(stem, seed, 32, samples)
            calls.clear()
            found = gradients(stem, "numpy", "float32", seed, 32, samples)
            assert sorted(calls.values()) == [winograd] * 3, calls
            errors.append({n: distance({n: found[n]}, {n: exact[n]}) for n in exact})
            if max(errors[-1].values()) < 1e-5:
                break
    finally:
        tn.set_num_threads(before)
    worst = min(errors, key=lambda each: max(each.values()))
    assert {name: error for name, error in worst.items() if error >= 1e-5} == {}
