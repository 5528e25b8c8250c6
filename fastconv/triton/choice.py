"""Which Triton row takes a problem: the rules of csrc/core/table.h, for the rows of this folder."""

from __future__ import annotations

import functools
from typing import Any

from fastconv import families
from fastconv.problem_text import Problem
from fastconv.triton import ROWS, Row
from fastconv.triton.heuristics import expected_loss
from fastconv.words import why_too_inexact

__all__ = ["ask", "choose", "find", "why_not", "why_not_auto"]


def find(name: str) -> Row | None:
    """The row of that name."""
    return next((row for row in ROWS if row.name == name), None)


def ask(row: Row, p: Any) -> tuple[str | None, Any]:
    """The row's reason, and the problem as it will see it: squeezed, and with other layouts where it
    wants them.
    """
    family = families.of(p).name
    if family != row.family:
        return f"it computes {row.family}, not {family}", p
    given, (p, _) = p, p.squeezed()
    reason = row.why_not(p)
    if reason is None:
        return None, p
    for changes in ({"y_layout": "nhwc"}, {"x_layout": "nhwc", "y_layout": "nhwc"}):
        other = p.replace(**changes)
        if other != p and row.why_not(other) is None:
            return None, other
    return reason, given


def why_not(row: Row, p: Problem) -> str | None:
    """None where the row takes the problem, directly or after a transposition."""
    return ask(row, p)[0]


def why_not_auto(
    row: Row, p: Problem, precision: str = "high", allow_tf32: bool = False
) -> str | None:
    """None where `auto` takes the row; else its reason: refusal, precision or expected loss."""
    inexact = why_too_inexact(row.numerics, p.transform_depth, precision, allow_tf32)
    return why_not(row, p) or inexact or expected_loss(row, p)


@functools.lru_cache(maxsize=1024)
def choose(
    direction: str,
    p: Problem,
    precision: str = "high",
    allow_tf32: bool = False,
    must_win: bool = False,
) -> Row | None:
    """The first row that `auto` takes; where none is known to win, None with `must_win`, else the
    first that takes the problem.
    """
    family = families.of(p).name
    able = [
        row
        for row in ROWS
        if (row.family, row.direction) == (family, direction)
        and why_not(row, p) is None
        and why_too_inexact(row.numerics, p.transform_depth, precision, allow_tf32) is None
    ]
    best = next((row for row in able if expected_loss(row, p) is None), None)
    if best is None and able and not must_win:
        return able[0]
    return best
