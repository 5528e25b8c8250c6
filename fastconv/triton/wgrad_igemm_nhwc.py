"""conv_wgrad_igemm_nhwc_triton: dw[k,t,r,s,c] as a matrix product over the pixels of dy.

gemm_m counts a group's K, gemm_n its taps times C, gemm_k the pixels (n,z,p,q). A program owns
BLOCK_K by BLOCK_C sums over one part of the pixels; the programs of a part are neighbours, so that
dy and x are read from memory once. Where C is wide a block of columns lies within one tap
(ONE_TAP), else it runs over taps. Parts are added in a fixed order (reduce.py). The loop steps
(n,z,p,q) by BLOCK_P in mixed radix: it divides nothing.
Assumes: activations NHWC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.dot import dot
from fastconv.triton.launch import geometry, launch
from fastconv.triton.reduce import partials_like, splits_for, sum_partials
from fastconv.triton.row import Args, Config, exact_and_tf32, why_not_product

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_x, p_dy, p_dw, N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    pixels_per_part, o_part, o_dk, o_dc, o_dt, o_dr, o_ds,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    PRECISION: tl.constexpr, ONE_TAP: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    k_blocks = tl.cdiv(K_per_group, BLOCK_K)
    i_c = tl.program_id(0) // k_blocks
    i_k = tl.program_id(0) % k_blocks
    i_g = tl.program_id(1)
    i_part = tl.program_id(2)
    o_k = i_k * BLOCK_K + tl.arange(0, BLOCK_K)
    m_k = o_k < K_per_group
    if ONE_TAP:
        c_blocks = tl.cdiv(C_per_group, BLOCK_C)
        tap = i_c // c_blocks
        o_c = i_c % c_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
        m_c = o_c < C_per_group
    else:
        o_column = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
        tap = o_column // C_per_group
        o_c = o_column % C_per_group
        m_c = tap < T * R * S
    d0 = tap // (R * S) * dilation_d - pad_d
    h0 = tap // S % R * dilation_h - pad_h
    w0 = tap % S * dilation_w - pad_w
    o_column_x = ((d0 * H + h0) * W + w0) * C + o_c

    first = i_part * pixels_per_part
    last = tl.minimum(first + pixels_per_part, N * Z * P * Q)
    o_p = first + tl.arange(0, BLOCK_P)
    q = o_p % Q
    p = o_p // Q % P
    z = o_p // (Q * P) % Z
    n = o_p // (Q * P * Z)
    step_q = BLOCK_P % Q
    step_p = BLOCK_P // Q % P
    step_z = BLOCK_P // (Q * P) % Z
    step_n = BLOCK_P // (Q * P * Z)
    p_xg = p_x + i_g * C_per_group + o_column_x[None, :]
    p_dyg = p_dy + i_g * K_per_group + o_k[None, :]

    b_dw = tl.zeros([BLOCK_K, BLOCK_C], tl.float32)
    for _ in range(0, tl.cdiv(last - first, BLOCK_P)):
        m_p = o_p < last
        o_x = ((n * D + z * stride_d) * H + p * stride_h) * W + q * stride_w
        if ONE_TAP:
            d = z * stride_d + d0
            h = p * stride_h + h0
            w = q * stride_w + w0
            m_x = m_p & (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            m_x = m_x[:, None] & m_c[None, :]
        else:
            d = (z * stride_d)[:, None] + d0[None, :]
            h = (p * stride_h)[:, None] + h0[None, :]
            w = (q * stride_w)[:, None] + w0[None, :]
            m_x = (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            m_x &= m_p[:, None] & m_c[None, :]
        b_dy = tl.load(p_dyg + o_p[:, None] * K, mask=m_p[:, None] & m_k[None, :], other=0.0)
        b_x = tl.load(p_xg + o_x[:, None] * C, mask=m_x, other=0.0)
        b_dw = dot(tl.trans(b_dy), b_x, b_dw, PRECISION)  # [BLOCK_K, BLOCK_C]
        o_p += BLOCK_P
        q += step_q
        p += tl.where(q < Q, step_p, step_p + 1)
        q = tl.where(q < Q, q, q - Q)
        z += tl.where(p < P, step_z, step_z + 1)
        p = tl.where(p < P, p, p - P)
        n += tl.where(z < Z, step_n, step_n + 1)
        z = tl.where(z < Z, z, z - Z)

    o_column_dw = o_c * o_dc + tap // (R * S) * o_dt + tap // S % R * o_dr + tap % S * o_ds
    o_dw = i_part * o_part + (i_g * K_per_group + o_k)[:, None] * o_dk + o_column_dw[None, :]
    m_dw = m_k[:, None] & m_c[None, :]
    tl.store(p_dw + o_dw, b_dw.to(p_dw.dtype.element_ty), mask=m_dw)


def _one_tap(p: ConvProblem) -> bool:
    """Whether blocks of columns are cut within taps: where little of them is then left empty."""
    return p.C_per_group >= 32 or p.C_per_group == 16 or p.taps == 1


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    """As wide as the gradient is; a step of 64 pixels (32 of float32) feeds the pipeline."""
    k = max(16, triton.next_power_of_2(p.K_per_group))
    c = max(16, triton.next_power_of_2(p.C_per_group * (1 if _one_tap(p) else p.taps)))
    pixels = 64 if p.dtype != "f32" else 32
    return tuple(
        Config(
            {"BLOCK_K": min(k, tall), "BLOCK_C": min(c, wide), "BLOCK_P": pixels},
            num_stages=stages,
        )
        for tall, wide, stages in ((64, 64, 4), (128, 64, 3), (64, 128, 3), (128, 128, 3))
    )


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    pixels = p.N * p.Z * p.P * p.Q
    if pixels == 0:
        args.out.zero_()
        return
    blocks, one_tap = config.blocks, _one_tap(p)
    columns = triton.cdiv(p.C_per_group * (1 if one_tap else p.taps), blocks["BLOCK_C"])
    programs = columns * (p.taps if one_tap else 1) * triton.cdiv(p.K_per_group, blocks["BLOCK_K"])
    steps = triton.cdiv(pixels, blocks["BLOCK_P"])
    steps_per_part = triton.cdiv(steps, splits_for(programs * p.groups, triton.cdiv(steps, 4)))
    splits = triton.cdiv(steps, steps_per_part)
    if splits == 1:
        target, strides = args.out, args.out.stride()
    else:
        target = partials_like(args.out, splits)
        strides = tuple(target.stride(i) for i in (1, 5, 2, 3, 4))
    launch(
        _kernel,
        (programs, p.groups, splits),
        p_x=args.x, p_dy=args.dy, p_dw=target, **geometry(p),
        pixels_per_part=steps_per_part * blocks["BLOCK_P"], o_part=args.out.numel(),
        o_dk=strides[0], o_dc=strides[1], o_dt=strides[2], o_dr=strides[3], o_ds=strides[4],
        PRECISION=precision, ONE_TAP=one_tap, **config.launch(),
    )  # fmt: skip
    if splits > 1:
        sum_partials(target, args.out)


ROWS = exact_and_tf32("wgrad", "igemm", why_not_product, _run, _configs)
