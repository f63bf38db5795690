"""Every public function of tinynn.functional against PyTorch: the value and all gradients, by a
random cotangent. The cases are in `torch_cases` and `torch_layer_cases`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")
TF = torch.nn.functional

import torch_loss_cases  # noqa: E402, F401  # fill the table
from torch_cases import CASES, Case, nchw, nhwc, rng  # noqa: E402
from torch_layer_cases import MEAN, VAR, torch_batch_norm  # noqa: E402  # and fill the table

pytestmark = pytest.mark.torch

# Relative error of the whole array in the 2-norm. Sums of up to a few hundred products in another
# order: some tens of roundings of 6e-8 (float32) and 1e-16 (float64).
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

EXCEPTIONS = {
    "argmax": "whole numbers without a gradient: test_argmax_is_pytorchs",
    "dropout": "draws random numbers: test_random.py",
    "stochastic_depth": "draws random numbers, and is torchvision's: test_random.py",
}


def assert_close(what: str, ours: Any, theirs: Any, tolerance: float) -> None:
    """Same shape, and a relative error within the tolerance."""
    actual, expected = tn.current_backend().to_numpy(ours), theirs.detach().numpy()
    assert actual.shape == expected.shape, what
    error = np.linalg.norm((actual.astype(float) - expected).ravel())
    size = np.linalg.norm(expected.astype(float).ravel()) or 1.0
    assert error <= tolerance * size, f"{what}: relative error {error / size:.2e}"


def check(ours: Any, theirs: Any, arrays: tuple[np.ndarray, ...], dtype: str) -> None:
    """Compare the value of two expressions, and their gradients by every array."""
    tolerance = TOLERANCE[dtype]
    mine = [tn.Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    yours = [torch.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*yours)
    assert str(y.dtype) == str(expected.dtype).removeprefix("torch.")
    assert_close("value", y.data, expected, tolerance)
    dy = np.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)
    y.backward(dy)
    expected.backward(torch.tensor(dy))
    for i, (a, b) in enumerate(zip(mine, yours)):
        assert a.grad is not None, f"input {i} has no gradient"
        assert a.grad.dtype == dtype
        assert_close(f"gradient of input {i}", a.grad, b.grad, tolerance)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two libraries' idle threads would spin on the processors that the other one wants."""
    before = torch.get_num_threads(), tn.get_num_threads()
    torch.set_num_threads(1)
    tn.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    tn.set_num_threads(before[1])


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # of PyTorch
@pytest.mark.parametrize("case", CASES, ids=[f"{c.name} {c.label}" for c in CASES])
def test_value_and_gradients(case: Case, backend: Any) -> None:
    check(case.ours, case.theirs, case.arrays, "float32")
    if backend.name != "numpy":  # its float64 is the reference's
        check(case.ours, case.theirs, case.arrays, "float64")


def test_every_public_function_has_a_case() -> None:
    public = {n for n, f in vars(F).items() if callable(f) and not n.startswith("_")}
    covered = {c.name for c in CASES}
    assert public - covered == set(EXCEPTIONS), "add a case, or say why there is none"
    assert covered <= public


def test_cases_have_names_of_their_own() -> None:
    ids = [f"{c.name} {c.label}" for c in CASES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_argmax_is_pytorchs(dim: int | None, backend: Any) -> None:
    x = rng.permutation(60).reshape(3, 4, 5).astype("float32")  # no ties: PyTorch promises no order
    actual, expected = F.argmax(tn.Tensor(x), dim), torch.argmax(torch.tensor(x), dim)
    assert actual.dtype == "int64"
    assert not actual.requires_grad
    assert np.array_equal(actual.numpy(), expected.numpy())
    if dim is not None:
        kept = F.argmax(tn.Tensor(x), dim, keepdim=True)
        assert np.array_equal(
            kept.numpy(), torch.argmax(torch.tensor(x), dim, keepdim=True).numpy()
        )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_indices_of_max_are_pytorchs(dim: int) -> None:
    x = rng.permutation(24).reshape(4, 6).astype("float32")
    actual, expected = F.max(tn.Tensor(x), dim), torch.max(torch.tensor(x), dim)
    assert np.array_equal(actual.indices.data, expected.indices.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0])
