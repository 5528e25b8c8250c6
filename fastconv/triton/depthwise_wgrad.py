"""Depthwise wgrad in one pass over x and dy: the sums of all taps of a channel stay in registers.

  dw[k,t,r,s] = sum over n,z,p,q of dy[n,k,z,p,q] * x[n,c, z * stride_d - pad_d + t * dilation_d,..]

with c = k / SHARE. A program owns BLOCK_K channels and a part of the pixels; its tiles are
[BLOCK_P, BLOCK_K], a lane of BLOCK_P a strip of ROWS of dy (see depthwise.py), so that each pixel
of x that is loaded serves every row and tap that read it. The last strip of an image moves up to
end with it; its rows that others have count as zero: so no sum reads a pixel that is not its own.
Filters of more taps than registers hold are cut into blocks [T_BLOCK, R_BLOCK, S_BLOCK] over
programs. Parts are added in a second stage. Assumes: x and dy in one layout.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ELEMENT_SIZE, ConvProblem
from fastconv.triton.depthwise import turned
from fastconv.triton.launch import launch
from fastconv.triton.reduce import partials_like, splits_for, sum_partials
from fastconv.triton.row import Args, Config
from fastconv.triton.strips import strips_of, vector

__all__ = ["configs", "run"]

_THREADS = 128
#: 32-bit registers of a thread for sums.
_SUMS = 104


@triton.jit
def _kernel(
    p_x, p_dy, p_parts,
    N, D, H, W, Z, P, Q, K_vectors, strips, STEP, strips_part,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SHARE: tl.constexpr,
    T_BLOCK: tl.constexpr, R_BLOCK: tl.constexpr, S_BLOCK: tl.constexpr,
    VECTOR: tl.constexpr, ROWS: tl.constexpr, SKIP: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = p_parts.dtype.element_ty
    K = K_vectors * VECTOR
    C = K // SHARE
    blocks = tl.cdiv(K, BLOCK_K)
    i_part = tl.program_id(1)
    block = tl.program_id(0) // blocks
    t0, r0, s0 = 0, 0, 0
    if T_BLOCK * R_BLOCK * S_BLOCK < T * R * S:
        s_blocks: tl.constexpr = (S + S_BLOCK - 1) // S_BLOCK
        r_blocks: tl.constexpr = (R + R_BLOCK - 1) // R_BLOCK
        s0 = block % s_blocks * S_BLOCK
        r0 = block // s_blocks % r_blocks * R_BLOCK
        t0 = block // (s_blocks * r_blocks) * T_BLOCK
    o_k = tl.program_id(0) % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    k = o_k[None, :]
    c = k // SHARE
    if CHANNELS_LAST:
        w_step, q_step = C, K
        o_xn, o_yn = D * H * W * C, Z * P * Q * K
        o_xc, o_yc = c, k
    else:
        w_step, q_step = 1, 1
        o_xn, o_yn = C * D * H * W, K * Z * P * Q
        o_xc, o_yc = c * (D * H * W), k * (Z * P * Q)

    acc = ()
    for _ in tl.static_range(T_BLOCK * R_BLOCK * S_BLOCK):
        acc = acc + (tl.zeros([BLOCK_P, BLOCK_K], WIDE),)
    last = tl.minimum((i_part + 1) * strips_part, N * Z * strips * Q)
    for first in range(i_part * strips_part, last, BLOCK_P):
        u = first + tl.arange(0, BLOCK_P)[:, None]
        m = (u < last) & (k < K)
        q = u % Q
        u = u // Q
        strip = u % strips
        u = u // strips
        z = u % Z
        n = u // Z
        own = strip // STEP * ROWS
        end = (P - strip % STEP + STEP - 1) // STEP
        start = tl.minimum(own, end - ROWS)
        m = m & (own < end)
        p = start * STEP + strip % STEP
        d = z * stride_d - pad_d + t0 * dilation_d
        h = p * stride_h - pad_h + r0 * dilation_h
        w = q * stride_w - pad_w + s0 * dilation_w
        o_y = n * o_yn + o_yc + ((z * P + p) * Q + q) * q_step
        o_x = n * o_xn + o_xc + ((d * H + h) * W + w) * w_step
        b_dy = ()
        for j in tl.static_range(ROWS):
            b = tl.load(
                p_dy + (o_y + j * STEP * Q * q_step), mask=m & (start + j >= own), other=0.0
            )
            b_dy = b_dy + (b.to(WIDE),)
        m_rows = ()
        for i in tl.static_range((ROWS - 1) * SKIP + R_BLOCK):
            m_rows = m_rows + (m & (h + i * dilation_h >= 0) & (h + i * dilation_h < H),)
        sums = ()
        for column in tl.static_range(T_BLOCK * S_BLOCK):
            depth = d + column // S_BLOCK * dilation_d
            col = w + column % S_BLOCK * dilation_w
            m_c = (depth >= 0) & (depth < D) & (col >= 0) & (col < W)
            step = column // S_BLOCK * dilation_d * H * W + column % S_BLOCK * dilation_w
            b_x = ()
            for i in tl.static_range((ROWS - 1) * SKIP + R_BLOCK):
                o = o_x + (step + i * dilation_h * W) * w_step
                b_x = b_x + (tl.load(p_x + o, mask=m_rows[i] & m_c, other=0.0).to(WIDE),)
            for r in tl.static_range(R_BLOCK):
                b_dw = acc[column * R_BLOCK + r]
                for j in tl.static_range(ROWS):
                    b_dw += b_x[j * SKIP + r] * b_dy[j]
                sums = sums + (b_dw,)
        acc = sums

    p_part = p_parts + i_part.to(tl.int64) * K * (T * R * S)
    for i in tl.static_range(T_BLOCK * R_BLOCK * S_BLOCK):
        t = t0 + i // (R_BLOCK * S_BLOCK)
        r = r0 + i % R_BLOCK
        s = s0 + i // R_BLOCK % S_BLOCK
        if (t < T) & (r < R) & (s < S):
            o_part = o_k * (T * R * S) + (t * R + r) * S + s
            tl.store(p_part + o_part, tl.sum(acc[i], 0), mask=o_k < K)


def _tap_blocks(p: ConvProblem) -> tuple[int, int, int]:
    """Taps [T_BLOCK, R_BLOCK, S_BLOCK] of a program: all, or rows of about the same count."""
    most = _SUMS if p.dtype != "f64" else _SUMS // 2
    if p.taps <= most:
        return p.T, p.R, p.S
    most = most * 2 // 3
    if most < p.S:
        return 1, 1, triton.cdiv(p.S, triton.cdiv(p.S, most))
    return 1, triton.cdiv(p.R, triton.cdiv(p.R, most // p.S)), p.S


def configs(p: ConvProblem) -> tuple[Config, ...]:
    """As many channels a thread as its registers hold sums for, a cache line of channels a tile."""
    p = turned(p)
    if not p.taps:
        return (Config({"ROWS": 1, "BLOCK_P": 16, "BLOCK_K": 1}),)
    sums = min(p.taps, _SUMS) * (2 if p.dtype == "f64" else 1)
    each = 16 // ELEMENT_SIZE[p.dtype] if p.x_layout == "nhwc" else 2
    while each > 1 and each * sums > (_SUMS if p.x_layout == "nhwc" else _SUMS // 2):
        each //= 2
    k = 1
    if p.x_layout == "nhwc":
        widest = 128 // ELEMENT_SIZE[p.dtype]
        fits = [wide for wide in (widest, widest // 2) if -p.K % wide * 8 <= p.K]
        k = fits[0] if fits else min(widest // 4, triton.next_power_of_2(max(p.K, 1)))
    best = 2 if each > 2 else 4
    return tuple(
        Config({"ROWS": rows, "BLOCK_P": max(1, _THREADS * wide // k), "BLOCK_K": k})
        for rows, wide in ((best, each), (6 - best, each), (best, max(1, each // 2)))
    )


def run(p: ConvProblem, args: Args, config: Config) -> None:
    """Launches wgrad of `p`, and the sum of its parts."""
    if not p.w_elements:
        return
    p = turned(p)
    blocks = config.blocks
    last = p.x_layout == "nhwc"
    t_block, r_block, s_block = _tap_blocks(p)
    cut = strips_of(p.P, p.stride_h, p.dilation_h, blocks["ROWS"])
    strips = p.N * p.Z * cut.count * p.Q
    programs = triton.cdiv(p.K, blocks["BLOCK_K"]) * (
        triton.cdiv(p.T, t_block) * triton.cdiv(p.R, r_block) * triton.cdiv(p.S, s_block)
    )
    turns = triton.cdiv(strips, blocks["BLOCK_P"])
    splits = splits_for(triton.cdiv(programs, 2), triton.cdiv(turns, 4))
    parts = partials_like(args.out, splits)
    width = vector(p.K, p.dtype, p.x_layout)
    launch(
        _kernel, (programs, splits), p_x=args.x, p_dy=args.dy, p_parts=parts,
        N=p.N, D=p.D, H=p.H, W=p.W, Z=p.Z, P=p.P, Q=p.Q, K_vectors=p.K // width,
        strips=cut.count, STEP=cut.step,
        strips_part=triton.cdiv(turns, splits) * blocks["BLOCK_P"],
        stride_d=p.stride_d, stride_h=p.stride_h, stride_w=p.stride_w,
        pad_d=p.pad_d, pad_h=p.pad_h, pad_w=p.pad_w,
        dilation_d=p.dilation_d, dilation_h=p.dilation_h, dilation_w=p.dilation_w,
        T=p.T, R=p.R, S=p.S, SHARE=p.K_per_group, T_BLOCK=t_block, R_BLOCK=r_block,
        S_BLOCK=s_block, VECTOR=width, ROWS=cut.rows, SKIP=cut.skip, CHANNELS_LAST=last,
        BLOCK_P=blocks["BLOCK_P"], BLOCK_K=blocks["BLOCK_K"],
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    sum_partials(parts, args.out)
