"""Depthwise sums over windows: fprop, and dgrad at stride 1 (dy as x, the filter flipped).

  y[n,k,z,p,q] = sum over t,r,s of x[n,c, z * stride_d - pad_d + t * dilation_d, ..] * w[k,t,r,s]

with c = k / SHARE for fprop; dgrad sums over the SUMS channels of dy that share one of dx. Lanes
and strips are strips.py's. A column of taps is taken at a time: its pixels are loaded once and
converted once, and multiplied into every row of the strip that they reach. Small filters are
unrolled whole; of others the columns are a loop, and of very tall ones (R_BLOCK 1) the rows too.
Assumes: x and y in one layout; the weight as [T,R,S,K].
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastconv.problem import ELEMENT_SIZE, ConvProblem
from fastconv.triton.depthwise import trsk, turned
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.row import Args, Config
from fastconv.triton.strips import config_of, lanes_for, place, rows_for, strips_of, vector

__all__ = ["configs", "run"]

#: Taps that are unrolled whole.
_UNROLLED = 25
#: Rows of taps that are unrolled.
_MOST_R = 32


@triton.jit
def _column(
    p_x, p_w, o_x, m_rows, m_w, m, o_w, row_step, tap_step, acc,
    ROWS: tl.constexpr, SKIP: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """`acc`, a tuple of a strip's rows, with one column of R taps; weights lie `tap_step` apart."""
    b_x = ()
    for i in tl.static_range((ROWS - 1) * SKIP + R):
        b = tl.load(p_x + (o_x + i * row_step), mask=m_rows[i] & m_w, other=0.0)
        b_x = b_x + (b.to(acc[0].dtype),)
    b_w = ()
    for r in tl.static_range(R):
        b = tl.load(p_w + (o_w + r * tap_step), mask=m, other=0.0)
        b_w = b_w + (b.to(acc[0].dtype),)
    sums = ()
    for j in tl.static_range(ROWS):
        b_y = acc[j]
        for r in tl.static_range(R):
            b_y += b_x[j * SKIP + r] * b_w[r]
        sums = sums + (b_y,)
    return sums


