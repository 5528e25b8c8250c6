"""conv_dgrad_pointwise_nhwc_triton: dx[n,d,h,w,c] of a 1x1 filter as one matrix product.

gemm_m counts the pixels (n,p,q) of dy as they lie, gemm_n a group's C, gemm_k its K; groups are the
batch. Nothing is copied: the weight is read as [K/groups,C/groups] a group by its own strides. How
the work is cut: gemm.py; up to 256 inputs a pixel share one reading of dy.
Assumes: activations NHWC, unit strides, no padding.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import gemm
from fastconv.triton.pointwise import pixels_of, why_not, why_not_tf32
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.Extents(pixels_of(p), p.C_per_group, p.K_per_group, p.groups)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "ieee")


def _configs_tf32(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "tf32")


def _run(p: ConvProblem, args: Args, config: Config, precision: str = "ieee") -> None:
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


def _run_tf32(p: ConvProblem, args: Args, config: Config) -> None:
    _run(p, args, config, "tf32")


ROWS = (
    Row(
        "conv_dgrad_pointwise_tf32_nhwc_triton", "dgrad", "tf32", "pointwise", why_not_tf32,
        _run_tf32, _configs_tf32,
    ),
    Row("conv_dgrad_pointwise_nhwc_triton", "dgrad", "exact", "pointwise", why_not, _run, _configs),
)  # fmt: skip
