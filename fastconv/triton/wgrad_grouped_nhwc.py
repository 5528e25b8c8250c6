"""conv_wgrad_grouped_nhwc_triton: dw[k,t,r,s,c] for groups of 2 to 32 channels, as matrix products.

gemm_m is a group's K (padded to 16), gemm_n its (t,r,s,c) flattened, so that one product covers
several taps, gemm_k the pixels (n,z,p,q). A program owns BLOCK_TAPS of (t,r,s,c) of one group and a
part of the pixels; groups are the fastest axis of the grid, since neighbours share cache lines. The
parts are added in a fixed order by a second kernel (`reduce`). It stays at 4 warps (see `Config`).
Assumes: activations NHWC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton import grouped
from fastconv.triton.dot import dot
from fastconv.triton.launch import geometry, launch
from fastconv.triton.reduce import partials_like, splits_for, sum_partials
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]

#: Pixels that a part has at least, and programs of these small tiles that a multiprocessor holds.
_PART = 512
_RESIDENT = 4


@triton.jit
def _kernel(
    p_x, p_dy, p_parts,
    N, D, H, W, Z, P, Q, C, K,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w, part,
    C_per_group: tl.constexpr, K_per_group: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_TAPS: tl.constexpr,
):  # fmt: skip
    TAPS: tl.constexpr = T * R * S * C_per_group
    groups = C // C_per_group
    i_g = tl.program_id(0) % groups
    i_c = tl.program_id(0) // groups
    i_part = tl.program_id(1)
    o_k = tl.arange(0, BLOCK_K)
    o_c = i_c * BLOCK_TAPS + tl.arange(0, BLOCK_TAPS)
    m_k = o_k < K_per_group
    m_c = o_c < TAPS
    tap = o_c // C_per_group
    d0 = (tap // (R * S) * dilation_d)[None, :]
    h0 = (tap // S % R * dilation_h - pad_h)[None, :]
    w0 = (tap % S * dilation_w - pad_w)[None, :]
    o_x0 = ((d0 * H + h0) * W + w0) * C + (o_c % C_per_group)[None, :]
    p_xg = p_x + i_g * C_per_group
    p_dyg = p_dy + i_g * K_per_group + o_k[None, :]

    pixels = N * Z * P * Q
    first = i_part * part
    last = tl.minimum(first + part, pixels)
    b_dw = tl.zeros([BLOCK_K, BLOCK_TAPS], tl.float32)
    for i in range(first, last, BLOCK_P):
        o_p = i + tl.arange(0, BLOCK_P)
        m_p = o_p < last
        w = o_p % Q * stride_w
        h = o_p // Q % P * stride_h
        d = o_p // (Q * P) % Z * stride_d - pad_d
        n = o_p // (Q * P * Z)
        o_x = (((n * D + d) * H + h) * W + w) * C
        m_x = m_p & (d.to(tl.uint32) < D) if T == 1 else m_p  # unsigned: below 0 is past D
        h = h[:, None] + h0
        w = w[:, None] + w0
        m_x = m_x[:, None] & m_c[None, :] & (h.to(tl.uint32) < H) & (w.to(tl.uint32) < W)
        if T > 1:
            m_x &= (d[:, None] + d0).to(tl.uint32) < D
        b_x = tl.load(p_xg + (o_x[:, None] + o_x0), mask=m_x, other=0.0)  # [BLOCK_P, BLOCK_TAPS]
        b_dy = tl.load(p_dyg + o_p[:, None] * K, mask=m_p[:, None] & m_k[None, :], other=0.0)
        b_dw = dot(tl.trans(b_dy), b_x, b_dw, PRECISION)

    o_out = (i_part * K + i_g * K_per_group + o_k)[:, None] * TAPS + o_c[None, :]
    tl.store(p_parts + o_out, b_dw, mask=m_k[:, None] & m_c[None, :])


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    """Loads go through the first cache, which the taps of a pixel share, so that copies around it
    (stages) come second; more of (t,r,s,c) in a program reads dy less often.
    """
    flattened = p.taps * p.C_per_group
    k = grouped.wide(p.K_per_group)
    most = min(128, max(16, triton.next_power_of_2(flattened)))
    return tuple(
        Config({"BLOCK_P": tile, "BLOCK_K": k, "BLOCK_TAPS": min(most, taps)}, num_stages=stages)
        for tile, taps, stages in ((64, 64, 1), (64, 64, 3), (64, 128, 1), (32, 64, 1))
    )


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    pixels = p.N * p.Z * p.P * p.Q
    flattened = p.taps * p.C_per_group
    programs = triton.cdiv(p.groups * triton.cdiv(flattened, 64), _RESIDENT)
    splits = splits_for(programs, triton.cdiv(pixels, _PART))
    parts = partials_like(args.out, splits)
    launch(
        _kernel, (p.groups * triton.cdiv(flattened, config.blocks["BLOCK_TAPS"]), splits),
        p_x=args.x, p_dy=args.dy, p_parts=parts, **geometry(p), part=triton.cdiv(pixels, splits),
        PRECISION=precision, **config.launch(),
    )  # fmt: skip
    sum_partials(parts, args.out)


ROWS = exact_and_tf32("wgrad", "grouped", grouped.why_not, _run, _configs)
