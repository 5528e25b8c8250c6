"""The three directions in NumPy and float64: an oracle that shares no line with the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.problem import ConvProblem

Array = npt.NDArray[np.float64]


def _span(outputs: int, extent: int, stride: int, offset: int) -> tuple[slice, slice]:
    """The outputs that read inside the axis at tap offset ``offset``, and the inputs they read."""
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (extent - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    begin = first * stride + offset
    return slice(first, last + 1), slice(begin, begin + (last - first) * stride + 1, stride)


def _taps(
    p: ConvProblem,
) -> Iterator[tuple[tuple[int, int, int], tuple[slice, ...], tuple[slice, ...]]]:
    """Each tap (t, r, s) with its outputs (z, p, q) and its inputs (d, h, w)."""
    for t in range(p.T):
        for r in range(p.R):
            for s in range(p.S):
                spans = (
                    _span(p.Z, p.D, p.stride_d, t * p.dilation_d - p.pad_d),
                    _span(p.P, p.H, p.stride_h, r * p.dilation_h - p.pad_h),
                    _span(p.Q, p.W, p.stride_w, s * p.dilation_w - p.pad_w),
                )
                yield (t, r, s), tuple(a for a, _ in spans), tuple(b for _, b in spans)


def _grouped(
    p: ConvProblem,
    x: npt.NDArray[Any] | None,
    w: npt.NDArray[Any] | None,
    y: npt.NDArray[Any] | None,
) -> list[Any]:
    """Operands as [N, g, c, d, h, w], [g, k, c, t, r, s] and [N, g, k, z, p, q] in float64."""
    return [
        None
        if x is None
        else np.asarray(x, np.float64).reshape(p.N, p.groups, p.C_per_group, p.D, p.H, p.W),
        None
        if w is None
        else np.asarray(w, np.float64).reshape(
            p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S
        ),
        None
        if y is None
        else np.asarray(y, np.float64).reshape(p.N, p.groups, p.K_per_group, p.Z, p.P, p.Q),
    ]


def fprop(p: ConvProblem, x: npt.NDArray[Any], w: npt.NDArray[Any]) -> Array:
    """``y`` [N,K,Z,P,Q] of ``x`` [N,C,D,H,W] and ``w`` [K,C/groups,T,R,S]."""
    x, w, _ = _grouped(p, x, w, None)
    y = np.zeros((p.N, p.groups, p.K_per_group, p.Z, p.P, p.Q))
    for (t, r, s), outs, ins in _taps(p):
        y[:, :, :, *outs] += np.einsum(
            "ngcdhw,gkc->ngkdhw", x[:, :, :, *ins], w[..., t, r, s], optimize=True
        )
    return y.reshape(p.N, p.K, p.Z, p.P, p.Q)


def dgrad(p: ConvProblem, dy: npt.NDArray[Any], w: npt.NDArray[Any]) -> Array:
    """``dx`` [N,C,D,H,W] of ``dy`` [N,K,Z,P,Q] and ``w`` [K,C/groups,T,R,S]."""
    _, w, dy = _grouped(p, None, w, dy)
    dx = np.zeros((p.N, p.groups, p.C_per_group, p.D, p.H, p.W))
    for (t, r, s), outs, ins in _taps(p):
        dx[:, :, :, *ins] += np.einsum(
            "ngkdhw,gkc->ngcdhw", dy[:, :, :, *outs], w[..., t, r, s], optimize=True
        )
    return dx.reshape(p.N, p.C, p.D, p.H, p.W)


def wgrad(p: ConvProblem, x: npt.NDArray[Any], dy: npt.NDArray[Any]) -> Array:
    """``dw`` [K,C/groups,T,R,S] of ``x`` [N,C,D,H,W] and ``dy`` [N,K,Z,P,Q]."""
    x, _, dy = _grouped(p, x, None, dy)
    dw = np.zeros((p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S))
    for (t, r, s), outs, ins in _taps(p):
        dw[..., t, r, s] = np.einsum(
            "ngcdhw,ngkdhw->gkc", x[:, :, :, *ins], dy[:, :, :, *outs], optimize=True
        )
    return dw.reshape(p.K, p.C_per_group, p.T, p.R, p.S)


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
