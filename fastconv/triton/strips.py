"""How outputs that need a window of their own channel are cut among lanes, in either layout.

A lane is VECTOR neighbouring channels (16 bytes where their count allows) of a strip: ROWS outputs
along P, STEP rows apart, so that a loaded pixel is used by every row that it reaches, also where
the window is dilated. Neighbouring lanes are neighbours in memory: NHWC has LANES lanes a pixel,
then runs along Q; NCHW (VECTOR 1) runs along Q, then over strips and channels. Tiles are
[BLOCK, VECTOR], and no lane idles for a channel count or a width that is no power of two.
"""

from __future__ import annotations

import dataclasses
import math

import triton
import triton.language as tl

from fastconv.triton.row import Config
from fastconv.words import ELEMENT_SIZE

__all__ = ["Strips", "config_of", "lanes_for", "place", "rows_for", "strips_of", "vector"]

_LINE = 128
#: Programs below which strips become shorter, and their least rows then.
_PROGRAMS = 264
_LEAST_ROWS = 2
_MOST_SKIP = 8


@triton.jit
def place(
    i_v, i_b, N, K, Z, strips, STEP, Q,
    LANES: tl.constexpr, VECTOR: tl.constexpr, ROWS: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """n, k, z, q and the first row p of the lanes of block i_v; i_b counts blocks of LANES lanes of
    channels. k and the last value, which lanes exist, are [BLOCK, VECTOR], the others [BLOCK, 1].
    """
    v = i_v * BLOCK + tl.arange(0, BLOCK)[:, None]
    u = v // LANES
    q = u % Q
    u = u // Q
    strip = u % strips
    u = u // strips
    z = u % Z
    n = u // Z
    if CHANNELS_LAST:
        k = (i_b * LANES + v % LANES) * VECTOR + tl.arange(0, VECTOR)[None, :]
    else:
        k = n % K + tl.zeros([BLOCK, VECTOR], tl.int32)
        n = n // K
    p = strip // STEP * (STEP * ROWS) + strip % STEP
    return n, k, z, p, q, (n < N) & (k < K)


@dataclasses.dataclass(frozen=True)
class Strips:
    """How output rows are cut: `rows` a lane, `step` apart, `count` strips an image; the rows read
    for two of them lie `skip` dilations apart.
    """

    rows: int
    step: int
    skip: int
    count: int


def strips_of(rows_out: int, stride: int, dilation: int, most: int) -> Strips:
    """Strips of at most `most` rows, of about the same length; of one where the rows read for two
    are so far apart that unrolling what lies between them would be most of the kernel.
    """
    common = math.gcd(stride, dilation)
    step, skip = dilation // common, stride // common
    each = rows_out // step
    if min(most, each) < 2 or skip > _MOST_SKIP:
        return Strips(1, 1, 1, rows_out)
    longest = triton.cdiv(rows_out, step)
    rows = min(each, triton.cdiv(longest, triton.cdiv(longest, most)))
    return Strips(rows, step, skip, triton.cdiv(longest, rows) * step)


def rows_for(lanes: int, block: int, most: int) -> int:
    """The longest strip that leaves programs enough, of `lanes` outputs (vectors of channels)."""
    rows = most
    while rows > _LEAST_ROWS and lanes < rows * block * _PROGRAMS:
        rows //= 2
    return rows


def vector(channels: int, dtype: str, layout: str) -> int:
    """Channels of a lane: what 16 bytes hold, as far as the count of channels is a multiple."""
    return math.gcd(channels, 16 // ELEMENT_SIZE[dtype]) if layout == "nhwc" else 1


def lanes_for(channels: int, width: int, dtype: str, layout: str) -> int:
    """Lanes of a pixel in one program: at most a cache line, in equal parts of the channels."""
    if layout == "nchw":
        return 1
    vectors = max(1, channels // width)
    return triton.cdiv(vectors, triton.cdiv(vectors * width * ELEMENT_SIZE[dtype], _LINE))


def config_of(rows: int, block: int) -> Config:
    """A configuration: the most rows of a strip, and the lanes of a program, one a thread."""
    return Config({"ROWS": rows, "BLOCK": block}, num_warps=block // 32)
