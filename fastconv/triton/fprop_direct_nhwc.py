"""conv_fprop_direct_nhwc_triton: y[n,z,p,q,k] by its definition; it takes every problem.

A program owns BLOCK_P pixels (n,z,p,q) by BLOCK_K output channels, of one group or of several
(direct.py), and adds an outer product for each tap and channel of C/groups, in float32 (float64 for
float64). Programs that share pixels are neighbours, so that their inputs meet in L2; the taps of a
program meet in L1.
Assumes: activations NHWC; the weight is read as [T,R,S,C/groups,K], a vector of K at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.direct import add_tap, blocks, channels, is_one_group, nothing_as, unrolled
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.row import Args, Config, Row, why_not_operands

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_x, p_w, p_y, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w, k_blocks,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, DOUBLE: tl.constexpr, ONE_GROUP: tl.constexpr,
    UNROLLED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    i_p = tl.program_id(0) // k_blocks
    i_k = tl.program_id(0) % k_blocks
    group, o_k, m_k = channels(i_k, K, K_per_group, ONE_GROUP, BLOCK_K)
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    m_p = o_p < N * Z * P * Q
    o_row = o_p // Q
    o_plane = o_row // P
    n = o_plane // Z
    d0 = (o_plane - n * Z) * stride_d - pad_d
    h0 = (o_row - o_plane * P) * stride_h - pad_h
    w0 = (o_p - o_row * Q) * stride_w - pad_w
    o_x = (((n * D + d0) * H + h0) * W + w0) * C

    o_out = o_p[:, None] * K + o_k[None, :]
    m_out = m_p[:, None] & m_k[None, :]
    b_y = nothing_as(p_y + o_out, W, DOUBLE)  # [BLOCK_P, BLOCK_K]
    for tap in range(0, T * R * S):
        t = tap // (R * S) * dilation_d
        r = tap // S % R * dilation_h
        s = tap % S * dilation_w
        m_x = m_p & (h0 + r >= 0) & (h0 + r < H) & (w0 + s >= 0) & (w0 + s < W)
        m_x &= (d0 + t >= 0) & (d0 + t < D)
        b_y = add_tap(
            b_y, p_x, o_x + ((t * H + r) * W + s) * C, m_x, p_w + tap * C_per_group * K, o_k, m_k,
            group, C_per_group, K, ONE_GROUP, UNROLLED,
        )  # fmt: skip

    b_y = finish(
        b_y, o_k, m_k, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_y + o_out, b_y.to(p_y.dtype.element_ty), mask=m_out)


def _why_not(p: ConvProblem) -> str | None:
    return why_not_operands(p, ("f32", "f64", "bf16", "f16"))


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    """32 sums a thread hide the loads; wider tiles load less, narrower ones fill small problems."""
    wide = p.K_per_group if is_one_group(p.K_per_group, p.groups) else p.K
    k = max(1, triton.next_power_of_2(wide))
    most = 32 if p.dtype == "f64" else 64
    return tuple(
        Config({"BLOCK_P": pixels, "BLOCK_K": min(k, most)}, num_stages=1)
        for pixels in (128 if k < most else 64, 32, 128, 256)
    )


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    assert args.w is not None
    k_blocks = blocks(p.K_per_group, p.groups, config.blocks["BLOCK_K"])
    launch(
        _kernel,
        (triton.cdiv(p.N * p.Z * p.P * p.Q, config.blocks["BLOCK_P"]) * k_blocks,),
        p_x=args.x, p_w=args.w.permute(2, 3, 4, 1, 0).contiguous(), p_y=args.out,
        **args.epilogue(), **geometry(p), k_blocks=k_blocks, DOUBLE=p.dtype == "f64",
        ONE_GROUP=is_one_group(p.K_per_group, p.groups), UNROLLED=unrolled(p.C_per_group),
        **config.launch(),
    )  # fmt: skip


ROWS = (Row("conv_fprop_direct_nhwc_triton", "fprop", "exact", "direct", _why_not, _run, _configs),)
