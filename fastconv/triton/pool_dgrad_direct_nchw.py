"""pool_dgrad_direct_nchw_triton: dx[n,c,d,h,w] as a sum over the outputs that look at it.

NCHW. A thread owns a pixel of one channel; neighbouring threads own neighbouring pixels. The kernel
and its costs are in pool_gather.py.
"""

from __future__ import annotations

from fastconv.families.pool import PoolProblem
from fastconv.triton import pool_axes, pool_gather
from fastconv.triton.row import Row

__all__ = ["ROWS"]


def _why_not(p: PoolProblem) -> str | None:
    return pool_axes.why_not(p, "nchw")


ROWS = (
    Row("pool_dgrad_direct_nchw_triton", "dgrad", "exact", "direct", _why_not, pool_gather.run,
        pool_gather.configs),
)  # fmt: skip
