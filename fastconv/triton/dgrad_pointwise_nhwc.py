"""conv_dgrad_pointwise_nhwc_triton: dx[n,d,h,w,c] of a 1x1 filter as one matrix product.

gemm_m counts the pixels (n,p,q) of dy as they lie, gemm_n a group's C, gemm_k its K; groups are the
batch. Nothing is copied: the weight is read as [K/groups,C/groups] a group by its own strides. How
the work is cut: gemm.py; up to 256 inputs a pixel share one reading of dy.
Assumes: activations NHWC, unit strides, no padding.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import gemm
from fastconv.triton.pointwise import pixels_of, why_not
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.Extents(pixels_of(p), p.C_per_group, p.K_per_group, p.groups)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, precision)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.dy is not None and args.w is not None
    stride_k, stride_c = args.w.stride()[:2]
    gemm.multiply(
        gemm.Matrix(args.dy, p.K_per_group, p.K, 1),
        gemm.Matrix(args.w, p.K_per_group * stride_k, stride_k, stride_c),
        gemm.Matrix(args.out, p.C_per_group, p.C, 1),
        _extents(p),
        config,
        precision,
        args.epilogue(),
    )


ROWS = exact_and_tf32("dgrad", "pointwise", why_not, _run, _configs)
