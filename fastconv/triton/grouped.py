"""What the kernels of narrow groups share: which problems they take, and how they cut them.

gemm_k runs over (tap, channel) of one group flattened, so that one product covers several taps, and
no product mixes two groups. A program takes several neighbouring groups in turn where there are
programs enough: they share cache lines, and addresses are found once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import triton

from fastconv.problem import ELEMENT_SIZE, ConvProblem
from fastconv.triton.row import Config, why_not_operands

__all__ = ["configs", "why_not", "wide"]

_MOST_CHANNELS = 32
_MOST_TAPS = 7
_CACHE_LINE = 128
#: Programs below which groups are not taken in turn.
_PROGRAMS = 528


def why_not(p: ConvProblem) -> str | None:
    """Why the rows refuse the problem."""
    if reason := why_not_operands(p, ("f32", "bf16", "f16")):
        return reason
    if p.groups == 1:
        return "there is one group only"
    if min(p.C_per_group, p.K_per_group) < 2:
        return "a group has one channel on a side"
    if max(p.C_per_group, p.K_per_group) > _MOST_CHANNELS:
        return "a group has more than 32 channels on a side"
    if max(p.T, p.R, p.S) > _MOST_TAPS:
        return "the filter is larger than 7x7"
    return None


def wide(channels: int) -> int:
    """A group's channels as an extent of a product."""
    return max(16, triton.next_power_of_2(channels))


def _taps_block(flattened: int, most: int) -> int:
    """How many of `flattened` (tap, channel) one product takes, at most `most`: what adds least of
    zeros and of turns of the loop, whose addresses cost about as much as 16 more would. Sums in
    float32 hold a block in registers, which 64 would overflow.
    """
    blocks = [block for block in (64, 32, 16) if block <= most]
    return min(blocks, key=lambda block: triton.cdiv(flattened, block) * (block + 16))


def configs(
    p: ConvProblem, pixels: int, programs: int, flattened: int, blocks: Mapping[str, int]
) -> tuple[Config, ...]:
    """Tiles of 128 pixels with as many groups in turn as share a cache line; loads go through the
    first cache, which the taps of a pixel share, so that copies around it (stages) come second.
    """
    line = max(1, _CACHE_LINE // (ELEMENT_SIZE[p.dtype] * min(p.C_per_group, p.K_per_group)))
    enough = max(1, programs * triton.cdiv(pixels, 128) * p.groups // _PROGRAMS)
    groups = 1
    while groups * 2 <= min(line, enough, p.groups):
        groups *= 2
    block = _taps_block(flattened, 32 if p.dtype == "f32" else 64)
    return tuple(
        Config({**blocks, "BLOCK_P": tile, "BLOCK_TAPS": block, "GROUPS": turn}, num_stages=stages)
        for tile, turn, stages in ((128, groups, 1), (128, 1, 3), (64, groups, 1), (64, 1, 3))
    )
