"""conv_dgrad_winograd_f2_nhwc_triton: dx[n,h,w,c] by Winograd's F(2x2,3x3), in float32.

fprop of dy with the filter turned by 180 degrees, C and K exchanged and a padding of 2 - pad: each
tile of 2x2 (h,w) comes of 4x4 of dy by 16 products over K; `winograd.py` has the four launches.
Assumes: activations NHWC; filters of 3x3 with stride and dilation 1, of any strides in memory.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import winograd
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return winograd.why_not(p, turned=True)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    return winograd.configs(p, turned=True)


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    winograd.run(p, args, config, turned=True)


ROWS = (
    Row(
        "conv_dgrad_winograd_f2_nhwc_triton", "dgrad", "winograd_f2", "winograd_f2",
        _why_not, _run, _configs,
    ),
)  # fmt: skip
