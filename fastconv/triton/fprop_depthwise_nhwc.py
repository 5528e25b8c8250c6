"""conv_fprop_depthwise_nhwc_triton: y[n,k,z,p,q] as a sum over t,r,s of one channel's pixels.

NHWC, one input channel a group, K a multiple of C. A thread owns 16 bytes of channels of a strip
of rows along P; neighbouring threads own neighbouring channels, then neighbouring columns. The
kernel and its costs are in depthwise_window.py.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import depthwise, depthwise_window
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return depthwise.why_not(p, "nhwc")


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    depthwise_window.run(p, args, config, args.x)


ROWS = (
    Row("conv_fprop_depthwise_nhwc_triton", "fprop", "exact", "depthwise", _why_not, _run,
        depthwise_window.configs),
)  # fmt: skip
