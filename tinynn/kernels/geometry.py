"""Where windows fall on an image: sizes, and the taps of a filter that ever see data.

Legend, along one axis: `size` pixels, `kernel` taps, `padding` = (before, after).
"""

from __future__ import annotations

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))


def conv_output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Windows that fit: floor((size + before + after - dilation (kernel - 1) - 1) / stride) + 1."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """As `conv_output_size`; `ceil_mode` lets a last window hang over the end, as in PyTorch:
    only if it starts inside the image or its leading padding."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


def live_taps(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> list[int]:
    """Taps along one axis that see the image for at least one output position.

    The others only ever see padding: they add nothing forward and receive no gradient.
    """
    out = conv_output_size(size, kernel, stride, padding, dilation)
    return [
        tap
        for tap in range(kernel)
        if any(0 <= i * stride - padding[0] + tap * dilation < size for i in range(out))
    ]


def tap_visits(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """How many (output position, tap) pairs along one axis see the image rather than padding."""
    out = conv_output_size(size, kernel, stride, padding, dilation)
    return sum(
        0 <= i * stride - padding[0] + tap * dilation < size
        for i in range(out)
        for tap in range(kernel)
    )
