"""Whether Triton's kernels can run here, and their rows."""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

import torch

from fastconv import _cuda

if TYPE_CHECKING:
    from fastconv.triton import Row

__all__ = ["device_types", "is_installed", "is_interpreted", "rows", "why_not"]


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
