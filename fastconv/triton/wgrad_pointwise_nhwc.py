"""conv_wgrad_pointwise_nhwc_triton: dw[k,c] of a 1x1 filter as one matrix product.

gemm_m counts a group's K, gemm_n its C, gemm_k the pixels (n,h,w); groups are the batch. Both sides
are read as they lie, along their channels. gemm_k is cut into parts by the problem alone, whose
sums (float32) reduce.py adds in a fixed order.
Assumes: activations NHWC, unit strides, no padding.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import gemm
from fastconv.triton.pointwise import pixels_of, why_not
from fastconv.triton.reduce import partials_like, sum_partials
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.split(p.K_per_group, p.C_per_group, pixels_of(p), p.groups)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, precision)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.x is not None and args.dy is not None
    extents = _extents(p)
    partials = partials_like(args.out, extents.parts)
    gemm.multiply(
        gemm.Matrix(args.dy, p.K_per_group, 1, p.K),
        gemm.Matrix(args.x, p.C_per_group, p.C, 1),
        gemm.Matrix(partials, p.K_per_group * p.C_per_group, p.C_per_group, 1),
        extents,
        config,
        precision,
    )
    sum_partials(partials, args.out)


ROWS = exact_and_tf32("wgrad", "pointwise", why_not, _run, _configs)
