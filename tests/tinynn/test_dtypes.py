"""What dtype a tensor, a result and a gradient have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynn as tn
from tinynn import functional as F


def test_python_numbers_become_float32_and_int64() -> None:
    assert tn.Tensor(1.5).dtype == "float32"
    assert tn.Tensor([[1.0, 2.0]]).dtype == "float32"
    assert tn.Tensor([1, 2]).dtype == "int64"
    assert tn.Tensor([True]).dtype == "bool"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_arrays_keep_their_dtype_and_are_not_copied(dtype: str) -> None:
    array = np.ones(3, dtype)
    assert tn.Tensor(array).data is array
    assert tn.Tensor(array, dtype="float64").dtype == "float64"


@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.int64(2), np.sqrt(2), True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_number_never_changes_the_dtype(number: Any, dtype: str) -> None:
    x = tn.Tensor(np.ones(3, dtype))
    results = [x + number, number - x, x * number, number / x, x**number, number**x]
    results += [F.where(x > 0, x, number), F.where(x > 0, number, x)]
    assert [y.dtype for y in results] == [np.dtype(dtype)] * len(results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(),
        lambda x: x.var(),
        lambda x: x.amax(),
        lambda x: F.gelu(x),
        lambda x: F.cross_entropy(x, [0, 1]),
        lambda x: F.cross_entropy(x, [0, 1], weight=np.array([0.5, 2.0])),
        lambda x: F.cross_entropy(x, np.array([[0.5, 0.5], [1, 0]])),
        lambda x: F.nll_loss(x, [0, 1]),
        lambda x: F.multi_margin_loss(x, [0, 1]),
        lambda x: F.dropout(x, 0.5),
        lambda x: F.layer_norm(x, 2),
        lambda x: F.batch_norm(x, None, None, training=True),
    ],
)
def test_functions_keep_the_dtype_both_ways(function: Callable[..., Any], dtype: str) -> None:
    x: Any = tn.Tensor(np.array([[0.5, 2.0], [1.0, -1.0]], dtype), requires_grad=True)
    y = function(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_a_gradient_has_the_dtype_of_its_tensor() -> None:
    x: Any = tn.Tensor([1.0, 2.0], requires_grad=True)
    w: Any = tn.Tensor([1.0, 1.0], requires_grad=True)
    w.data = w.data.astype("float64")
    y = x.astype("float64") * w
    assert y.dtype == "float64"
    y.sum().backward()
    assert x.grad.dtype == "float32"
    assert w.grad.dtype == "float64"
    x.grad = None
    (x * w).sum().backward()  # mixed without a conversion
    assert x.grad.dtype == "float32"


def test_only_floating_point_tensors_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="not int64"):
        tn.Tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="not bool"):
        tn.Tensor([True]).requires_grad_()


def test_whole_numbers_have_no_gradient() -> None:
    x = tn.Tensor([1.5, 2.5], requires_grad=True)
    for y in (x.astype("int64"), x.argmax(), x > 2, x.eq(1.5)):
        assert not y.requires_grad
        assert y.node is None
