"""The mean or maximum of whole images.

  y[n,c] = mean or maximum over w of x[n,c,w]

A program owns a block of one image's channels. Tiles of [pixels, channels] pass in order into one
of results, whose column is reduced at the end: always in the same order, whatever the GPU. The
floor is the bytes of x; one image of few channels keeps few programs busy.
Assumes: the image is one axis (`squeezed`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.families.pool import PoolProblem
from fastconv.triton import pool_axes
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.pool_axes import quotient
from fastconv.triton.row import INDEXABLE, Args, Config

__all__ = ["configs", "run", "why_not"]

#: Elements of a tile, and programs that keep a GPU busy.
_TILE = 2048
_PROGRAMS = 264
#: Channels last: blocks of channels, from two lines of memory down to a sector.
_CHANNELS = (64, 32, 16, 8)


@triton.jit
def _kernel(
    p_x, p_y, p_index, p_scale, p_shift, p_residual, C, W, divisor,
    MAX: tl.constexpr, HAS_INDEX: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr, ACTIVATION: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = tl.float64 if p_x.dtype.element_ty == tl.float64 else tl.float32
    NOTHING: tl.constexpr = float("-inf") if MAX else 0.0
    blocks = tl.cdiv(C, CHANNELS)
    n = tl.program_id(0) // blocks
    c = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    m_c = c < C
    w = tl.arange(0, PIXELS)[:, None]
    if CHANNELS_LAST:
        w_step = C
        o_x = n * W * C + c[None, :]
    else:
        w_step = 1
        o_x = (n * C + c[None, :]) * W

    best = tl.full([PIXELS, CHANNELS], NOTHING, WIDE)
    at = w + tl.zeros([PIXELS, CHANNELS], tl.int32)
    for first in range(0, W, PIXELS):
        o = first + w
        b = tl.load(p_x + (o_x + o * w_step), mask=(o < W) & m_c[None, :], other=NOTHING).to(WIDE)
        if MAX and HAS_INDEX:
            larger = (b > best) | (b != b)
            best = tl.where(larger, b, best)
            at = tl.where(larger, o, at)
        elif MAX:
            best = tl.maximum(best, b, propagate_nan=tl.PropagateNan.ALL)
        else:
            best += b

    if MAX:
        # A column's first of the largest, or its last NaN.
        is_nan = best != best
        largest = tl.max(tl.where(is_nan, NOTHING, best), axis=0)
        has_nan = tl.max(is_nan.to(tl.int32), axis=0) > 0
        b_y = tl.where(has_nan, float("nan"), largest)
        if HAS_INDEX:
            last_nan = tl.max(tl.where(is_nan, at, -1), axis=0)
            of_largest = tl.min(tl.where(best == largest[None, :], at, 2147483647), axis=0)
            at_y = tl.where(has_nan, last_nan, of_largest)
            tl.store(p_index + (n * C + c), at_y.to(p_index.dtype.element_ty), mask=m_c)
    else:
        b_y = quotient(tl.sum(best, axis=0), divisor)
    o_y = (n * C + c)[None, :]
    m_y = m_c[None, :]
    b_y = finish(
        b_y[None, :], c, m_c, o_y, m_y, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_y + o_y, b_y.to(p_y.dtype.element_ty), mask=m_y)


def why_not(p: PoolProblem, layout: str) -> str | None:
    """Why the rows for `layout` refuse the problem."""
    if reason := pool_axes.why_not(p, layout):
        return reason
    one_row = p.D == p.H == p.Z == p.P == p.Q == 1 and p.pad_d == p.pad_h == p.pad_w == 0
    if not one_row or p.T != 1 or p.R != 1 or p.S != p.W or p.dilation_w != 1 or p.adaptive:
        return "the image is not one window"
    if p.W > INDEXABLE // 2:
        return "an image has 2^30 pixels or more"
    return None


def configs(p: PoolProblem) -> tuple[Config, ...]:
    """Channels last: the widest blocks of channels that leave programs enough. Contiguous: as much
    of an image's row as a tile holds.
    """
    if p.x_layout == "nhwc":
        enough = [each for each in _CHANNELS if p.N * triton.cdiv(p.C, each) >= _PROGRAMS]
        best = enough[0] if enough else _CHANNELS[-1]
        blocks = [best, *(each for each in _CHANNELS if each != best)]
        return tuple(Config({"PIXELS": _TILE // each, "CHANNELS": each}) for each in blocks)
    pixels = min(_TILE, triton.next_power_of_2(p.W))
    widths = [pixels, *(each for each in (pixels // 2, pixels // 4) if each >= 32)]
    return tuple(
        Config({"PIXELS": each, "CHANNELS": min(_TILE // each, 16)}) for each in widths
    )  # fmt: skip


def run(p: PoolProblem, args: Args, config: Config) -> None:
    """Launches fprop of `p`."""
    channels = config.blocks["CHANNELS"]
    launch(
        _kernel, (p.N * triton.cdiv(p.C, channels),),
        p_x=args.x, p_y=args.out, p_index=args.x if args.index is None else args.index,
        **args.epilogue(), C=p.C, W=p.W, divisor=p.divisor or max(p.W, 1), MAX=p.mode == "max",
        HAS_INDEX=args.index is not None, CHANNELS_LAST=p.x_layout == "nhwc",
        PIXELS=config.blocks["PIXELS"], CHANNELS=channels, num_warps=config.num_warps,
        num_stages=config.num_stages,
    )  # fmt: skip
