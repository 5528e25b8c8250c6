"""Rows that Python runs (Triton's), made known to the op library: their names, and what it asks of
them when it chooses.

The library calls back through ctypes, which cannot raise: what goes wrong in here is answered as a
refusal, or as no preference, and warned of.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import threading
import warnings

from fastconv import _native, _triton, families, plan
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
    direction: int, problem: str, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    """The row's number in the library's table, or an answer that is none."""
    if _triton.why_not() is not None:
        return _KEEP
    before = own.decode() or None
    p = families.decode(problem)
    name = plan.preferred(
        families.of(p).directions[direction],
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
        row.name: _native.state.fastconv_add_guest(
            row.name.encode(),
            families.named(row.family).directions.index(row.direction),
            NUMERICS.index(row.numerics),
        )
        for row in _triton.rows()
    }


def announce() -> None:
    """Has the op library ask, and ask again what it asked before."""
    if _native.lib is not None and _triton.is_installed():
        _native.lib.fastconv_set_answers(*_ANSWERS)


def _note(error: BaseException) -> str:
    """Says what went wrong in a callback; an interrupt is raised again, outside it."""
    if isinstance(error, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()
        return "interrupted"
    text = f"{type(error).__name__}: {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # a filter that raises would raise into the library
        warnings.warn(f"fastconv: choosing among Triton's kernels failed: {text}", stacklevel=2)
    return text


def _answer_why_not(name: bytes, on_cuda: int, problem: bytes, text: int, size: int) -> int:
    try:
        reason = _why_not(name.decode(), bool(on_cuda), problem.decode())
    except BaseException as error:
        reason = _note(error)
    if reason is None:
        return 0
    words = reason.encode()[: size - 1] + b"\0"
    ctypes.memmove(text, words, len(words))
    return 1


def _answer_prefer(
    direction: int, problem: bytes, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    try:
        return _prefer(direction, problem.decode(), precision, allow_tf32, must_win, own)
    except BaseException as error:
        _note(error)
        return _KEEP


# Kept for as long as the library may call them.
_ANSWERS = (_native.WhyNotGuest(_answer_why_not), _native.Prefer(_answer_prefer))
announce()
