"""Rows that Python runs (Triton's), made known to the op library: their names, and what it asks of
them when it chooses.
"""

from __future__ import annotations

import ctypes
import functools

from fastconv import _native, _triton, families, plan, slots
from fastconv.words import NUMERICS, PRECISIONS

__all__ = ["announce", "register"]

_KEEP, _TORCH = -1, -2  # answers that are no row: see FastconvPrefer in csrc/torch/api.h


def _why_not(name: str, on_cuda: bool, problem: str) -> str | None:
    """Why the row does not take the problem on tensors of the device; None where it does."""
    from fastconv.triton import choice

    device = "cuda" if on_cuda else "cpu"
    if _triton.why_not() is not None:
        return _triton.why_not()
    if device not in _triton.device_types():
        return "Triton's kernels take CUDA tensors (on the CPU with TRITON_INTERPRET=1 alone)"
    row = choice.find(name)
    assert row is not None
    return choice.why_not(row, families.decode(problem))


def _prefer(
    problem: str, slot: int, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    """The row's number in the library's table, or an answer that is none."""
    if _triton.why_not() is not None:
        return _KEEP
    before = own.decode() or None
    p = families.decode(problem)
    name = plan.preferred(
        slots.direction(slot),
        p,
        PRECISIONS[precision],
        bool(allow_tf32),
        bool(must_win),
        before,
    )
    if name == before:
        return _KEEP
    if name is None:
        return _TORCH
    register()
    assert _native.lib is not None
    return int(_native.lib.fastconv_find_kernel(name.encode(), ctypes.byref(ctypes.c_int())))


@functools.cache
def register() -> dict[str, int]:
    """The index of each row in the table of names, which has them from now on."""
    return {
        row.name: _native.state.fastconv_add_external(
            row.name.encode(), slots.slot(row.family, row.direction), NUMERICS.index(row.numerics)
        )
        for row in _triton.rows()
    }


def announce() -> None:
    """Has the op library ask, and ask again what it asked before."""
    if _triton.is_installed():
        _native.set_answers(_answer_why_not, _answer_prefer)


def _answer_why_not(name: bytes, on_cuda: int, problem: bytes) -> str | None:
    return _why_not(name.decode(), bool(on_cuda), problem.decode())


def _answer_prefer(
    slot: int, problem: bytes, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    return _prefer(problem.decode(), slot, precision, allow_tf32, must_win, own)


announce()
