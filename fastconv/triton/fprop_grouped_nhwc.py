"""conv_fprop_grouped_nhwc_triton: y[n,z,p,q,k] for groups of 2 to 32 channels, as matrix products.

gemm_m counts the pixels (n,z,p,q), gemm_n a group's K (padded to 16), gemm_k its (t,r,s,c)
flattened: one product covers several taps. A program owns BLOCK_P pixels and takes GROUPS groups in
turn, whose inputs share cache lines; where the taps fit one block, addresses and masks are those of
all groups. Groups are the fastest axis of the grid. It stays at 4 warps (see `Config`).
Assumes: activations NHWC; the weight is read as [K,T,R,S,C].
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton import grouped
from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.operands import krsc
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_x, p_w, p_y, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    C_per_group: tl.constexpr, K_per_group: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_TAPS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    TAPS: tl.constexpr = T * R * S * C_per_group
    groups = C // C_per_group
    turns = tl.cdiv(groups, GROUPS)
    i_p = tl.program_id(0) // turns
    i_g0 = tl.program_id(0) % turns * GROUPS
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    o_k = tl.arange(0, BLOCK_K)
    m_p = o_p < N * Z * P * Q
    m_k = o_k < K_per_group
    m_out = m_p[:, None] & m_k[None, :]
    q = o_p % Q
    p = o_p // Q % P
    z = o_p // (Q * P) % Z
    n = o_p // (Q * P * Z)
    d0 = z * stride_d - pad_d
    h0 = p * stride_h - pad_h
    w0 = q * stride_w - pad_w
    o_x0 = (((n * D + d0) * H + h0) * W + w0) * C
    m_x0 = m_p & (d0.to(tl.uint32) < D) if T == 1 else m_p  # unsigned: below 0 is past D

    for i_g in range(i_g0, tl.minimum(i_g0 + GROUPS, groups)):
        b_y = tl.zeros([BLOCK_P, BLOCK_K], tl.float32)
        for c0 in range(0, TAPS, BLOCK_TAPS):
            o_c = c0 + tl.arange(0, BLOCK_TAPS)
            m_c = o_c < TAPS
            tap = o_c // C_per_group
            d = tap // (R * S) * dilation_d
            h = tap // S % R * dilation_h
            w = tap % S * dilation_w
            o_x = ((d * H + h) * W + w) * C + o_c % C_per_group
            h = h0[:, None] + h[None, :]
            w = w0[:, None] + w[None, :]
            m_x = m_x0[:, None] & m_c[None, :] & (h.to(tl.uint32) < H) & (w.to(tl.uint32) < W)
            if T > 1:
                m_x &= (d0[:, None] + d[None, :]).to(tl.uint32) < D
            o_w = o_k[None, :] * TAPS + o_c[:, None]
            b_x = tl.load(
                p_x + i_g * C_per_group + (o_x0[:, None] + o_x[None, :]), mask=m_x, other=0.0
            )
            b_w = tl.load(
                p_w + i_g * K_per_group * TAPS + o_w, mask=m_k[None, :] & m_c[:, None], other=0.0
            )
            b_y = dot(b_x, b_w, b_y, PRECISION)  # [BLOCK_P, BLOCK_K]

        k = i_g * K_per_group + o_k
        o_out = o_p[:, None] * K + k[None, :]
        b_y = finish(
            b_y, k, m_k, o_out, m_out, p_scale, p_shift, p_residual,
            HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        tl.store(p_y + o_out, b_y.to(p_y.dtype.element_ty), mask=m_out)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    blocks = {"BLOCK_K": grouped.wide(p.K_per_group)}
    return grouped.configs(p, p.N * p.Z * p.P * p.Q, 1, p.taps * p.C_per_group, blocks)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.w is not None
    pixels = triton.cdiv(p.N * p.Z * p.P * p.Q, config.blocks["BLOCK_P"])
    launch(
        _kernel, (pixels * triton.cdiv(p.groups, config.blocks["GROUPS"]),),
        p_x=args.x, p_w=krsc(args.w), p_y=args.out, **args.epilogue(), **geometry(p),
        PRECISION=precision, **config.launch(),
    )  # fmt: skip


ROWS = exact_and_tf32("fprop", "grouped", grouped.why_not, _run, _configs)
