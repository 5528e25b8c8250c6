"""conv_fprop_winograd_f2_nhwc_triton: y[n,p,q,k] by Winograd's F(2x2,3x3), in float32.

Each tile of 2x2 outputs (p,q) comes of 4x4 inputs by 16 products over C instead of 36;
`winograd.py` has the four launches. Products are IEEE's, the transforms exact on small integers.
Assumes: activations NHWC; filters of 3x3 with stride and dilation 1, of any strides in memory.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import winograd
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _why_not(p: ConvProblem) -> str | None:
    return winograd.why_not(p, turned=False)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    return winograd.configs(p, turned=False)


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    winograd.run(p, args, config, turned=False)


ROWS = (
    Row(
        "conv_fprop_winograd_f2_nhwc_triton", "fprop", "winograd_f2", "winograd_f2",
        _why_not, _run, _configs,
    ),
)  # fmt: skip