def test_running_statistics_are_pytorchs(dtype: str, momentum: float, backend: Any) -> None:
    """Training moves them by the momentum, with the unbiased variance; evaluation leaves them."""
    data = np.random.default_rng(3).normal(1, 2, (3, 4, 5, 6, 3)).astype(dtype)
    ours = tn.Tensor(MEAN.astype(dtype)), tn.Tensor(VAR.astype(dtype))
    theirs = [torch.tensor(v.astype(dtype)) for v in (MEAN, VAR)]
    for x in data:
        F.batch_norm(tn.Tensor(x), *ours, None, None, True, momentum)
        torch_batch_norm(torch.tensor(x), *theirs, training=True, momentum=momentum)
    for mine, yours in zip(ours, theirs):
        assert_close("running statistics", mine.data, yours, TOLERANCE[dtype])
        before = mine.numpy()
        F.batch_norm(tn.Tensor(data[0]), *ours, None, None, False, momentum)
        assert np.array_equal(mine.numpy(), before)


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_batch_norm_layer_counts_and_averages_as_pytorchs(momentum: float | None) -> None:
    """`momentum=None` is the plain average of all batches."""
    ours, theirs = (
        tn.nn.BatchNorm2d(3, momentum=momentum),
        torch.nn.BatchNorm2d(3, momentum=momentum),
    )
    for _ in range(4):
        x = rng.normal(2, 3, (5, 4, 4, 3)).astype("float32")
        ours(tn.Tensor(x))
        theirs(nchw(torch.tensor(x)))
    assert ours.num_batches_tracked is not None
    assert ours.running_mean is not None
    assert ours.running_var is not None
    assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item() == 4
    assert_close("mean", ours.running_mean.data, theirs.running_mean, 1e-5)
    assert_close("var", ours.running_var.data, theirs.running_var, 1e-5)
    x = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    expected = nhwc(theirs.eval()(nchw(torch.tensor(x))))
    assert_close("evaluation", ours.eval()(tn.Tensor(x)).data, expected, 1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_minus_infinity_among_the_other_classes(loss: str) -> None:
    """A class ruled out by -inf costs nothing unless it is the label."""
    x = np.array([[0.5, -np.inf, 1.0], [-np.inf, 0.2, 0.1]], "float32")
    labels = np.array([0, 2])
    expected = getattr(TF, loss)(torch.tensor(x), torch.tensor(labels))
    assert_close("loss", getattr(F, loss)(tn.Tensor(x), tn.Tensor(labels)).data, expected, 1e-6)


def test_labels_of_any_integer_dtype() -> None:
    x, labels = rng.normal(size=(4, 5)), np.array([0, 4, 2, 2])
    expected = F.cross_entropy(tn.Tensor(x), tn.Tensor(labels)).item()
    for dtype in ("int8", "uint8", "int32", "uint64"):
        assert F.cross_entropy(x, labels.astype(dtype)).item() == expected


def test_numbers_and_numpy_scalars_keep_float32() -> None:
    """PyTorch keeps the tensor's dtype against any single number; so must `x / np.sqrt(d)`."""
    x = tn.Tensor(np.ones(3, "float32"))
    for number in (2, 2.0, np.float64(2), np.float32(2), np.sqrt(4), np.int64(2)):
        for y in (x + number, number * x, x / number, x**number, number - x):
            assert y.dtype == "float32", (type(number), y)


def test_gradient_has_the_dtype_of_its_tensor() -> None:
    x = tn.Tensor(np.ones(3, "float32"), requires_grad=True)
    (x * np.full(3, 0.5)).sum().backward()  # the product is float64
    assert x.grad is not None
    assert x.grad.dtype == "float32"
