"""conv_dgrad_depthwise_nhwc_triton: dx[n,c,d,h,w] as a sum over t,r,s of one channel's dy.

NHWC, one input channel a group, K a multiple of C. Stride 1 is fprop of the adjoint problem with
the filter flipped (depthwise_window.py); with a stride a thread owns all sub-pixel phases of a
strip (depthwise_phases.py). A thread has 16 bytes of channels; neighbours own neighbouring
channels.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import depthwise, depthwise_phases, depthwise_window
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return depthwise.why_not(p, "nhwc")


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    if depthwise.strided(p):
        depthwise_phases.run(p, args, config)
    else:
        depthwise_window.run(depthwise.adjoint(p), args, config, args.dy)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    if depthwise.strided(p):
        return depthwise_phases.configs(p)
    return depthwise_window.configs(depthwise.adjoint(p))


ROWS = (
    Row("conv_dgrad_depthwise_nhwc_triton", "dgrad", "exact", "depthwise", _why_not, _run,
        _configs),
)  # fmt: skip
