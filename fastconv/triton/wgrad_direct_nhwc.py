"""conv_wgrad_direct_nhwc_triton: dw[k,t,r,s,c] by its definition; it takes every problem.

A program owns BLOCK_N of the columns (t,r,s,c) by BLOCK_K channels of K, of one group or of several
(direct.py), over one part of the pixels (n,z,p,q): BLOCK_P outer products a step, in float32
(float64 for float64). Parts are added in a fixed order (reduce.py); the programs of a part are
neighbours, so that dy and x are read from memory once. The loop steps (n,z,p,q) by BLOCK_P in mixed
radix: it divides nothing.
Assumes: activations NHWC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.direct import blocks, channels, is_one_group
from fastconv.triton.launch import geometry, launch
from fastconv.triton.reduce import partials_like, splits_for, sum_partials
from fastconv.triton.row import Args, Config, Row, why_not_operands

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_x, p_dy, p_dw, N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    k_blocks, pixels_per_part, o_part, o_dk, o_dc, o_dt, o_dr, o_ds,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, DOUBLE: tl.constexpr,
    ONE_GROUP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    i_n = tl.program_id(0) // k_blocks
    i_k = tl.program_id(0) % k_blocks
    i_part = tl.program_id(1)
    group, o_k, m_k = channels(i_k, K, K_per_group, ONE_GROUP, BLOCK_K)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    tap = o_n // C_per_group
    c = o_n % C_per_group
    m_n = tap < T * R * S
    d0 = tap // (R * S) * dilation_d - pad_d
    h0 = tap // S % R * dilation_h - pad_h
    w0 = tap % S * dilation_w - pad_w
    o_column = ((d0 * H + h0) * W + w0) * C + c

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

    b_dw = tl.zeros([BLOCK_N, BLOCK_K], tl.float64 if DOUBLE else tl.float32)
    for _ in range(0, tl.cdiv(last - first, BLOCK_P)):
        m_p = o_p < last
        d = (z * stride_d)[:, None] + d0[None, :]
        h = (p * stride_h)[:, None] + h0[None, :]
        w = (q * stride_w)[:, None] + w0[None, :]
        m_x = (d >= 0) & (d < D) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        m_x &= m_p[:, None] & m_n[None, :]
        o_x = (((n * D + z * stride_d) * H + p * stride_h) * W + q * stride_w) * C
        o_x = o_x[:, None] + o_column[None, :]
        o_dy = o_p[:, None] * K + o_k[None, :]
        b_dy = tl.load(p_dy + o_dy, mask=m_p[:, None] & m_k[None, :], other=0.0)
        b_dy = b_dy.to(b_dw.dtype)[:, None, :]
        if ONE_GROUP:
            b_x = tl.load(p_x + group * C_per_group + o_x, mask=m_x, other=0.0)
            b_x = b_x.to(b_dw.dtype)[:, :, None]
        else:
            o_each = o_x[:, :, None] + (group * C_per_group)[None, None, :]
            m_each = m_x[:, :, None] & m_k[None, None, :]
            b_x = tl.load(p_x + o_each, mask=m_each, other=0.0).to(b_dw.dtype)
        b_dw += tl.sum(b_x * b_dy, 0)  # [BLOCK_N, BLOCK_K]
        o_p += BLOCK_P
        q += step_q
        p += tl.where(q < Q, step_p, step_p + 1)
        q = tl.where(q < Q, q, q - Q)
        z += tl.where(p < P, step_z, step_z + 1)
        p = tl.where(p < P, p, p - P)
        n += tl.where(z < Z, step_n, step_n + 1)
        z = tl.where(z < Z, z, z - Z)

    o_column_dw = c * o_dc + tap // (R * S) * o_dt + tap // S % R * o_dr + tap % S * o_ds
    o_dw = i_part * o_part + o_column_dw[:, None] + o_k[None, :] * o_dk
    m_dw = m_n[:, None] & m_k[None, :]
    tl.store(p_dw + o_dw, b_dw.to(p_dw.dtype.element_ty), mask=m_dw)


def _why_not(p: ConvProblem) -> str | None:
    return why_not_operands(p, ("f32", "f64", "bf16", "f16"))


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    """16 columns reuse dy; a step makes as many products of few columns as of many. Blocks that run
    over groups load an input for each product: a quarter of the products, for registers' sake.
    """
    one_group = is_one_group(p.K_per_group, p.groups)
    wide = p.K_per_group if one_group else p.K
    share = 1 if one_group else 4
    k = min(64 if p.dtype != "f64" else 32, max(1, triton.next_power_of_2(wide)))
    n = max(1, triton.next_power_of_2(p.C_per_group * p.taps))
    return tuple(
        Config(
            {
                "BLOCK_N": min(n, columns),
                "BLOCK_K": k,
                "BLOCK_P": min(64, max(8, products // share // (k * min(n, columns)))),
            },
            num_stages=1,
        )
        for columns, products in ((16, 16384), (16, 8192), (32, 16384))
    )


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    pixels = p.N * p.Z * p.P * p.Q
    if pixels == 0:
        args.out.zero_()
        return
    tile = config.blocks
    k_blocks = blocks(p.K_per_group, p.groups, tile["BLOCK_K"])
    programs = triton.cdiv(p.C_per_group * p.taps, tile["BLOCK_N"]) * k_blocks
    steps = triton.cdiv(pixels, tile["BLOCK_P"])
    steps_per_part = triton.cdiv(steps, splits_for(programs, triton.cdiv(steps, 8)))
    splits = triton.cdiv(steps, steps_per_part)
    if splits == 1:
        target, strides = args.out, args.out.stride()
    else:
        target = partials_like(args.out, splits)
        strides = tuple(target.stride(i) for i in (1, 5, 2, 3, 4))
    launch(
        _kernel,
        (programs, splits),
        p_x=args.x, p_dy=args.dy, p_dw=target, **geometry(p), k_blocks=k_blocks,
        pixels_per_part=steps_per_part * tile["BLOCK_P"], o_part=args.out.numel(),
        o_dk=strides[0], o_dc=strides[1], o_dt=strides[2], o_dr=strides[3], o_ds=strides[4],
        DOUBLE=p.dtype == "f64", ONE_GROUP=is_one_group(p.K_per_group, p.groups),
        **config.launch(),
    )  # fmt: skip
    if splits > 1:
        sum_partials(target, args.out)


ROWS = (Row("conv_wgrad_direct_nhwc_triton", "wgrad", "exact", "direct", _why_not, _run, _configs),)
