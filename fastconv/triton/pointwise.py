"""What the three directions of a 1x1 filter share: which problems are one matrix product."""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton.row import why_not_operands

__all__ = ["pixels_of", "why_not"]


def pixels_of(p: ConvProblem) -> int:
    """Those of x, and of y."""
    return p.N * p.D * p.H * p.W


def why_not(p: ConvProblem) -> str | None:
    """As `Row.why_not`."""
    if p.taps != 1:
        return "the filter is not 1x1"
    if (p.stride_d, p.stride_h, p.stride_w) != (1, 1, 1):
        return "a stride is not 1"
    if (p.pad_d, p.pad_h, p.pad_w) != (0, 0, 0) or (p.Z, p.P, p.Q) != (p.D, p.H, p.W):
        return "the input is padded or cropped"
    return why_not_operands(p, ("f32", "bf16", "f16"))
