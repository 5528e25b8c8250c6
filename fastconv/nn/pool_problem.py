"""The problem that a pooling layer was called with, for `fastconv.explain`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastconv.families.pool import PoolProblem
from fastconv.ops.layout import strides_like_channels_last
from fastconv.tensors import DTYPES, layout_of

__all__ = ["direction_of", "problem_of", "record", "windows_of"]


def direction_of(layer: Any) -> str:
    """Of a forward call."""
    return "fprop"


def _triple(value: Any, axes: int, rest: int) -> list[int]:
    """A number for each of three axes, of one for all or one each of the last."""
    given = list(value) if isinstance(value, (tuple, list)) else [value]
    given *= axes // len(given)
    return [rest] * (3 - axes) + given


def problem_of(layer: Any, x: Tensor, y: Any) -> PoolProblem | None:
    """The problem of a pool called with ``x`` [N, C, ...], giving ``y``; None for other dtypes, for an
    image without a batch, and for the norm of a window, which is a mean of other numbers.
    """
    y = y[0] if isinstance(y, tuple) else y
    axes = x.dim() - 2
    if (
        x.dtype not in DTYPES
        or not type(layer).__name__.endswith(f"Pool{axes}d")
        or "LP" in type(layer).__name__
    ):
        return None
    adaptive, mode = (
        hasattr(layer, "output_size"),
        "max" if hasattr(layer, "return_indices") else "avg",
    )
    values: dict[str, Any] = {"mode": mode, "adaptive": adaptive}
    if not adaptive:
        values |= windows_of(layer, axes)
    if mode == "avg" and not adaptive:
        values["count_include_pad"] = layer.count_include_pad
        values["divisor"] = getattr(layer, "divisor_override", None) or 0
    keeps = axes == 2 or (axes == 3 and mode == "max" and not adaptive)
    return record(x, y, keeps, values)


def windows_of(layer: Any, axes: int) -> dict[str, int]:
    """The fields of a record that a layer's windows are."""
    values: dict[str, int] = {}
    for name, rest, given in (
        ("TRS", 1, layer.kernel_size),
        ("stride", 1, layer.stride),
        ("pad", 0, getattr(layer, "padding", 0)),
        ("dilation", 1, getattr(layer, "dilation", 1)),
    ):
        names = name if name == "TRS" else [f"{name}_{axis}" for axis in "dhw"]
        values |= dict(zip(names, _triple(given, axes, rest), strict=True))
    return values


def record(x: Tensor, y: Tensor, keeps: bool, values: dict[str, Any]) -> PoolProblem:
    """The problem of a pool of ``x`` [N, C, ...] to ``y``; `values` are its other fields, `keeps` says whether
    the result of an image in channels last is so too.
    """
    last = keeps and strides_like_channels_last(x.shape, x.stride())
    either = last and x.is_contiguous(
        memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    )
    fields: dict[str, Any] = {"N": x.shape[0], "C": x.shape[1], "dtype": DTYPES[x.dtype]}
    for letters, t in (("DHW", x), ("ZPQ", y)):
        fields |= dict(zip(letters, _sizes(t), strict=True))
    return PoolProblem(
        **fields | values,
        x_layout="nhwc" if either else layout_of(x), y_layout="nhwc" if last else "nchw",
    )  # fmt: skip


def _sizes(t: Tensor) -> list[int]:
    """The last three extents, of fewer spatial axes with ones before them."""
    return [1] * (5 - t.dim()) + list(t.shape[2:])
