"""conv_fprop_igemm_nhwc_triton: y[n,z,p,q,k] as a matrix product whose left side is never written.

gemm_m counts the pixels (n,z,p,q), gemm_n a group's K, gemm_k its taps times C. A program owns
BLOCK_P pixels by BLOCK_K channels of one group; programs that share pixels are neighbours, so that
their inputs meet in L2. One loop steps through taps and blocks of C together, for the sake of the
pipeline across taps; it divides nothing and stays at 4 warps (see `Config`).
Assumes: activations NHWC; the weight is read as [K,T,R,S,C].
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.operands import krsc
from fastconv.triton.row import Args, Config, exact_and_tf32, why_not_product

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_x, p_w, p_y, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    k_blocks = tl.cdiv(K_per_group, BLOCK_K)
    i_p = tl.program_id(0) // k_blocks
    i_k = tl.program_id(0) % k_blocks
    i_g = tl.program_id(1)
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    o_k = i_k * BLOCK_K + tl.arange(0, BLOCK_K)
    o_c = tl.arange(0, BLOCK_C)
    m_p = o_p < N * Z * P * Q
    m_k = o_k < K_per_group
    o_row = o_p // Q
    o_plane = o_row // P
    n = o_plane // Z
    d0 = (o_plane - n * Z) * stride_d - pad_d
    h0 = (o_row - o_plane * P) * stride_h - pad_h
    w0 = (o_p - o_row * Q) * stride_w - pad_w
    if T == 1:
        m_x = m_p & (d0 >= 0) & (d0 < D)
    else:
        m_x = m_p
    o_x = (((n * D + d0) * H + h0) * W + w0)[:, None] * C + o_c[None, :]
    o_w = o_k[None, :] * (T * R * S * C_per_group) + o_c[:, None]
    p_xg = p_x + i_g * C_per_group
    p_wg = p_w + i_g * K_per_group * (T * R * S * C_per_group)

    t, r, s, c0 = 0, 0, 0, 0
    b_y = tl.zeros([BLOCK_P, BLOCK_K], tl.float32)
    for _ in range(0, T * R * S * tl.cdiv(C_per_group, BLOCK_C)):
        h = h0 + r * dilation_h
        w = w0 + s * dilation_w
        m_tap = m_x & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        if T > 1:
            m_tap &= (d0 + t * dilation_d >= 0) & (d0 + t * dilation_d < D)
        m_c = o_c < C_per_group - c0
        p_xt = p_xg + (((t * dilation_d * H + r * dilation_h) * W + s * dilation_w) * C + c0)
        p_wt = p_wg + (((t * R + r) * S + s) * C_per_group + c0)
        b_x = tl.load(p_xt + o_x, mask=m_tap[:, None] & m_c[None, :], other=0.0)
        b_w = tl.load(p_wt + o_w, mask=m_k[None, :] & m_c[:, None], other=0.0)
        b_y = dot(b_x, b_w, b_y, PRECISION)  # [BLOCK_P, BLOCK_K]
        c0 += BLOCK_C
        s = tl.where(c0 < C_per_group, s, s + 1)
        c0 = tl.where(c0 < C_per_group, c0, 0)
        r = tl.where(s < S, r, r + 1)
        s = tl.where(s < S, s, 0)
        t = tl.where(r < R, t, t + 1)
        r = tl.where(r < R, r, 0)

    o_out = o_p[:, None] * K + (i_g * K_per_group + o_k)[None, :]
    m_out = m_p[:, None] & m_k[None, :]
    b_y = finish(
        b_y, i_g * K_per_group + o_k, m_k, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_y + o_out, b_y.to(p_y.dtype.element_ty), mask=m_out)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    """Wide in the channels that exist: 128 pixels reuse a weight tile, deep BLOCK_C feeds wgmma."""
    k = min(128, max(16, triton.next_power_of_2(p.K_per_group)))
    c = min(64 if p.dtype != "f32" else 32, max(16, triton.next_power_of_2(p.C_per_group)))
    return tuple(
        Config({"BLOCK_P": pixels, "BLOCK_K": min(k, wide), "BLOCK_C": c}, num_stages=stages)
        for pixels, wide, stages in ((128, 64, 3), (128, 128, 3), (64, 64, 4), (64, 128, 4))
    )


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.w is not None
    blocks = config.blocks
    pixels = triton.cdiv(p.N * p.Z * p.P * p.Q, blocks["BLOCK_P"])
    launch(
        _kernel,
        (pixels * triton.cdiv(p.K_per_group, blocks["BLOCK_K"]), p.groups),
        p_x=args.x, p_w=krsc(args.w), p_y=args.out, **args.epilogue(), **geometry(p),
        PRECISION=precision, **config.launch(),
    )  # fmt: skip


ROWS = exact_and_tf32("fprop", "igemm", why_not_product, _run, _configs)
