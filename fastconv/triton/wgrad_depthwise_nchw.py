"""conv_wgrad_depthwise_nchw_triton: dw[k,t,r,s] as a sum over n,z,p,q of one channel's x and dy.

NCHW, one input channel a group, K a multiple of C. x and dy are read once: a program owns a channel
and a part of the strips of pixels, and all taps; the parts are added in a second stage. The kernel
and its costs are in depthwise_wgrad.py.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import depthwise, depthwise_wgrad
from fastconv.triton.row import Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return depthwise.why_not(p, "nchw")


ROWS = (
    Row("conv_wgrad_depthwise_nchw_triton", "wgrad", "exact", "depthwise", _why_not,
        depthwise_wgrad.run, depthwise_wgrad.configs),
)  # fmt: skip
