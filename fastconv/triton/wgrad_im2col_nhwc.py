"""conv_wgrad_im2col_nhwc_triton: dw[k,t,r,s,c] from the explicit matrix of x.

First columns.py writes the matrix [pixels, groups, pitch], then gemm.py multiplies: gemm_m counts
a group's K, gemm_n its taps times C, gemm_k the pixels (n,z,p,q); groups are the batch. gemm_k is
cut into parts by the problem alone, whose sums (float32) reduce.py adds in a fixed order.
Assumes: activations NHWC, fewer than 2^31 elements of the matrix.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import columns, gemm
from fastconv.triton.reduce import partials_like, sum_partials
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    depth = columns.depth_of(p)
    spare = columns.pitch_of(p) - depth
    return gemm.split(p.K_per_group, depth, columns.pixels_of(p), p.groups, spare)


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "ieee")


def _configs_tf32(p: ConvProblem) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, "tf32")


def _run(p: ConvProblem, args: Args, config: Config, precision: str = "ieee") -> None:
    assert args.x is not None and args.dy is not None
    extents = _extents(p)
    depth, pitch = columns.depth_of(p), columns.pitch_of(p)
    partials = partials_like(args.out, extents.parts)
    gemm.multiply(
        gemm.Matrix(args.dy, p.K_per_group, 1, p.K),
        gemm.Matrix(columns.write(p, args.x), pitch, p.groups * pitch, 1),
        gemm.Matrix(partials, p.K_per_group * depth, depth, 1),
        extents,
        config,
        precision,
    )
    sum_partials(partials, args.out)


def _run_tf32(p: ConvProblem, args: Args, config: Config) -> None:
    _run(p, args, config, "tf32")


ROWS = (
    Row(
        "conv_wgrad_im2col_tf32_nhwc_triton", "wgrad", "tf32", "im2col", columns.why_not_tf32,
        _run_tf32, _configs_tf32,
    ),
    Row(
        "conv_wgrad_im2col_nhwc_triton", "wgrad", "exact", "im2col", columns.why_not, _run, _configs
    ),
)  # fmt: skip
