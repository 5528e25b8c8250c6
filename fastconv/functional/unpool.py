"""Unpooling with the signatures of `torch.nn.functional`.

Deterministic: of equal indices the last counts, whatever the threads, also under
`torch.use_deterministic_algorithms`, where torch's own refuses. Kernels exist on the CPU; what else
torch takes, torch computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import _native
from fastconv.ops.unpool import apply
from fastconv.ops.watch import FUNCTION, OP, SHORT, way_of

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]

F: Any = torch.nn.functional

Ints = int | Sequence[int]


def _unpool(
    axes: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Tensor:  # fmt: skip
    """As torch composes it: the sizes, checked, then the op; a single axis lies before one of extent 1."""
    way = way_of(input, indices)
    if (
        way not in (OP, FUNCTION, SHORT)
        or input.dim() != axes + 2
        or input.layout != torch.strided
        or not (_native.serves(input) or way == OP)
    ):
        return _of_torch(axes, input, indices, kernel_size, stride, padding, output_size)
    try:
        window, step, pad = (
            list(each) if isinstance(each, (tuple, list)) else [each] * axes
            for each in (kernel_size, kernel_size if stride is None else stride, padding)
        )
        sizes = list(F._unpool_output_size(input, window, step, pad, output_size))
        if axes == 3 and min(step) < 1:
            raise TypeError("not a stride")
        x, places = input, indices
        if axes == 1:
            x, places, sizes = x.unsqueeze(-1), places.unsqueeze(-1), [*sizes, 1]
        unrecorded = way == OP or (
            way == SHORT and not (torch.is_grad_enabled() and input.requires_grad)
        )
        op: Any = torch.ops.fastconv.max_unpool if unrecorded else apply
        y: Tensor = op(x, places, tuple(sizes))
        return y.squeeze(-1) if axes == 1 else y
    except (RuntimeError, TypeError, IndexError) as error:
        if torch.compiler.is_compiling() or str(error).startswith("fastconv: "):
            raise
    # torch's own call raises torch's own error, or knows what we do not.
    return _of_torch(axes, input, indices, kernel_size, stride, padding, output_size)


def _of_torch(axes: int, *given: Any) -> Tensor:
    y: Tensor = getattr(F, f"max_unpool{axes}d")(*given)
    return y


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As `torch.nn.functional.max_unpool1d`, each input put where its index says, between zeros:
    input and int64 indices [N, C, W] or [C, W] -> [N, C, Q] or [C, Q]. Extents, dtypes, errors: as
    `max_unpool2d`.
    """
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As `torch.nn.functional.max_unpool2d`, each input put where its index says, between zeros:
    input and int64 indices [N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q], where P is that
    of `output_size`, else (H - 1) * stride - 2 * padding + kernel_size; Q likewise.

    Kernels exist for float32, float64, bfloat16 and float16; what else torch takes, torch computes.
    Raises RuntimeError naming an index of `indices` that is outside the output, and what torch
    raises for arguments that do not fit.
    """
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As `torch.nn.functional.max_unpool3d`, each input put where its index says, between zeros:
    input and int64 indices [N, C, D, H, W] or [C, D, H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q].
    Extents, dtypes, errors: as `max_unpool2d`.
    """
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size)
