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
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    depth = columns.depth_of(p)
    spare = columns.pitch_of(p) - depth
    return gemm.split(p.K_per_group, depth, columns.pixels_of(p), p.groups, spare)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, precision)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
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


ROWS = exact_and_tf32("wgrad", "im2col", columns.why_not, _run, _configs)
