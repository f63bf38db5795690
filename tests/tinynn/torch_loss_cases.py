"""Cases for `test_torch_ops`: softmax and losses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from torch_cases import case, huge, normal, positive, rng, ties

import tinynn as tn
from tinynn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")
TF = torch.nn.functional

shape: Any  # the loops below draw these from many types
dims: Any
options: Any

for dim, data in itertools.product((0, 1, -1), (normal(3, 4, 5), huge(3, 4, 5))):
    for name in ("softmax", "log_softmax"):
        case(
            name,
            f"dim {dim}, up to {abs(data).max():.0f}",
            lambda x, name=name, dim=dim: getattr(F, name)(x, dim),
            lambda x, name=name, dim=dim: getattr(TF, name)(x, dim),
            data,
        )

REDUCTIONS = ("mean", "sum", "none")
CLASS_WEIGHT = positive(5)
LABELS = rng.integers(0, 5, (4, 3))
LABELS[1, 2] = LABELS[3, 0] = 2


def classes_second(t: Any) -> Any:
    """(..., C) -> (N, C, ...), where PyTorch wants the classes."""
    return t.movedim(-1, 1) if t.ndim > 1 else t


def weights(x: Any, weighted: bool) -> Any:
    """CLASS_WEIGHT as a tensor of x's library and dtype."""
    if not weighted:
        return None
    if isinstance(x, tn.Tensor):
        return tn.Tensor(CLASS_WEIGHT.astype(x.dtype))
    return torch.tensor(CLASS_WEIGHT, dtype=x.dtype)


def label_loss_case(
    name: str, data: np.ndarray, labels: np.ndarray, weighted: bool, label: str, **options: Any
) -> None:
    """A loss of integer labels."""
    case(
        name,
        f"{label} {data.shape} weighted={weighted} {options}",
        lambda x: getattr(F, name)(x, tn.Tensor(labels), weight=weights(x, weighted), **options),
        lambda x: getattr(TF, name)(
            classes_second(x), torch.tensor(labels), weight=weights(x, weighted), **options
        ),
        data,
    )


for weighted, ignored, reduction, smoothing in itertools.product(
    (False, True), (-100, 2), REDUCTIONS, (0.0, 0.1, 1.0)
):
    options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    label_loss_case("cross_entropy", normal(4, 3, 5), LABELS, weighted, "normal", **options)
    if smoothing == 0.1:
        label_loss_case("cross_entropy", huge(4, 5), LABELS[:, 0], weighted, "huge", **options)
        label_loss_case("cross_entropy", normal(4, 5), LABELS[:, 0], weighted, "normal", **options)
    if smoothing == 0:
        del options["label_smoothing"]
        label_loss_case("nll_loss", normal(4, 3, 5), LABELS, weighted, "normal", **options)
label_loss_case("cross_entropy", normal(5), np.array(3), True, "one sample")

for shape, weighted, reduction, smoothing in itertools.product(
    ((4, 5), (4, 2, 5)), (False, True), REDUCTIONS, (0.0, 0.2)
):
    probabilities = rng.dirichlet(np.ones(5), shape[:-1])

    def ours(x: Any, q: Any = probabilities, w: bool = weighted, **options: Any) -> Any:
        return F.cross_entropy(x, tn.Tensor(q.astype(x.dtype)), weights(x, w), **options)

    def theirs(x: Any, q: Any = probabilities, w: bool = weighted, **options: Any) -> Any:
        target = torch.tensor(q, dtype=x.dtype)
        return TF.cross_entropy(classes_second(x), classes_second(target), weights(x, w), **options)

    options = {"reduction": reduction, "label_smoothing": smoothing}
    case(
        "cross_entropy",
        f"probabilities {shape} weighted={weighted} {options}",
        lambda x, f=ours, options=options: f(x, **options),
        lambda x, f=theirs, options=options: f(x, **options),
        normal(*shape),
    )

for reduction in REDUCTIONS:
    case(
        "mse_loss",
        reduction,
        lambda x, y, r=reduction: F.mse_loss(x, y, reduction=r),
        lambda x, y, r=reduction: TF.mse_loss(x, y, reduction=r),
        normal(3, 4),
        normal(3, 4),
    )

for p, margin, weighted, reduction in itertools.product(
    (1, 2), (1.0, 0.5), (False, True), REDUCTIONS
):
    case(
        "multi_margin_loss",
        f"p={p} margin={margin} weighted={weighted} {reduction}",
        lambda x, w=weighted, p=p, m=margin, r=reduction: F.multi_margin_loss(
            x, tn.Tensor(LABELS[:, 0]), p, m, weights(x, w), r
        ),
        lambda x, w=weighted, o=(p, margin), r=reduction: TF.multi_margin_loss(
            x, torch.tensor(LABELS[:, 0]), *o, weight=weights(x, w), reduction=r
        ),
        ties(4, 5) if margin == 1 else normal(4, 5),  # ties stand on the hinge's corner
    )
case(
    "hinge_loss",
    "its other name",
    lambda x: F.hinge_loss(x, LABELS[:, 0]),
    lambda x: TF.multi_margin_loss(x, torch.tensor(LABELS[:, 0])),
    normal(4, 5),
)
