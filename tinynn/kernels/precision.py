"""How precisely a GPU multiplies: the operands of products; sums are float32 in any case."""

from __future__ import annotations

PRECISIONS = {"highest": 0, "high": 1, "medium": 2}  # float32, TF32, bf16: PRECISION in product.cuh
_precision = "high"


def set_float32_matmul_precision(precision: str) -> None:
    """Choose how GPU kernels round the float32 operands of convolutions and matrix
    products; PyTorch's name and words.

    "highest": not at all; "high": to TF32, 10 bits of mantissa, as PyTorch's convolutions do
    unasked; "medium": to bf16, 7 bits, where channels divide by four, and to TF32 elsewhere. CPU
    kernels always compute in float32. ValueError for another word.
    """
    global _precision
    if precision not in PRECISIONS:
        raise ValueError(
            f"set_float32_matmul_precision: expected one of {', '.join(PRECISIONS)}, "
            f"not {precision!r}"
        )
    _precision = precision


def get_float32_matmul_precision() -> str:
    """The precision chosen: "highest", "high" or "medium"."""
    return _precision
