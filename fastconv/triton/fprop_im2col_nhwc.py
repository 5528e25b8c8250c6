"""conv_fprop_im2col_nhwc_triton: y[n,z,p,q,k] from the explicit matrix of x.

First columns.py writes the matrix [pixels, groups, pitch], then gemm.py multiplies: gemm_m counts
the pixels (n,z,p,q), gemm_n a group's K, gemm_k its taps times C with the zeros up to pitch; groups
are the batch. The matrix is written and read once, T*R*S times the bytes of x.
Assumes: activations NHWC, fewer than 2^31 elements of the matrix.
"""

from __future__ import annotations

from fastconv.problem import ConvProblem
from fastconv.triton import columns, gemm
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.Extents(columns.pixels_of(p), p.K_per_group, columns.pitch_of(p), p.groups)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, precision)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.x is not None and args.w is not None
    pitch = columns.pitch_of(p)
    gemm.multiply(
        gemm.Matrix(columns.write(p, args.x), pitch, p.groups * pitch, 1),
        gemm.Matrix(columns.weight(p, args.w), p.K_per_group * pitch, 1, pitch),
        gemm.Matrix(args.out, p.K_per_group, p.K, 1),
        _extents(p),
        config,
        precision,
        args.epilogue(),
    )


ROWS = exact_and_tf32("fprop", "im2col", columns.why_not, _run, _configs)
