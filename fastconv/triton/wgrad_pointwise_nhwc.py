"""conv_wgrad_pointwise_nhwc_triton: dw[k,c] of a 1x1 filter as one matrix product.

gemm_m counts a group's K, gemm_n its C, gemm_k the pixels (n,h,w); groups are the batch. Both sides
are read as they lie, along their channels. gemm_k is cut into parts by the problem alone, whose
sums (float32) reduce.py adds in a fixed order.
Assumes: activations NHWC, unit strides, no padding.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import gemm
from fastconv.triton.pointwise import pixels_of, why_not, why_not_tf32
from fastconv.triton.reduce import partials_like, sum_partials
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.split(p.K_per_group, p.C_per_group, pixels_of(p), p.groups)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "ieee")


def _configs_tf32(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "tf32")


def _run(p: ConvProblem, args: Args, config: Config, precision: str = "ieee") -> None:
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


def _run_tf32(p: ConvProblem, args: Args, config: Config) -> None:
    _run(p, args, config, "tf32")


ROWS = (
    Row(
        "conv_wgrad_pointwise_tf32_nhwc_triton", "wgrad", "tf32", "pointwise", why_not_tf32,
        _run_tf32, _configs_tf32,
    ),
    Row("conv_wgrad_pointwise_nhwc_triton", "wgrad", "exact", "pointwise", why_not, _run, _configs),
)  # fmt: skip
