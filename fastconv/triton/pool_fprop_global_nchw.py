"""pool_fprop_global_nchw_triton: y[n,c] as the mean or maximum of x[n,c,w] over w.

NCHW, the image being one window. A program owns a few channels of an image, whose pixels are
neighbours. The kernel and its costs are in pool_global.py.
"""

from __future__ import annotations

from fastconv.families.pool import PoolProblem
from fastconv.triton import pool_global
from fastconv.triton.row import Row

__all__ = ["ROWS"]


def _why_not(p: PoolProblem) -> str | None:
    return pool_global.why_not(p, "nchw")


ROWS = (
    Row("pool_fprop_global_nchw_triton", "fprop", "exact", "global", _why_not, pool_global.run,
        pool_global.configs),
)  # fmt: skip
