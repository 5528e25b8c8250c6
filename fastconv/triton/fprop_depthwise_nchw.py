"""conv_fprop_depthwise_nchw_triton: y[n,k,z,p,q] as a sum over t,r,s of one channel's pixels.

NCHW, one input channel a group, K a multiple of C. A thread owns a strip of rows along P of one
channel; neighbouring threads own neighbouring columns, then strips, channels and images, so that
none idles on small planes. The kernel and its costs are in depthwise_window.py.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import depthwise, depthwise_window
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return depthwise.why_not(p, "nchw")


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    depthwise_window.run(p, args, config, args.x)


ROWS = (
    Row("conv_fprop_depthwise_nchw_triton", "fprop", "exact", "depthwise", _why_not, _run,
        depthwise_window.configs),
)  # fmt: skip
