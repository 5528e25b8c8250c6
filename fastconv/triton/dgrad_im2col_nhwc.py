"""conv_dgrad_im2col_nhwc_triton: dx[n,d,h,w,c] through the explicit matrix of its contributions.

First gemm.py multiplies dy with the weight into the matrix [pixels of dy, groups, pitch] with
[T,R,S,C/groups]: gemm_m counts the pixels (n,z,p,q), gemm_n a group's taps times C, gemm_k its K.
Then each element of dx gathers its taps in the order of t, r, s: no atomics. The matrix is float32
for every dtype, so that a sum is rounded once. A program of the gather owns BLOCK_P pixels of dx by
BLOCK_C channels, along which it reads; C_UNIT: as in columns.py.
Assumes: activations NHWC, fewer than 2^31 elements of the matrix.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.triton import columns, gemm
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]

_BLOCK = 4096
_MOST_C = 128


@triton.jit
def _kernel(
    p_columns, p_dx, p_scale, p_shift, p_residual, row, pitch,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, C_UNIT: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c_blocks = tl.cdiv(C, BLOCK_C)
    o_p = tl.program_id(0) // c_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    o_c = tl.program_id(0) % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    m_p = o_p < N * D * H * W
    m_c = tl.max_constancy(o_c < C, C_UNIT)
    reach_w0 = o_p % W + pad_w
    reach_h0 = o_p // W % H + pad_h
    reach_d0 = o_p // (W * H) % D + pad_d
    z0 = o_p // (W * H * D) * Z
    o_column = o_c // C_per_group * pitch + o_c % C_per_group
    o_column = tl.max_contiguous(tl.multiple_of(o_column, C_UNIT), C_UNIT)

    b_dx = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for i in range(0, T * R):
        reach_d = reach_d0 - i // R * dilation_d
        reach_h = reach_h0 - i % R * dilation_h
        z = reach_d // stride_d
        p = reach_h // stride_h
        m_line = m_p & (reach_d >= 0) & (z * stride_d == reach_d) & (z < Z)
        m_line = m_line & (reach_h >= 0) & (p * stride_h == reach_h) & (p < P)
        o_line = ((z0 + z) * P + p) * Q
        for s in tl.static_range(S):
            reach_w = reach_w0 - s * dilation_w
            q = reach_w // stride_w
            m_tap = m_line & (reach_w >= 0) & (q * stride_w == reach_w) & (q < Q)
            o_tap = tl.multiple_of((o_line + q) * row + (i * S + s) * C_per_group, C_UNIT)
            b_dx += tl.load(
                p_columns + o_tap[:, None] + o_column[None, :],
                mask=m_tap[:, None] & m_c[None, :],
                other=0.0,
            )

    o_out = tl.multiple_of(o_p * C, C_UNIT)[:, None] + o_c[None, :]
    m_out = m_p[:, None] & m_c[None, :]
    b_dx = finish(
        b_dx, o_c, m_c, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_dx + o_out, b_dx.to(p_dx.dtype.element_ty), mask=m_out)


def _gather(p: ConvProblem, matrix: Tensor, args: Args) -> None:
    """dx of the matrix, with the epilogue."""
    block_c = min(_MOST_C, max(4, triton.next_power_of_2(p.C)))
    block_p = min(256, _BLOCK // block_c)
    launch(
        _kernel, (triton.cdiv(p.N * p.D * p.H * p.W, block_p) * triton.cdiv(p.C, block_c),),
        p_columns=matrix, p_dx=args.out, row=matrix.shape[1], pitch=columns.pitch_of(p),
        **args.epilogue(), **geometry(p), C_UNIT=gemm.unit(p.C_per_group),
        BLOCK_P=block_p, BLOCK_C=block_c, num_warps=8,
    )  # fmt: skip


def _extents(p: ConvProblem) -> gemm.Extents:
    return gemm.Extents(columns.pixels_of(p), columns.pitch_of(p), p.K_per_group, p.groups)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    return gemm.configs(_extents(p), p.dtype, precision)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.dy is not None and args.w is not None
    pitch, row = columns.pitch_of(p), p.groups * columns.pitch_of(p)
    matrix = torch.empty(
        (columns.pixels_of(p), row), dtype=torch.float32, device=args.out.device
    )  # fmt: skip
    gemm.multiply(
        gemm.Matrix(args.dy, p.K_per_group, p.K, 1),
        gemm.Matrix(columns.weight(p, args.w), p.K_per_group * pitch, pitch, 1),
        gemm.Matrix(matrix, pitch, row, 1),
        _extents(p),
        config,
        precision,
    )
    _gather(p, matrix, args)


ROWS = exact_and_tf32("dgrad", "im2col", columns.why_not, _run, _configs)
