"""What the depthwise kernels share: which problems they take, and how they see them. Lanes and strips
are strips.py's.
"""

from __future__ import annotations

from torch import Tensor

from fastconv.problem import ELEMENT_SIZE, ConvProblem
from fastconv.triton.row import why_not_operands

__all__ = ["adjoint", "strided", "trsk", "turned", "why_not"]


def trsk(w: Tensor) -> Tensor:
    """A weight [K, 1, T, R, S] of any strides as dense [T, R, S, K, 1]: vectors along K."""
    return w.permute(2, 3, 4, 0, 1).contiguous()


def turned(p: ConvProblem) -> ConvProblem:
    """A problem of one row in NHWC as one of one column, which lies the same: strips go along P."""
    flat = p.is_2d and p.H == p.P == p.R == 1 and p.pad_h == 0
    if not flat or p.x_layout != "nhwc":
        return p
    return p.replace(
        H=p.W, W=1, P=p.Q, Q=1, R=p.S, S=1, stride_h=p.stride_w, stride_w=1, pad_h=p.pad_w, pad_w=0,
        dilation_h=p.dilation_w, dilation_w=1,
    )  # fmt: skip


def strided(p: ConvProblem) -> bool:
    """Whether an output of dgrad is reached by some of the taps alone."""
    return max(p.stride_d, p.stride_h, p.stride_w) > 1


def adjoint(p: ConvProblem) -> ConvProblem:
    """The problem, from y to x with the filter flipped, whose fprop is dgrad of `p` at stride 1."""
    return p.replace(
        C=p.K, D=p.Z, H=p.P, W=p.Q, K=p.C, Z=p.D, P=p.H, Q=p.W,
        pad_d=(p.T - 1) * p.dilation_d - p.pad_d, pad_h=(p.R - 1) * p.dilation_h - p.pad_h,
        pad_w=(p.S - 1) * p.dilation_w - p.pad_w, x_layout=p.y_layout, y_layout=p.x_layout,
    )  # fmt: skip


def why_not(p: ConvProblem, layout: str) -> str | None:
    """Why the rows for `layout` refuse the problem."""
    if reason := why_not_operands(p, tuple(ELEMENT_SIZE), layout):
        return reason
    if not p.is_depthwise:
        return "it is not depthwise: one input channel a group, and several groups"
    return None