@triton.jit
def _kernel(
    p_x, p_w, p_y, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, K_vectors, strips, STEP,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, FLIP: tl.constexpr,
    SHARE: tl.constexpr, SUMS: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, SKIP: tl.constexpr,
    R_BLOCK: tl.constexpr, UNROLL: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = tl.float64 if p_x.dtype.element_ty == tl.float64 else tl.float32
    K = K_vectors * VECTOR
    C = K // SHARE * SUMS
    blocks = tl.cdiv(K_vectors, LANES) if CHANNELS_LAST else 1
    n, k, z, p, q, m = place(
        tl.program_id(0) // blocks, tl.program_id(0) % blocks, N, K, Z, strips, STEP, Q,
        LANES, VECTOR, ROWS, CHANNELS_LAST, BLOCK,
    )  # fmt: skip
    d = z * stride_d - pad_d
    h = p * stride_h - pad_h
    w = q * stride_w - pad_w
    c = k // SHARE * SUMS
    if CHANNELS_LAST:
        w_step, c_step = C, 1
        o_x = (((n * D + d) * H + h) * W + w) * C + c
    else:
        w_step, c_step = 1, D * H * W
        o_x = (((n * C + c) * D + d) * H + h) * W + w
    row_step = dilation_h * W * w_step
    # Weights of tap (t,r,s): FLIP counts them from the last.
    sign = -(K * SUMS) if FLIP else K * SUMS
    o_w = k * SUMS + ((T * R * S - 1) * K * SUMS if FLIP else 0)

    acc = ()
    for _ in tl.static_range(ROWS):
        acc = acc + (tl.zeros([BLOCK, VECTOR], WIDE),)
    for i in range(0, SUMS * T):
        t = i % T
        o_xt = o_x + (i // T * c_step + t * dilation_d * H * W * w_step)
        o_wt = o_w + (i // T + t * R * S * sign)
        m_t = m & (d + t * dilation_d >= 0) & (d + t * dilation_d < D)
        for r in range(0, R, R_BLOCK):
            m_rows = ()
            for j in tl.static_range((ROWS - 1) * SKIP + R_BLOCK):
                row = h + (r + j) * dilation_h
                m_rows = m_rows + (m_t & (row >= 0) & (row < H),)
            o_xr = o_xt + r * row_step
            o_wr = o_wt + r * S * sign
            if UNROLL:
                for s in tl.static_range(S):
                    col = w + s * dilation_w
                    acc = _column(
                        p_x, p_w, o_xr + s * dilation_w * w_step, m_rows, (col >= 0) & (col < W), m,
                        o_wr + s * sign, row_step, S * sign, acc, ROWS, SKIP, R_BLOCK,
                    )  # fmt: skip
            else:
                for s in range(0, S):
                    col = w + s * dilation_w
                    acc = _column(
                        p_x, p_w, o_xr + s * dilation_w * w_step, m_rows, (col >= 0) & (col < W), m,
                        o_wr + s * sign, row_step, S * sign, acc, ROWS, SKIP, R_BLOCK,
                    )  # fmt: skip

    # All rows before the first store, so that scale and shift are loaded once.
    done = ()
    for j in tl.static_range(ROWS):
        row = p + j * STEP
        if CHANNELS_LAST:
            o_y = (((n * Z + z) * P + row) * Q + q) * K + k
        else:
            o_y = (((n * K + k) * Z + z) * P + row) * Q + q
        m_y = (m & (row < P))[None, :, :]
        # `finish` takes one row of channels: each element of the tile has its own.
        b_y = finish(
            acc[j][None, :, :], k, m, o_y[None, :, :], m_y, p_scale, p_shift, p_residual,
            HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        done = done + ((o_y[None, :, :], b_y.to(p_y.dtype.element_ty), m_y),)
    for j in tl.static_range(ROWS):
        tl.store(p_y + done[j][0], done[j][1], mask=done[j][2])


def configs(p: ConvProblem) -> tuple[Config, ...]:
    """Strips as long as registers allow and programs remain; a lane a thread."""
    p = turned(p)
    lanes = p.y_elements // vector(p.K, p.dtype, p.y_layout)
    most = rows_for(lanes, 128, 8 if p.R > 5 and ELEMENT_SIZE[p.dtype] == 4 else 4)
    warps = 8 if lanes >= most * 256 * 1056 else 4
    found = [config_of(most, 32 * warps)]
    found += [config_of(rows, 128) for rows in (2, 4, 8) if (rows, 4) != (most, warps)]
    return tuple(found)


def run(p: ConvProblem, args: Args, config: Config, source: Tensor | None) -> None:
    """Launches `p`, reading `source`; for dgrad `p` is the adjoint."""
    assert args.w is not None
    p = turned(p)
    blocks = config.blocks
    last = p.y_layout == "nhwc"
    width = vector(p.K, p.dtype, p.y_layout)
    lanes = lanes_for(p.K, width, p.dtype, p.y_layout)
    r_block = p.R if p.R <= _MOST_R else 1
    cut = strips_of(p.P, p.stride_h, p.dilation_h, blocks["ROWS"] if r_block == p.R else 1)
    each = p.N * p.Z * cut.count * p.Q * (lanes if last else p.K)
    channel_blocks = triton.cdiv(p.K // width, lanes) if last else 1
    launch(
        _kernel, (triton.cdiv(each, blocks["BLOCK"]) * channel_blocks,),
        p_x=source, p_w=trsk(args.w), p_y=args.out, **args.epilogue(),
        N=p.N, D=p.D, H=p.H, W=p.W, Z=p.Z, P=p.P, Q=p.Q, K_vectors=p.K // width,
        strips=cut.count, STEP=cut.step, stride_d=p.stride_d, stride_h=p.stride_h,
        stride_w=p.stride_w, pad_d=p.pad_d, pad_h=p.pad_h, pad_w=p.pad_w,
        dilation_d=p.dilation_d, dilation_h=p.dilation_h, dilation_w=p.dilation_w,
        T=p.T, R=p.R, S=p.S, FLIP=args.dy is not None, SHARE=p.K_per_group, SUMS=p.C_per_group,
        LANES=lanes, VECTOR=width, ROWS=cut.rows, SKIP=cut.skip, R_BLOCK=r_block,
        UNROLL=p.R * p.S <= _UNROLLED, CHANNELS_LAST=last, BLOCK=blocks["BLOCK"],
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
