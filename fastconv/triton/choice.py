"""Which Triton row takes a problem: the rules of csrc/conv/choice.cc, for the rows of this folder."""

from __future__ import annotations

import functools

from fastconv.problem import ConvProblem, Direction
from fastconv.triton import ROWS, Row
from fastconv.triton.heuristics import expected_loss

__all__ = ["choose", "find", "offer", "why_not", "why_not_auto", "why_not_numerics"]


def find(name: str) -> Row | None:
    """The row of that name."""
    return next((row for row in ROWS if row.name == name), None)


def offer(row: Row, p: ConvProblem) -> tuple[str | None, ConvProblem]:
    """The row's reason, and the problem as it will see it: with other layouts where it wants them."""
    reason = row.why_not(p)
    if reason is None:
        return None, p
    for changes in ({"y_layout": "nhwc"}, {"x_layout": "nhwc", "y_layout": "nhwc"}):
        other = p.replace(**changes)
        if other != p and row.why_not(other) is None:
            return None, other
    return reason, p


def why_not(row: Row, p: ConvProblem) -> str | None:
    """None where the row takes the problem, directly or after a transposition."""
    return offer(row, p)[0]


def why_not_numerics(numerics: str, p: ConvProblem, precision: str, allow_tf32: bool) -> str | None:
    """Why sums of a class are not exact enough; None where they are."""
    if numerics == "exact":
        return None
    if numerics == "tf32":
        if precision == "exact":
            return "precision is 'exact', which takes no TF32"
        return None if allow_tf32 else "torch's switch for convolutions in TF32 is off"
    if precision == "exact":
        return "precision is 'exact', which takes no Winograd"
    depth = max(p.C_per_group, p.K_per_group) * p.R * p.S
    if precision == "high" and depth > 16384:
        return "the error bound at this depth is outside precision 'high'"
    return None


def why_not_auto(
    row: Row, p: ConvProblem, precision: str = "high", allow_tf32: bool = False
) -> str | None:
    """None where `auto` takes the row; else its reason: refusal, precision or expected loss."""
    inexact = why_not_numerics(row.numerics, p, precision, allow_tf32)
    return why_not(row, p) or inexact or expected_loss(row, p)


@functools.lru_cache(maxsize=1024)
def choose(
    direction: Direction,
    p: ConvProblem,
    precision: str = "high",
    allow_tf32: bool = False,
    must_win: bool = False,
) -> Row | None:
    """The first row that `auto` takes; where none is known to win, None with `must_win`, else the
    first that takes the problem.
    """
    able = [
        row
        for row in ROWS
        if row.direction == direction
        and why_not(row, p) is None
        and why_not_numerics(row.numerics, p, precision, allow_tf32) is None
    ]
    best = next((row for row in able if expected_loss(row, p) is None), None)
    if best is None and able and not must_win:
        return able[0]
    return best
