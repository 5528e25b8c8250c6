"""What the families' oracles are made of, in NumPy and float64; they share no line with the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _span(outputs: int, extent: int, stride: int, offset: int) -> tuple[slice, slice]:
    """The outputs that read inside the axis at tap offset ``offset``, and the inputs they read."""
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (extent - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    begin = first * stride + offset
    return slice(first, last + 1), slice(begin, begin + (last - first) * stride + 1, stride)


def taps(
    p: Any,
) -> Iterator[tuple[tuple[int, int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Each tap (t, r, s) of a window with its outputs (z, p, q) and its inputs (d, h, w)."""
    for t in range(p.T):
        for r in range(p.R):
            for s in range(p.S):
                spans = (
                    _span(p.Z, p.D, p.stride_d, t * p.dilation_d - p.pad_d),
                    _span(p.P, p.H, p.stride_h, r * p.dilation_h - p.pad_h),
                    _span(p.Q, p.W, p.stride_w, s * p.dilation_w - p.pad_w),
                )
                yield (t, r, s), tuple(a for a, _ in spans), tuple(b for _, b in spans)


def activate(y: Array, activation: str) -> Array:
    """The activation of an epilogue, as ``torch.nn.functional`` has it."""
    if activation == "relu":
        return np.maximum(y, 0)
    if activation == "relu6":
        return np.clip(y, 0, 6)
    if activation == "hardswish":
        return y * np.clip(y + 3, 0, 6) / 6
    sigmoid = 1 / (1 + np.exp(-y))
    return {"none": y, "silu": y * sigmoid, "sigmoid": sigmoid}[activation]


def epilogue(sums: Array, activation: str = "none", **given: Array) -> Array:
    """``act(scale * sums + shift + residual)``: scale and shift a number a channel (axis 1)."""
    column = (1, -1, *(1,) * (sums.ndim - 2))
    if "scale" in given:
        sums = sums * given["scale"].reshape(column)
    if "shift" in given:
        sums = sums + given["shift"].reshape(column)
    return activate(sums + given.get("residual", np.float64(0)), activation)
