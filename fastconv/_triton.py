"""Whether Triton's kernels can run here, and their rows made known to the op library."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from typing import TYPE_CHECKING

import torch

from fastconv import _cuda, _native
from fastconv.problem import DIRECTIONS, ConvProblem

if TYPE_CHECKING:
    from fastconv.triton import Row

__all__ = [
    "announce",
    "device_types",
    "is_installed",
    "is_interpreted",
    "register",
    "rows",
    "why_not",
]

_NUMERICS = ("exact", "winograd_f2", "winograd_f4", "tf32")
_PRECISIONS = ("exact", "high", "fast")
_KEEP, _TORCH = -1, -2  # answers that are no row: see FastconvPrefer in csrc/torch/api.h


@functools.cache
def is_installed() -> bool:
    """Whether the triton package is there; it is imported by `rows` alone."""
    return importlib.util.find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether kernels run by Triton's interpreter: slowly, on the CPU, to be debugged."""
    return is_installed() and os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def why_not() -> str | None:
    """Why no Triton kernel can run here; None where one can."""
    if not is_installed():
        return "triton is not installed"
    if is_interpreted():
        return None
    reason = _cuda.why_not()
    if reason is not None:
        return reason
    if _cuda.capability() < 80:
        return "the GPU's compute capability is below 8.0"
    return _why_no_driver()


def _why_no_driver() -> str | None:
    """Why triton's own driver does not start: it builds a module of its own on the first use, for
    which it wants a C compiler.
    """
    from triton.runtime import driver

    try:
        driver.active.utils  # noqa: B018
    except Exception as error:
        return f"triton's driver does not start: {error}"
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
@functools.cache
def device_types() -> tuple[str, ...]:
    """The types of the devices whose tensors Triton's kernels take here."""
    if why_not() is not None:
        return ()
    cuda = ("cuda",) if _cuda.why_not() is None else ()
    return (*cuda, "cpu") if is_interpreted() else cuda


def rows() -> tuple[Row, ...]:
    """Every row in the order of choice; none where triton is not installed."""
    if not is_installed():
        return ()
    from fastconv import triton

    return triton.ROWS


# The op library asks these two for rows it does not have itself (csrc/torch/guest.h).


def _why_not_on(name: str, on_cuda: bool, problem: str) -> str | None:
    from fastconv.triton import choice

    device = "cuda" if on_cuda else "cpu"
    if why_not() is not None:
        return why_not()
    if device not in device_types():
        return "Triton's kernels take CUDA tensors (on the CPU with TRITON_INTERPRET=1 alone)"
    row = choice.find(name)
    assert row is not None
    return choice.why_not(row, ConvProblem.decode(problem))


def _prefer(
    direction: int, problem: str, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    if why_not() is not None:
        return _KEEP
    from fastconv import plan

    before = own.decode() or None
    name = plan.preferred(
        DIRECTIONS[direction],
        ConvProblem.decode(problem),
        _PRECISIONS[precision],
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
            row.name.encode(), DIRECTIONS.index(row.direction), _NUMERICS.index(row.numerics)
        )
        for row in rows()
    }


def announce() -> None:
    """Has the op library ask, and ask again what it asked before."""
    if is_installed():
        _native.set_answers(_answer_why_not, _answer_prefer)


def _answer_why_not(name: bytes, on_cuda: int, problem: bytes) -> str | None:
    return _why_not_on(name.decode(), bool(on_cuda), problem.decode())


def _answer_prefer(
    direction: int, problem: bytes, precision: int, allow_tf32: int, must_win: int, own: bytes
) -> int:
    return _prefer(direction, problem.decode(), precision, allow_tf32, must_win, own)


announce()
