"""The one place that launches Triton kernels: eagerly, into a graph, or into a list."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.library import wrap_triton

__all__ = ["Launch", "geometry", "launch", "recorded"]

from fastconv.problem import ConvProblem


@dataclasses.dataclass(frozen=True)
class Launch:
    """A launch that was asked for: what a compiler needs to know of it."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]


_record: contextvars.ContextVar[list[Launch] | None] = contextvars.ContextVar(
    "fastconv_triton_launches", default=None
)


@contextlib.contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Within the scope kernels are not launched but listed: operands may be on device "meta"."""
    launches: list[Launch] = []
    token = _record.set(launches)
    try:
        yield launches
    finally:
        _record.reset(token)


def launch(kernel: Any, grid: tuple[int, ...], **arguments: Any) -> None:
    """Runs `kernel` over `grid` on torch's current stream; an empty grid runs nothing.

    A call that is traced (fake tensors, a dispatch mode) goes into the graph by `wrap_triton`.
    """
    if 0 in grid:
        return
    launches = _record.get()
    if launches is not None:
        launches.append(Launch(kernel, grid, arguments))
        return
    traced = torch._C._len_torch_dispatch_stack() > 0 or any(
        isinstance(value, Tensor) and type(value) not in (Tensor, torch.nn.Parameter)
        for value in arguments.values()
    )
    (wrap_triton(kernel) if traced else kernel)[grid](**arguments)


def geometry(p: ConvProblem) -> dict[str, int]:
    """The extents and steps that every kernel is told, by the field's letters."""
    return {
        "N": p.N, "D": p.D, "H": p.H, "W": p.W, "Z": p.Z, "P": p.P, "Q": p.Q,
        "C": p.C, "K": p.K, "C_per_group": p.C_per_group, "K_per_group": p.K_per_group,
        "stride_d": p.stride_d, "stride_h": p.stride_h, "stride_w": p.stride_w,
        "pad_d": p.pad_d, "pad_h": p.pad_h, "pad_w": p.pad_w,
        "dilation_d": p.dilation_d, "dilation_h": p.dilation_h, "dilation_w": p.dilation_w,
        "T": p.T, "R": p.R, "S": p.S,
    }  # fmt: skip
