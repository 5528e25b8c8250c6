"""Operands in the order a kernel reads them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["krsc"]


def krsc(w: Tensor) -> Tensor:
    """A weight [K, C/groups, T, R, S] of any strides as dense [K, T, R, S, C/groups]: itself where it
    already lies so (channels last), else a copy.
    """
    return w.permute(0, 2, 3, 4, 1).contiguous()
