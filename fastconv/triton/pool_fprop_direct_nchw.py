"""pool_fprop_direct_nchw_triton: y[n,c,z,p,q] as the mean or maximum of a window of x.

NCHW. A thread owns a strip of rows along P of one channel; neighbouring threads own neighbouring
columns, then strips, channels and images. The kernel and its costs are in pool_window.py.
"""

from __future__ import annotations

from fastconv.families.pool import PoolProblem
from fastconv.triton import pool_axes, pool_window
from fastconv.triton.row import Row

__all__ = ["ROWS"]


def _why_not(p: PoolProblem) -> str | None:
    return pool_axes.why_not(p, "nchw")


ROWS = (
    Row("pool_fprop_direct_nchw_triton", "fprop", "exact", "direct", _why_not, pool_window.run,
        pool_window.configs),
)  # fmt: skip
