"""Which kernel runs a problem on a GPU: a measured plan first, then heuristics.

The CUDA rows choose among themselves (csrc/core/table.h), and so do Triton's
(fastconv/triton/choice.py). Here the two choices meet, for the op library and for Python alike.
"""

from __future__ import annotations

from fastconv import plans
from fastconv.problem_text import Problem
from fastconv.words import why_too_inexact

__all__ = ["preferred"]

#: CUDA rows that are kept for what nothing better takes; any tuned Triton row comes before them.
_LAST_RESORTS = ("_ref_", "_im2col_", "_direct_")


def _is_last_resort(name: str) -> bool:
    return any(word in name for word in _LAST_RESORTS)


def preferred(
    direction: str,
    p: Problem,
    precision: str = "high",
    allow_tf32: bool = False,
    must_win: bool = False,
    own: str | None = None,
) -> str | None:
    """The kernel to run on the current GPU; None for torch's own, where a row `must_win`, and for
    none at all where not.

    `own` is the CUDA row that heuristics would take, if there is one.
    """
    from fastconv.triton import choice

    measured = plans.measured(direction, p)
    if measured is not None:
        allowed = {
            name: time
            for name, time in measured.microseconds.items()
            if why_too_inexact(measured.numerics[name], p.transform_depth, precision, allow_tf32)
            is None
            and (must_win or name != plans.TORCH)
        }
        if allowed:
            fastest = min(allowed, key=allowed.__getitem__)
            return None if fastest == plans.TORCH else fastest
    row = choice.choose(direction, p, precision, allow_tf32, must_win)
    if row is None:
        return own
    if own is None or (_is_last_resort(own) and not _is_last_resort(row.name)):
        return row.name
    return own
