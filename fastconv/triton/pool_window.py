"""The mean or maximum of windows.

  y[n,c,z,p,q] = mean or maximum of x[n,c, z * stride_d - pad_d + t * dilation_d, ..] over t,r,s

Lanes and strips are strips.py's: a loaded pixel is used by every row of the strip whose window it
is in, and each row sees its window in order, so that of equal maxima the first is kept, and of NaN
the last. Small windows are unrolled whole; of others, and of adaptive ones, the taps are loops and
strips have one row. Nothing outside an image is read.
Assumes: x and y in one layout.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.families.pool import PoolProblem
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.pool_axes import (
    axes_of,
    constant_divisor,
    counted,
    place_of,
    quotient,
    steps,
    window_of,
)
from fastconv.triton.row import Args, Config
from fastconv.triton.strips import config_of, lanes_for, place, rows_for, strips_of, vector

__all__ = ["configs", "run"]

#: Taps of a plane of the window that are unrolled.
_UNROLLED = 25
#: Results and indices of a thread's strip, beyond which registers would keep other threads out.
_NUMBERS = 16


@triton.jit
def _first(first, dilation):
    """The tap by which a window looks at its first input inside the image."""
    return tl.where(first < 0, tl.cdiv(-first, dilation), 0)


@triton.jit
def _see(
    best, at, b, flat, tap, ROW: tl.constexpr, S: tl.constexpr, R: tl.constexpr,
    SKIP: tl.constexpr, MAX: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """`best` and `at`, tuples of a strip's rows, with the pixels `b` of the strip's row of pixels
    ROW: input `flat` of the image, and by `tap` of the first row's window.
    """
    bests, ats = (), ()
    for j in tl.static_range(len(best)):
        b_best, b_at = best[j], at[j]
        if j * SKIP <= ROW and j * SKIP + R > ROW:
            if MAX and INDEX != "none":
                larger = (b > b_best) | (b != b)
                b_best = tl.where(larger, b, b_best)
                b_at = tl.where(larger, flat if INDEX == "i64" else tap - j * SKIP * S, b_at)
            elif MAX:
                b_best = tl.maximum(b_best, b, propagate_nan=tl.PropagateNan.ALL)
            else:
                b_best += b
        bests, ats = bests + (b_best,), ats + (b_at,)
    return bests, ats


@triton.jit
def _kernel(
    p_x, p_y, p_index, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C_vectors, strips, STEP, divisor,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, MAX: tl.constexpr, INDEX: tl.constexpr,
    ADAPTIVE: tl.constexpr, COUNTS: tl.constexpr, PADDED: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, SKIP: tl.constexpr,
    UNROLL: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = tl.float64 if p_x.dtype.element_ty == tl.float64 else tl.float32
    NOTHING: tl.constexpr = float("-inf") if MAX else 0.0
    C = C_vectors * VECTOR
    blocks = tl.cdiv(C_vectors, LANES) if CHANNELS_LAST else 1
    n, c, z, p, q, m = place(
        tl.program_id(0) // blocks, tl.program_id(0) % blocks, N, C, Z, strips, STEP, Q,
        LANES, VECTOR, ROWS, CHANNELS_LAST, BLOCK,
    )  # fmt: skip
    d, d_end = window_of(z, D, Z, stride_d, pad_d, ADAPTIVE)
    h, h_end = window_of(p, H, P, stride_h, pad_h, ADAPTIVE)
    w, w_end = window_of(q, W, Q, stride_w, pad_w, ADAPTIVE)
    if CHANNELS_LAST:
        w_step = C
        o_n = n * (D * H * W) * C + c
    else:
        w_step = 1
        o_n = (n * C + c) * (D * H * W)

    best, at = (), ()
    for j in tl.static_range(ROWS):
        row = h + j * STEP * stride_h
        t_first, r_first = _first(d, dilation_d), _first(row, dilation_h)
        s_first = _first(w, dilation_w)
        if INDEX == "u8":
            first = place_of(t_first, r_first, s_first, R, S)
        else:
            first = place_of(
                d + t_first * dilation_d, row + r_first * dilation_h, w + s_first * dilation_w, H, W
            )
        best = best + (tl.full([BLOCK, VECTOR], NOTHING, WIDE),)
        at = at + (first + tl.zeros([BLOCK, VECTOR], tl.int32),)
    for t in range(0, T):
        plane = d + t * dilation_d
        m_t = m & (plane >= 0) & (plane < d_end)
        if UNROLL:
            for i in tl.static_range((ROWS - 1) * SKIP + R):
                row = h + i * dilation_h
                m_r = m_t & (row >= 0) & (row < h_end)
                for s in tl.static_range(S):
                    col = w + s * dilation_w
                    flat = place_of(plane, row, col, H, W)
                    b = tl.load(
                        p_x + (o_n + flat * w_step), mask=m_r & (col >= 0) & (col < w_end),
                        other=NOTHING,
                    ).to(WIDE)  # fmt: skip
                    best, at = _see(
                        best, at, b, flat, place_of(t, i, s, R, S), i, S, R, SKIP, MAX, INDEX
                    )
        else:
            for r in range(0, R):
                row = h + r * dilation_h
                m_r = m_t & (row >= 0) & (row < h_end)
                for s in range(0, S):
                    col = w + s * dilation_w
                    flat = place_of(plane, row, col, H, W)
                    b = tl.load(
                        p_x + (o_n + flat * w_step), mask=m_r & (col >= 0) & (col < w_end),
                        other=NOTHING,
                    ).to(WIDE)  # fmt: skip
                    best, at = _see(
                        best, at, b, flat, place_of(t, r, s, R, S), 0, S, R, SKIP, MAX, INDEX
                    )

    # All rows before the first store, so that scale and shift are loaded once.
    done = ()
    for j in tl.static_range(ROWS):
        row = p + j * STEP
        b_y = best[j]
        if not MAX:
            count = divisor
            if COUNTS:
                count = counted(d, d_end, D, pad_d, T, PADDED)
                count *= counted(h + j * STEP * stride_h, h_end, H, pad_h, R, PADDED)
                count *= counted(w, w_end, W, pad_w, S, PADDED)
            b_y = quotient(b_y, count)
        if CHANNELS_LAST:
            o_y = (((n * Z + z) * P + row) * Q + q) * C + c
        else:
            o_y = (((n * C + c) * Z + z) * P + row) * Q + q
        m_y = (m & (row < P))[None, :, :]
        # `finish` takes one row of channels: each element of the tile has its own.
        b_y = finish(
            b_y[None, :, :], c, m, o_y[None, :, :], m_y, p_scale, p_shift, p_residual,
            HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        done = done + ((o_y[None, :, :], b_y.to(p_y.dtype.element_ty), m_y),)
    for j in tl.static_range(ROWS):
        tl.store(p_y + done[j][0], done[j][1], mask=done[j][2])
        if INDEX != "none":
            tl.store(
                p_index + done[j][0], at[j][None, :, :].to(p_index.dtype.element_ty),
                mask=done[j][2],
            )  # fmt: skip


def _is_unrolled(p: PoolProblem) -> bool:
    return not p.adaptive and p.R * p.S <= _UNROLLED


def configs(p: PoolProblem) -> tuple[Config, ...]:
    """Strips where windows overlap, as long as registers allow and programs remain."""
    if not _is_unrolled(p) or (p.R - 1) * p.dilation_h < p.stride_h:
        return (config_of(1, 128),)
    width = vector(p.C, p.dtype, p.y_layout)
    numbers = width * (2 if p.mode == "max" else 1)
    most = rows_for(p.y_elements // width, 128, max(1, min(4, _NUMBERS // numbers)))
    return tuple(
        config_of(rows, 128) for rows in (most, *(each for each in (1, 2, 4) if each != most))
    )


def run(p: PoolProblem, args: Args, config: Config) -> None:
    """Launches fprop of `p`."""
    blocks = config.blocks
    last = p.y_layout == "nhwc"
    width = vector(p.C, p.dtype, p.y_layout)
    lanes = lanes_for(p.C, width, p.dtype, p.y_layout)
    unroll = _is_unrolled(p)
    cut = strips_of(p.P, p.stride_h, p.dilation_h, blocks["ROWS"] if unroll else 1)
    each = p.N * p.Z * cut.count * p.Q * (lanes if last else p.C)
    channel_blocks = triton.cdiv(p.C // width, lanes) if last else 1
    depth, height, across = axes_of(p)
    divisor = constant_divisor(p)
    launch(
        _kernel, (triton.cdiv(each, blocks["BLOCK"]) * channel_blocks,),
        p_x=args.x, p_y=args.out, p_index=args.x if args.index is None else args.index,
        **args.epilogue(), **steps(p), C_vectors=p.C // width, strips=cut.count, STEP=cut.step,
        divisor=divisor, T=depth.taps, R=height.taps, S=across.taps, MAX=p.mode == "max",
        INDEX="none" if args.index is None else p.index, ADAPTIVE=p.adaptive, COUNTS=divisor == 0,
        PADDED=p.count_include_pad and not p.adaptive, LANES=lanes, VECTOR=width, ROWS=cut.rows,
        SKIP=cut.skip, UNROLL=unroll, CHANNELS_LAST=last, BLOCK=blocks["BLOCK"],
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
