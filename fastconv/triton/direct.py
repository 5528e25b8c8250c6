"""What the direct kernels share: blocks of channels, and the products of one filter tap.

A block of output channels lies within one group where groups are wide (ONE_GROUP): its inputs are
then a vector over pixels. Else it runs over groups, and each channel reads inputs of its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["add_tap", "blocks", "channels", "is_one_group", "nothing_as", "unrolled"]


def is_one_group(per_group: int, groups: int) -> bool:
    """Whether blocks of output channels, `per_group` a group, are cut within groups."""
    return groups == 1 or per_group >= 16


def blocks(per_group: int, groups: int, block: int) -> int:
    """How many blocks of channels there are."""
    if is_one_group(per_group, groups):
        return groups * triton.cdiv(per_group, block)
    return triton.cdiv(groups * per_group, block)


def unrolled(depth: int) -> int:
    """How many of a group's `depth` input channels a turn of `add_tap` takes: a divisor."""
    return next(many for many in (8, 7, 6, 5, 4, 3, 2, 1) if depth % many == 0)


@triton.jit
def channels(i_block, total, per_group, ONE_GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """The group of block `i_block` (or that of each channel), its channels, and which exist."""
    if ONE_GROUP:
        group = i_block // tl.cdiv(per_group, BLOCK)
        o = i_block % tl.cdiv(per_group, BLOCK) * BLOCK + tl.arange(0, BLOCK)
        m = o < per_group
        o += group * per_group
    else:
        o = i_block * BLOCK + tl.arange(0, BLOCK)
        m = o < total
        group = o // per_group
    return group, o, m


@triton.jit
def nothing_as(p_out, extent, DOUBLE: tl.constexpr):
    """Zeros of the shape of `p_out`, for sums: loaded under a mask that is false if `extent` >= 0.
    What was loaded lies in registers as it does in memory, 16 bytes of neighbours a thread, and
    sums stay as they start; a plain zero would give each thread one channel of many pixels.
    """
    b_nothing = tl.load(p_out, mask=tl.zeros(p_out.shape, tl.int32) > extent, other=0.0)
    return b_nothing.to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def add_tap(
    b_sums, p_in, o_in, m_in, p_w, o_w, m_w, group, depth, out_channels,
    ONE_GROUP: tl.constexpr, UNROLLED: tl.constexpr,
):  # fmt: skip
    """b_sums [pixels, channels] plus the products of a tap: `o_in` [pixels] are the elements where
    input pixels begin, the tap's weights at `p_w` lie as [depth, out_channels], `o_w` of them.
    """
    for i in range(0, depth, UNROLLED):
        for j in tl.static_range(UNROLLED):
            b_w = tl.load(p_w + (i + j) * out_channels + o_w, mask=m_w, other=0.0)
            if ONE_GROUP:
                b_in = tl.load(p_in + (group * depth + i + j) + o_in, mask=m_in, other=0.0)
                b_sums += b_in.to(b_sums.dtype)[:, None] * b_w.to(b_sums.dtype)[None, :]
            else:
                o_each = o_in[:, None] + (group * depth + i + j)[None, :]
                b_in = tl.load(p_in + o_each, mask=m_in[:, None] & m_w[None, :], other=0.0)
                b_sums += b_in.to(b_sums.dtype) * b_w.to(b_sums.dtype)[None, :]
    return b_sums
