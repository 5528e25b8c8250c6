"""The Triton row that runs a call from Python, of any family."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from fastconv import _cuda, _triton, families, policy
from fastconv.problem_text import Problem

if TYPE_CHECKING:
    from fastconv.triton import Row

__all__ = ["row_for"]


def _is_error() -> bool:
    """Whether a valid problem must not be handed over to torch."""
    return os.environ.get("FASTCONV_FALLBACK") == "error"


def row_for(
    direction: str, p: Problem, device: torch.device, name: str, must_run: bool
) -> Row | None:
    """The Triton row to run: named by hand, else chosen; None for torch's kernel.

    Raises:
        RuntimeError: where the named kernel does not take the problem, or where none does and
            FASTCONV_FALLBACK=error.
    """
    named = name or policy.named_kernel(direction, families.of(p).name)
    here = device.type in _triton.device_types()
    if named:
        reason = _why_not(named, direction, p, here)
        if reason is not None:
            text = f"fastconv: kernel '{named}' does not take {p.encode()}: {reason}"
            raise RuntimeError(text)
        return next(row for row in _triton.rows() if row.name == named)
    if not here:
        return None
    from fastconv import plan
    from fastconv.triton import choice

    must_win = not (must_run or _is_error())
    chosen = plan.preferred(
        direction, p, policy.get_precision(), _cuda.allows_tf32(), must_win
    )  # fmt: skip
    row = None if chosen is None else choice.find(chosen)
    if row is None and _is_error():
        raise RuntimeError(f"fastconv: no kernel takes {p.encode()} ({direction})")
    return row


def _why_not(name: str, direction: str, p: Problem, here: bool) -> str | None:
    row = next((row for row in _triton.rows() if row.name == name), None)
    if row is None:
        return "it is none of Triton's kernels"
    family = families.of(p).name
    if (row.family, row.direction) != (family, direction):
        return f"it computes {row.direction} of {row.family}, not {direction} of {family}"
    if not here:
        return _triton.why_not() or "Triton's kernels take CUDA tensors"
    from fastconv.triton import choice

    return choice.why_not(row, p)
