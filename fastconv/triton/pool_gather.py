"""The gradient of means and maxima by their input, gathered: no atomics, one order of the sums.

  dx[n,c,d,h,w] = sum over the outputs whose windows look at (d,h,w) of dy / divisor, or of dy where
  the output's index is this input's

Lanes are strips.py's, a pixel of dx each: it visits the outputs that reach it, in their order.
Assumes: dx, dy and the indices in one layout.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.families.pool import PoolProblem
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
from fastconv.triton.strips import config_of, lanes_for, place, vector

__all__ = ["configs", "run"]

#: Outputs of a plane that are unrolled.
_UNROLLED = 25


@triton.jit
def _outputs_of(i, extent, outputs, stride, pad, dilation, taps, ADAPTIVE: tl.constexpr):
    """The first output whose window reaches input `i` of an axis, and the end of them."""
    if ADAPTIVE:
        first = i * outputs // extent
        end = tl.cdiv((i + 1) * outputs, extent)
    else:
        reach = i + pad
        first = tl.cdiv(tl.maximum(reach - (taps - 1) * dilation, 0), stride)
        end = tl.minimum(reach // stride + 1, outputs)
    return first, end


@triton.jit
def _tap(i, first, dilation, DILATED: tl.constexpr):
    """The tap by which a window that begins at `first` looks at input `i`, and whether it does."""
    tap = i - first
    looks = tap >= 0
    if DILATED:
        looks = tap % dilation == 0
        tap = tap // dilation
    return tap, looks


@triton.jit
def _share(
    p_dy, p_index, b_dx, o_row, q, m, own, row_place, row_count, w, W, Q, stride_w, pad_w,
    dilation_w, w_step, S: tl.constexpr, MAX: tl.constexpr, INDEX: tl.constexpr,
    DILATED: tl.constexpr, ADAPTIVE: tl.constexpr, COUNTS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """b_dx with what an input of column w has of output q of a row of outputs, which begins at the
    elements `o_row`. `own` is the input's place in the image, `row_place` that of the row's first
    tap in the window, `row_count` the other axes' part of what a mean divides by.
    """
    first, end = window_of(q, W, Q, stride_w, pad_w, ADAPTIVE)
    if INDEX == "u8" or DILATED:
        s, looks = _tap(w, first, dilation_w, DILATED)
        m = m & looks
        if INDEX == "u8":
            own = row_place + s
    o_y = o_row + q * w_step
    b = tl.load(p_dy + o_y, mask=m, other=0.0).to(b_dx.dtype)
    if MAX:
        b = tl.where(tl.load(p_index + o_y, mask=m, other=0) == own, b, 0.0)
    elif COUNTS:
        count = row_count * counted(first, end, W, pad_w, S, PADDED)
        b = b * quotient(tl.full(count.shape, 1.0, b.dtype), count)
    return b_dx + b


@triton.jit
def _kernel(
    p_dy, p_index, p_dx,
    N, D, H, W, Z, P, Q, C_vectors, divisor,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, MAX: tl.constexpr, INDEX: tl.constexpr,
    DILATED: tl.constexpr, ADAPTIVE: tl.constexpr, COUNTS: tl.constexpr, PADDED: tl.constexpr,
    PLANES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    UNROLL_ROWS: tl.constexpr, UNROLL_COLUMNS: tl.constexpr,
    LANES: tl.constexpr, VECTOR: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # PLANES, ROWS and COLUMNS are the most outputs along an axis that reach one input.
    WIDE: tl.constexpr = tl.float64 if p_dy.dtype.element_ty == tl.float64 else tl.float32
    C = C_vectors * VECTOR
    blocks = tl.cdiv(C_vectors, LANES) if CHANNELS_LAST else 1
    n, c, d, h, w, m = place(
        tl.program_id(0) // blocks, tl.program_id(0) % blocks, N, C, D, H, 1, W,
        LANES, VECTOR, 1, CHANNELS_LAST, BLOCK,
    )  # fmt: skip
    z_first, z_end = _outputs_of(d, D, Z, stride_d, pad_d, dilation_d, T, ADAPTIVE)
    p_first, p_end = _outputs_of(h, H, P, stride_h, pad_h, dilation_h, R, ADAPTIVE)
    q_first, q_end = _outputs_of(w, W, Q, stride_w, pad_w, dilation_w, S, ADAPTIVE)
    own = place_of(d, h, w, H, W)
    if CHANNELS_LAST:
        w_step = C
        o_n = n * (Z * P * Q) * C + c
        o_x = (n * (D * H * W) + own) * C + c
    else:
        w_step = 1
        o_n = (n * C + c) * (Z * P * Q)
        o_x = (n * C + c) * (D * H * W) + own

    b_dx = tl.zeros([BLOCK, VECTOR], WIDE)
    for i in tl.range(0, PLANES * ROWS, loop_unroll_factor=UNROLL_ROWS):
        z, p = z_first + i // ROWS, p_first + i % ROWS
        m_row = m & (z < z_end) & (p < p_end)
        d_first, d_end = window_of(z, D, Z, stride_d, pad_d, ADAPTIVE)
        h_first, h_end = window_of(p, H, P, stride_h, pad_h, ADAPTIVE)
        t, m_t = _tap(d, d_first, dilation_d, DILATED)
        r, m_r = _tap(h, h_first, dilation_h, DILATED)
        m_row = m_row & m_t & m_r
        row_count = t
        if COUNTS:
            row_count = counted(d_first, d_end, D, pad_d, T, PADDED)
            row_count *= counted(h_first, h_end, H, pad_h, R, PADDED)
        o_row = o_n + (z * P + p) * Q * w_step
        for j in tl.range(0, COLUMNS, loop_unroll_factor=UNROLL_COLUMNS):
            q = q_first + j
            b_dx = _share(
                p_dy, p_index, b_dx, o_row, q, m_row & (q < q_end), own, place_of(t, r, 0, R, S),
                row_count, w, W, Q, stride_w, pad_w, dilation_w, w_step, S, MAX, INDEX, DILATED,
                ADAPTIVE, COUNTS, PADDED,
            )  # fmt: skip
    if not MAX and not COUNTS:
        b_dx = quotient(b_dx, divisor)
    tl.store(p_dx + o_x, b_dx.to(p_dx.dtype.element_ty), mask=m)


def configs(p: PoolProblem) -> tuple[Config, ...]:
    """A lane a thread."""
    return config_of(1, 128), config_of(1, 64)


def run(p: PoolProblem, args: Args, config: Config) -> None:
    """Launches dgrad of `p`."""
    block = config.blocks["BLOCK"]
    last = p.x_layout == "nhwc"
    width = vector(p.C, p.dtype, p.x_layout)
    lanes = lanes_for(p.C, width, p.dtype, p.x_layout)
    each = p.N * p.D * p.H * p.W * (lanes if last else p.C)
    channel_blocks = triton.cdiv(p.C // width, lanes) if last else 1
    axes = axes_of(p)
    planes, rows, columns = (axis.reaching for axis in axes)
    unroll_columns = max(columns, 1) if columns <= _UNROLLED else 1
    unroll_rows = max(planes * rows, 1) if planes * rows * columns <= _UNROLLED else 1
    divisor = constant_divisor(p)
    launch(
        _kernel, (triton.cdiv(each, block) * channel_blocks,),
        p_dy=args.dy, p_index=args.dy if args.index is None else args.index, p_dx=args.out,
        **steps(p), C_vectors=p.C // width, divisor=divisor, T=axes[0].taps, R=axes[1].taps,
        S=axes[2].taps, MAX=p.mode == "max", INDEX=p.index,
        DILATED=any(axis.dilation > 1 for axis in axes), ADAPTIVE=p.adaptive,
        COUNTS=p.mode == "avg" and divisor == 0, PADDED=p.count_include_pad and not p.adaptive,
        PLANES=planes, ROWS=rows, COLUMNS=columns, UNROLL_ROWS=unroll_rows,
        UNROLL_COLUMNS=unroll_columns, LANES=lanes, VECTOR=width, CHANNELS_LAST=last, BLOCK=block,
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
