"""Depthwise dgrad with a stride, by sub-pixel phases: no tap is tried that does not divide.

  dx[n,c,d,h,w] = sum over t,r,s of dy[n,k,z,p,q] * w[k,t,r,s],
  where p * stride_h - pad_h + r * dilation_h = h, ..

With h + pad_h = stride_h * u + a, tap r belongs to one phase a and reads row u - r * dilation_h /
stride_h. A lane (see strips.py) owns all phases of a strip of ROWS of u and one column: each
pixel of dy is loaded once for all of them. Filters or strides too large to unroll go tap by tap
instead, with the loads masked off that do not divide.
Assumes: dy and dx in one layout; the weight as [T,R,S,K]; K / C = SUMS.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.depthwise import trsk
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.row import Args, Config
from fastconv.triton.strips import config_of, lanes_for, place, rows_for, vector

__all__ = ["configs", "run"]

#: Taps, and elements of a tile that a thread accumulates, that are unrolled.
_MOST_TAPS = 128
_MOST_SUMS = 72


@triton.jit
def _at(blocks, INDEX: tl.constexpr):
    return blocks[INDEX]


@triton.jit
def _column(
    p_dy, p_w, o_dy, m_rows, m_q, m, o_w, row_step, K, acc, COLUMN: tl.constexpr,
    ROWS: tl.constexpr, R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
):  # fmt: skip
    """`acc`, a tuple over [ROWS, STRIDE_H, STRIDE_W], with the taps that read column q - COLUMN."""
    HALO: tl.constexpr = (R - 1) * DILATION_H // STRIDE_H
    b_dy = ()
    for i in tl.static_range(ROWS + HALO):
        b = tl.load(p_dy + (o_dy + i * row_step), mask=m_rows[i] & m_q, other=0.0)
        b_dy = b_dy + (b.to(acc[0].dtype),)
    b_w = ()
    for tap in tl.static_range(R * S):
        if tap % S * DILATION_W // STRIDE_W == COLUMN:
            b_w = b_w + (tl.load(p_w + (o_w + tap * K), mask=m, other=0.0).to(acc[0].dtype),)
        else:
            b_w = b_w + (0,)
    sums = ()
    for i in tl.static_range(ROWS * STRIDE_H * STRIDE_W):
        b_dx = acc[i]
        for tap in tl.static_range(R * S):
            if (
                tap % S * DILATION_W // STRIDE_W == COLUMN
                and tap % S * DILATION_W % STRIDE_W == i % STRIDE_W
                and tap // S * DILATION_H % STRIDE_H == i // STRIDE_W % STRIDE_H
            ):
                b_dx += b_w[tap] * _at(
                    b_dy, HALO + i // (STRIDE_H * STRIDE_W) - tap // S * DILATION_H // STRIDE_H
                )
        sums = sums + (b_dx,)
    return sums


@triton.jit
def _kernel(
    p_dy, p_w, p_dx, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C_vectors, strips, columns, h_first, w_first, p_first, q_first,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, SUMS: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, PHASES: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # STRIDE and DILATION are 1 where taps are tried one by one: a lane is a strip of pixels of dx.
    WIDE: tl.constexpr = tl.float64 if p_dy.dtype.element_ty == tl.float64 else tl.float32
    HALO: tl.constexpr = (R - 1) * DILATION_H // STRIDE_H if PHASES else 0
    C = C_vectors * VECTOR
    K = C * SUMS
    blocks = tl.cdiv(C_vectors, LANES) if CHANNELS_LAST else 1
    n, c, d, u, v, m = place(
        tl.program_id(0) // blocks, tl.program_id(0) % blocks, N, C, D, strips, 1, columns,
        LANES, VECTOR, ROWS, CHANNELS_LAST, BLOCK,
    )  # fmt: skip
    if CHANNELS_LAST:
        w_step, c_step = K, 1
        o_n = n * (Z * P * Q * K) + c * SUMS
    else:
        w_step, c_step = 1, Z * P * Q
        o_n = (n * K + c * SUMS) * (Z * P * Q)
    p = u + (p_first - HALO)
    q = v + q_first

    acc = ()
    for _ in tl.static_range(ROWS * STRIDE_H * STRIDE_W):
        acc = acc + (tl.zeros([BLOCK, VECTOR], WIDE),)
    for i in range(0, SUMS * T):
        t = i % T
        z = d + pad_d - t * dilation_d
        m_z = m & (z % stride_d == 0) & (z >= 0)
        z = z // stride_d
        m_z = m_z & (z < Z)
        o_z = o_n + i // T * c_step + z * P * Q * w_step
        o_w = c * SUMS + i // T + t * (R * S * K)
        if PHASES:
            m_rows = ()
            for j in tl.static_range(ROWS + HALO):
                m_rows = m_rows + (m_z & (p + j >= 0) & (p + j < P),)
            o_dy = o_z + (p * Q + q) * w_step
            for s in tl.static_range((S - 1) * DILATION_W // STRIDE_W + 1):
                acc = _column(
                    p_dy, p_w, o_dy - s * w_step, m_rows, (q >= s) & (q - s < Q), m, o_w,
                    Q * w_step, K, acc, s, ROWS, R, S, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W,
                )  # fmt: skip
        else:
            b_dx = acc[0]
            for tap in range(0, R * S):
                e = u + pad_h - tap // S * dilation_h
                f = v + pad_w - tap % S * dilation_w
                m_dy = m_z & (e >= 0) & (f >= 0) & (e % stride_h == 0) & (f % stride_w == 0)
                e = e // stride_h
                f = f // stride_w
                m_dy = m_dy & (e < P) & (f < Q)
                b = tl.load(p_dy + (o_z + (e * Q + f) * w_step), mask=m_dy, other=0.0).to(WIDE)
                b_dx += b * tl.load(p_w + (o_w + tap * K), mask=m, other=0.0).to(WIDE)
            acc = (b_dx,)

    for i in tl.static_range(ROWS * STRIDE_H * STRIDE_W):
        h = (u + i // (STRIDE_H * STRIDE_W)) * STRIDE_H + (i // STRIDE_W % STRIDE_H + h_first)
        w = v * STRIDE_W + (i % STRIDE_W + w_first)
        m_dx = m & (h >= 0) & (h < H) & (w >= 0) & (w < W)
        if CHANNELS_LAST:
            o_dx = (((n * D + d) * H + h) * W + w) * C + c
        else:
            o_dx = (((n * C + c) * D + d) * H + h) * W + w
        # `finish` takes one row of channels: each element of the tile has its own.
        b_dx = finish(
            acc[i][None, :, :], c, m, o_dx[None, :, :], m_dx[None, :, :],
            p_scale, p_shift, p_residual, HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        tl.store(p_dx + o_dx[None, :, :], b_dx.to(p_dx.dtype.element_ty), mask=m_dx[None, :, :])


def _phases(p: ConvProblem) -> bool:
    """Whether the phases and taps are unrolled."""
    halo = max((p.R - 1) * p.dilation_h // p.stride_h, (p.S - 1) * p.dilation_w // p.stride_w)
    return p.R * p.S <= _MOST_TAPS and p.stride_h * p.stride_w <= _MOST_SUMS and halo <= 16


def _width(p: ConvProblem) -> int:
    """Channels of a lane: fewer where it has many phases."""
    width = vector(p.C, p.dtype, p.x_layout)
    if _phases(p):
        while width > 1 and width * p.stride_h * p.stride_w > _MOST_SUMS:
            width //= 2
    return width


def configs(p: ConvProblem) -> tuple[Config, ...]:
    """Strips of two rows of each phase where registers and programs allow; a lane a thread."""
    width, phases = _width(p), p.stride_h * p.stride_w
    most = 2 if _phases(p) and 2 * phases * width <= _MOST_SUMS else 1
    best = config_of(rows_for(p.x_elements // (width * phases), 128, most), 128)
    others = (config_of(rows, block) for rows, block in ((1, 128), (2, 128), (1, 256)))
    return best, *(config for config in others if config != best)


def run(p: ConvProblem, args: Args, config: Config) -> None:
    """Launches dgrad of `p`."""
    assert args.w is not None
    blocks = config.blocks
    last = p.x_layout == "nhwc"
    width = _width(p)
    lanes = lanes_for(p.C, width, p.dtype, p.x_layout)
    phases = _phases(p)
    rows = blocks["ROWS"] if phases else 1
    stride_h, stride_w = (p.stride_h, p.stride_w) if phases else (1, 1)
    p_first, q_first = (p.pad_h // stride_h, p.pad_w // stride_w) if phases else (0, 0)
    strips = triton.cdiv((p.pad_h + p.H - 1) // stride_h - p_first + 1, rows) if phases else p.H
    columns = (p.pad_w + p.W - 1) // stride_w - q_first + 1 if phases else p.W
    each = p.N * p.D * strips * columns * (lanes if last else p.C)
    if not p.x_elements:
        return
    launch(
        _kernel,
        (triton.cdiv(each, blocks["BLOCK"]) * (triton.cdiv(p.C // width, lanes) if last else 1),),
        p_dy=args.dy, p_w=trsk(args.w), p_dx=args.out, **args.epilogue(),
        N=p.N, D=p.D, H=p.H, W=p.W, Z=p.Z, P=p.P, Q=p.Q, C_vectors=p.C // width, strips=strips,
        columns=columns, h_first=p_first * stride_h - p.pad_h if phases else 0,
        w_first=q_first * stride_w - p.pad_w if phases else 0, p_first=p_first, q_first=q_first,
        stride_d=p.stride_d, stride_h=p.stride_h, stride_w=p.stride_w,
        pad_d=p.pad_d, pad_h=p.pad_h, pad_w=p.pad_w,
        dilation_d=p.dilation_d, dilation_h=p.dilation_h, dilation_w=p.dilation_w,
        T=p.T, R=p.R, S=p.S, SUMS=p.K_per_group, STRIDE_H=stride_h, STRIDE_W=stride_w,
        DILATION_H=p.dilation_h if phases else 1, DILATION_W=p.dilation_w if phases else 1,
        PHASES=phases, LANES=lanes, VECTOR=width, ROWS=rows, CHANNELS_LAST=last,
        BLOCK=blocks["BLOCK"], num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
