"""Every gradient against finite differences, and the check itself against broken gradients."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynn as tn
import tinynn.functions
from tinynn import functional as F
from tinynn.autograd import Function
from tinynn.backend import Backend
from tinynn.gradcheck import gradcheck, main
from tinynn.gradcheck_layer_cases import CASES, Case, Draw


def all_functions() -> set[type[Function]]:
    """Every Function that tinynn.functions defines; a base without forward is none."""
    modules = (
        importlib.import_module(f"tinynn.functions.{info.name}")
        for info in pkgutil.iter_modules(tinynn.functions.__path__)
    )
    return {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Function)
        and value.__module__ == module.__name__
        and value.forward is not Function.forward
    }


def functions_behind(y: tn.Tensor) -> set[type[Function]]:
    """The Functions in the graph of a tensor."""
    found: set[type[Function]] = set()
    pending: list[Any] = [y.node]
    while pending:
        node = pending.pop()
        if isinstance(node, Function):
            found.add(type(node))
            pending.extend(node.edges)
    return found


def test_every_function_has_cases() -> None:
    covered: set[type[Function]] = set()
    for make in CASES.values():
        for seed in range(10):
            case = make(Draw(np.random.default_rng(seed)))
            tensors = [tn.Tensor(x, requires_grad=True) for x in case.inputs]
            covered |= functions_behind(case.function(*tensors))
    missing = sorted(f.__name__ for f in all_functions() - covered)
    assert not missing, f"write cases in tinynn/gradcheck_cases.py for {missing}"


@pytest.mark.parametrize("operation", CASES)
@given(data=st.data())
def test_backward_is_the_derivative(
    operation: str, backend: Backend, drawing: Callable[[st.DataObject], Draw], data: st.DataObject
) -> None:
    draw = drawing(data)
    case = CASES[operation](draw)
    result = gradcheck(case.function, case.inputs, directions=2, rng=draw.rng)
    assert result.ok, result.where


@pytest.mark.parametrize("operation", CASES)
@given(data=st.data())
@settings(max_examples=10)
def test_single_precision_agrees_with_the_reference_in_double(
    operation: str, backend: Backend, drawing: Callable[[st.DataObject], Draw], data: st.DataObject
) -> None:
    # Fast kernels may leave float64 to the reference, so finite differences do not reach them.
    draw = drawing(data)
    case = CASES[operation](draw)
    inputs = [x.astype("float32") for x in case.inputs]
    # Two hundred roundings of 6e-8, of the largest number: sums of this size make a few.
    tolerance = 1e-5
    cotangent = None
    outcomes = []
    reference = tn.get_backend("reference")
    for found, dtype in ((backend, "float32"), (reference, "float64")):
        # A GPU's random bits are others; with these the masks are the same.
        same_bits = found.override(found.name, random_bits=reference.random_bits)
        with tn.use_backend(same_bits) as used:
            tensors = [tn.Tensor(x.astype(dtype), requires_grad=True) for x in inputs]
            y = case.function(*tensors)
            if cotangent is None:
                cotangent = draw.normal(*y.shape)
            y.backward(cotangent)
            outcomes.append([y.numpy(), *(used.to_numpy(t.grad) for t in tensors)])
    for got, expected in zip(*outcomes):
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_as_a_whole(training: bool, backend: Backend) -> None:
    rng = np.random.default_rng(5)
    running = rng.standard_normal(3), rng.uniform(0.5, 2, 3)

    def bn(x: Any, weight: Any, bias: Any, residual: Any = None) -> tn.Tensor:
        mean, var = (tn.Tensor(array.copy()) for array in running)
        return F.batch_norm(x, mean, var, weight, bias, training, residual=residual, relu=True)

    def block(x: Any, w1: Any, g1: Any, b1: Any, w2: Any, g2: Any, b2: Any, w3: Any) -> tn.Tensor:
        y = bn(F.conv2d(x, w1, stride=2, padding=1), g1, b1)
        return bn(F.conv2d(y, w2, padding=1), g2, b2, residual=F.conv2d(x, w3, stride=2))

    shapes = [(2, 4, 4, 2), (3, 3, 3, 2), (3,), (3,), (3, 3, 3, 3), (3,), (3,), (3, 1, 1, 2)]
    result = gradcheck(block, [rng.standard_normal(shape) for shape in shapes], rng=rng)
    assert result.ok, result.where


# -- the check itself ----------------------------------------------------------------------------


class Scaled(Function):
    """2 x, whose derivative a test breaks."""

    def __init__(self, derivative: Callable[[Any], Any]):
        self.derivative = derivative

    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, dy: Any) -> Any:
        return self.derivative(dy)


def check(derivative: Callable[[Any], Any]) -> Any:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3))
    return gradcheck(lambda x: Scaled(derivative)(x), [x], rng=rng)


def wrong_in_one_element(dy: Any) -> Any:
    dx = 2 * dy
    dx[1, 2] *= 1.001
    return dx


def test_a_right_gradient_passes() -> None:
    result = check(lambda dy: 2 * dy)
    assert result.ok
    assert result.error < 1e-8


@pytest.mark.parametrize(
    "derivative",
    [
        lambda dy: 2.0001 * dy,
        lambda dy: -2 * dy,
        lambda dy: None,
        lambda dy: 0 * dy,
        lambda dy: 2 * dy[::-1],
        lambda dy: np.nan * dy,
        wrong_in_one_element,
    ],
)
def test_a_wrong_gradient_fails(derivative: Callable[[Any], Any]) -> None:
    assert not check(derivative).ok


def test_the_wrong_element_is_named() -> None:
    result = check(wrong_in_one_element)
    assert result.element is not None
    assert result.element.index == (1, 2)
    assert result.element.analytic == pytest.approx(1.001 * result.element.numeric)
    assert "x[1, 2]" in result.where


def test_a_gradient_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"gradient of x has shape \(3,\), the input \(2, 3\)"):
        check(lambda dy: 2 * dy.sum(axis=0))


def test_a_broken_batch_norm_is_seen() -> None:
    """The gradient of sum(batch_norm(x)) is 0 whatever backward does; a cotangent sees it."""
    reference = tn.get_backend("reference")

    # The gradient in evaluation mode forgets that the statistics depend on x.
    forgetful = reference.batch_norm_inference_grad
    broken = reference.override("broken", batch_norm_grad=forgetful)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 2))
    with tn.use_backend(broken):
        result = gradcheck(lambda x: F.batch_norm(x, None, None, training=True), [x], rng=rng)
    assert not result.ok


def test_integers_are_passed_as_they_are_and_one_float_is_needed() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0, 2])
    logits = rng.standard_normal((2, 3))
    assert gradcheck(lambda x, target: F.cross_entropy(x, target), [logits, labels], rng=rng).ok
    with pytest.raises(ValueError, match="none of the inputs"):
        gradcheck(lambda x: x, [labels], rng=rng)


def test_an_input_that_is_used_twice_or_never() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(3), rng.standard_normal(3)
    assert gradcheck(lambda a, b: a * a.exp() + a, [a, b], rng=rng).ok


# -- the command ---------------------------------------------------------------------------------


def test_the_command_prints_one_row_for_each_operation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backend", "reference", "--cases", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[0] for row in rows] == list(CASES)
    assert all(" ok " in row for row in rows)


def test_the_command_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for _ in range(2):
        assert main(["--op", "conv2d", "--backend", "reference", "--seed", "7"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_the_command_fails_for_a_wrong_gradient(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(draw: Draw) -> Case:
        return Case(lambda x: Scaled(wrong_in_one_element)(x), [draw.normal(2, 3)])

    monkeypatch.setitem(CASES, "broken", broken)
    assert main(["--op", "broken"]) == 1
    row = capsys.readouterr().out.splitlines()[-1]
    assert "FAIL" in row
    assert "x[1, 2]" in row


def test_the_command_helps_with_a_mistyped_operation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--op", "conv2"]) == 2
    assert "unknown operation 'conv2'; did you mean 'conv2d'?" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--backend", "torch"], ["--cases", "0"], ["--seed", "x"]])
def test_the_command_refuses_wrong_options(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(wrong)
    assert exit.value.code == 2


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tinynn.gradcheck", "--op", "relu", "--backend", "reference"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "relu" in finished.stdout
