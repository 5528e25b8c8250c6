"""Where `auto` passes over a Triton row that could run. Pure functions of the problem."""

from __future__ import annotations

from fastconv.problem_text import Problem
from fastconv.triton.row import Row

__all__ = ["expected_loss"]


def expected_loss(row: Row, p: Problem) -> str | None:
    """None where the row is expected to beat torch's own kernel and every row below it; else the
    cause. A row gets its None from a result in benchmarks/results/, and there is none of a GPU yet.
    """
    return "not measured on a GPU yet: torch's kernel runs"
