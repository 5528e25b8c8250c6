"""The explicit matrix of im2col: a row a pixel (n,z,p,q), [groups, pitch] of [T,R,S,C/groups].

fprop and wgrad write it here from x, dgrad computes it from dy. A program writes BLOCK_P rows of
BLOCK_D elements: x is read and the matrix written along the channels. What is outside x, and what
is beyond a group's taps (pitch is a multiple of 16: every row holds whole vectors), is zero.
C_UNIT channels, a power of two that divides C/groups and pitch, are known to share a tap.
Assumes: activations NHWC, fewer than 2^31 elements of the matrix.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.triton.gemm import unit
from fastconv.triton.launch import geometry, launch
from fastconv.triton.operands import krsc
from fastconv.triton.row import why_not_product

__all__ = ["depth_of", "pitch_of", "pixels_of", "weight", "why_not", "write"]

_BLOCK = 8192
_MOST_D = 256


@triton.jit
def _kernel(
    p_x, p_columns, pixels, row, pitch,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, HAS_DEPTH: tl.constexpr,
    C_UNIT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    d_blocks = tl.cdiv(row, BLOCK_D)
    o_p = tl.program_id(0) // d_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    o_d = tl.program_id(0) % d_blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    m_p = o_p < pixels
    m_d = o_d < row
    in_group = o_d % pitch
    tap = tl.max_constancy(in_group // C_per_group, C_UNIT)
    m_tap = tl.max_constancy(m_d & (in_group < T * R * S * C_per_group), C_UNIT)
    t = tap // (R * S) * dilation_d
    r = tap // S % R * dilation_h
    s = tap % S * dilation_w
    d0 = o_p // (Q * P) % Z * stride_d - pad_d
    h0 = o_p // Q % P * stride_h - pad_h
    w0 = o_p % Q * stride_w - pad_w
    o_first = tl.multiple_of((((o_p // (Q * P * Z) * D + d0) * H + h0) * W + w0) * C, C_UNIT)
    o_tap = ((t * H + r) * W + s) * C + o_d // pitch * C_per_group + in_group % C_per_group
    o_tap = tl.max_contiguous(tl.multiple_of(o_tap, C_UNIT), C_UNIT)
    h = h0[:, None] + r[None, :]  # [BLOCK_P, BLOCK_D]
    w = w0[:, None] + s[None, :]
    m_x = m_p[:, None] & m_tap[None, :] & (h >= 0) & (h < H) & (w >= 0) & (w < W)
    if HAS_DEPTH:
        d = d0[:, None] + t[None, :]
        m_x = m_x & (d >= 0) & (d < D)
    b_x = tl.load(p_x + o_first[:, None] + o_tap[None, :], mask=m_x, other=0.0)
    tl.store(p_columns + o_p[:, None] * row + o_d[None, :], b_x, mask=m_p[:, None] & m_d[None, :])


def pixels_of(p: ConvProblem) -> int:
    """The matrix's rows."""
    return p.N * p.Z * p.P * p.Q


def depth_of(p: ConvProblem) -> int:
    """Elements of a group in a row."""
    return p.taps * p.C_per_group


def pitch_of(p: ConvProblem) -> int:
    """What a group takes in a row."""
    return triton.cdiv(depth_of(p), 16) * 16


def why_not(p: ConvProblem) -> str | None:
    """As `Row.why_not`."""
    if pixels_of(p) * p.groups * pitch_of(p) >= 2**31:
        return "the matrix has 2^31 elements or more"
    return why_not_product(p)


def write(p: ConvProblem, x: Tensor) -> Tensor:
    """The matrix of x, in its dtype."""
    row = p.groups * pitch_of(p)
    columns = torch.empty((pixels_of(p), row), dtype=x.dtype, device=x.device)
    block_d = min(_MOST_D, max(16, triton.next_power_of_2(row)))
    block_p = _BLOCK // block_d
    launch(
        _kernel, (triton.cdiv(pixels_of(p), block_p) * triton.cdiv(row, block_d),),
        p_x=x, p_columns=columns, pixels=pixels_of(p), row=row, pitch=pitch_of(p), **geometry(p),
        HAS_DEPTH=not p.is_2d, C_UNIT=unit(p.C_per_group),
        BLOCK_P=block_p, BLOCK_D=block_d, num_warps=8,
    )  # fmt: skip
    return columns


def weight(p: ConvProblem, w: Tensor) -> Tensor:
    """The weight as [K, pitch]: a channel's row of taps, zeros beyond them."""
    rows = krsc(w).reshape(p.K, depth_of(p))
    spare = pitch_of(p) - depth_of(p)
    return torch.nn.functional.pad(rows, (0, spare)) if spare else rows
