"""A row on torch's tensors: layouts turned where a row wants others."""

from __future__ import annotations

import torch
from torch import Tensor

from fastconv import tune
from fastconv.problem import ConvProblem
from fastconv.tensors import lifted
from fastconv.triton.choice import offer
from fastconv.triton.row import Args, Config, Row

__all__ = ["run_forward", "run_wgrad"]


def _dense(t: Tensor, layout: str) -> Tensor:
    """`t` [N, C, D, H, W] dense in `layout`: itself, or a copy."""
    last = layout == "nhwc"
    return t.contiguous(memory_format=torch.channels_last_3d if last else torch.contiguous_format)


def _wide(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A vector of one number per channel in the type of the sums."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return None if t is None else t.to(wide).contiguous()


def _empty(t: Tensor, layout: str) -> Tensor:
    """Room for `t` [N, C, D, H, W] in `layout`: `t` itself where it lies so."""
    last = layout == "nhwc"
    if t.is_contiguous(memory_format=torch.channels_last_3d if last else torch.contiguous_format):
        return t
    return torch.empty_like(
        t, memory_format=torch.channels_last_3d if last else torch.contiguous_format
    )


def run_forward(
    row: Row,
    p: ConvProblem,
    source: Tensor,
    w: Tensor,
    out: Tensor,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
    config: Config | None = None,
) -> None:
    """fprop or dgrad into `out`, a tensor of any dense strides; `source` is x or dy."""
    _, seen = offer(row, p)
    fprop = row.direction == "fprop"
    source_layout, out_layout = (
        (seen.x_layout, seen.y_layout) if fprop else (seen.y_layout, seen.x_layout)
    )
    target = lifted(out)
    room = _empty(target, out_layout)
    operand = _dense(lifted(source), source_layout)
    args = Args(
        room,
        x=operand if fprop else None,
        dy=None if fprop else operand,
        w=lifted(w),
        scale=_wide(scale, out.dtype),
        shift=_wide(shift, out.dtype),
        residual=None if residual is None else _dense(lifted(residual), out_layout),
        activation=activation,
    )
    row.run(seen, args, config or tune.config_for(row, p, seen))
    if room is not target:
        target.copy_(room)


def run_wgrad(
    row: Row, p: ConvProblem, x: Tensor, dy: Tensor, out: Tensor, config: Config | None = None
) -> None:
    """wgrad into `out`, a weight of any strides."""
    _, seen = offer(row, p)
    args = Args(
        lifted(out), x=_dense(lifted(x), seen.x_layout), dy=_dense(lifted(dy), seen.y_layout)
    )
    row.run(seen, args, config or tune.config_for(row, p, seen))
