"""PyTorch's side of the benchmarks computes what ours does."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.calls import Call, calls_of
from benchmarks.engines import step_of, torch_engines
from benchmarks.kernels import draw
from benchmarks.other_calls import CONVOLUTIONS, of_other_networks, others
from benchmarks.works import WORKS
from tinynn.backend import get_backend
from tinynn.kernels import cpu

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

SMALL = {"stem": "7x7", "width": 4}
WORK = replace(WORKS["resnet18-7x7"], batch=6, options=SMALL)
MLP = replace(WORKS["mlp"], batch=8)
# The kernels that are left out draw what ours are given (the ReLU's output), or return nothing.
SAME = (
    "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "linear_grad", "max_pool2d", "batch_norm",
    "global_avg_pool2d", "global_avg_pool2d_grad",
    "label_cross_entropy", "label_cross_entropy_grad", "mean_over_labels",
)  # fmt: skip


SAME_OF_OTHERS = (  # ctc_loss_grad is not: PyTorch's has log_softmax's part in it
    "matmul", "linear", "linear_grad", "column_sum", "mul", "mul_grad", "avg_pool2d",
    "avg_pool2d_grad", "batch_norm_inference", "layer_norm", "layer_norm_grad", "dropout",
    "softmax", "softmax_grad", "log_softmax", "log_softmax_grad", "rnn", "ctc_loss",
)  # fmt: skip
DEPTHWISE = replace(WORKS["efficientnet-b0"], batch=2)


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """The different calls of a training step."""
    return list(dict.fromkeys(calls_of(partial(step_of, WORK), get_backend("reference"))))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_ops_compute_what_our_kernels_do(calls: list[Call], layout: Any) -> None:
    assert compare([call for call in calls if call.kernel in SAME], layout) == set(SAME)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_ops_compute_what_our_other_kernels_do(layout: Any) -> None:
    same = [call for call in others(64) if call.kernel in SAME_OF_OTHERS]
    assert compare(same, layout) == set(SAME_OF_OTHERS)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_depthwise_convolutions_padded_on_one_side(
    monkeypatch: pytest.MonkeyPatch, layout: Any
) -> None:
    monkeypatch.setitem(WORKS, "efficientnet-b0", DEPTHWISE)
    calls = set(of_other_networks(CONVOLUTIONS))
    assert all(call.shape_of("w")[3] == 1 for call in calls)
    assert any(before != after for call in calls for before, after in call.given["padding"])
    assert compare(calls, layout) == CONVOLUTIONS


def compare(calls: Iterable[Call], layout: Any) -> set[str]:
    """Hold PyTorch's ops to our kernels. Returns whose calls there were."""
    from benchmarks.torch_kernels import OPS, Case

    reference, seen = get_backend("reference"), set()
    for call in calls:
        seen.add(call.kernel)
        ours = reference.kernels[call.kernel](*draw(call, 0).values())
        theirs = OPS[call.kernel](Case(call, draw(call, 0), layout))()
        ours = ours[0] if isinstance(ours, tuple) else ours
        if isinstance(theirs, tuple):
            theirs = next(t for t in theirs if t is not None)
        theirs = theirs.detach()
        theirs = theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-3, err_msg=str(call))
    return seen


def test_every_kernel_of_a_step_has_its_op(calls: list[Call]) -> None:
    from benchmarks.torch_kernels import OPS, Case

    assert cpu.KERNELS.keys() <= OPS.keys()
    for call in [*calls, *others(64)]:
        OPS[call.kernel](Case(call, draw(call, 0), torch.channels_last))()


def test_a_recipe_in_torch(bench: Callable[..., Any]) -> None:
    words = "--model mlp --limit-batches 4 --epochs 1 --validation 0 --batch-size 64 --threads 1"
    result = bench("torch_recipe", *words.split(), "--output", "unused")
    assert result.code == 0, result.err
    assert "test accuracy" in result.out


def test_formats_and_optimisers() -> None:
    def facts(fused: bool) -> list[tuple[str, str]]:
        made = [make(*arguments)[1] for make, arguments in torch_engines(MLP, 1, 0, fused)]
        return [(each["engine"], each["memory_format"]) for each in made]

    both = [("PyTorch", "contiguous"), ("PyTorch", "channels_last")]
    assert facts(fused=False) == both
    assert facts(fused=True) == both + [("PyTorch, fused optimiser", f) for _, f in both]
