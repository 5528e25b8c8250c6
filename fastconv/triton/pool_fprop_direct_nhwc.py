"""pool_fprop_direct_nhwc_triton: y[n,c,z,p,q] as the mean or maximum of a window of x.

NHWC. A thread owns 16 bytes of channels of a strip of rows along P; neighbouring threads own
neighbouring channels, then neighbouring columns. The kernel and its costs are in pool_window.py.
"""

from __future__ import annotations

from fastconv.families.pool import PoolProblem
from fastconv.triton import pool_axes, pool_window
from fastconv.triton.row import Row

__all__ = ["ROWS"]


def _why_not(p: PoolProblem) -> str | None:
    return pool_axes.why_not(p, "nhwc")


ROWS = (
    Row("pool_fprop_direct_nhwc_triton", "fprop", "exact", "direct", _why_not, pool_window.run,
        pool_window.configs),
)  # fmt: skip
