"""A row on torch's tensors: layouts turned where a row wants others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastconv import families, plans
from fastconv.problem_text import Problem
from fastconv.tensors import lifted
from fastconv.triton.choice import ask
from fastconv.triton.row import Args, Config, Row

__all__ = ["config_for", "run", "run_forward", "run_wgrad"]


def config_for(row: Row, p: Problem, seen: Problem) -> Config:
    """The row's measured configuration for the problem, else its choice without tuning for the
    problem as the row sees it.
    """
    plan = plans.measured(row.direction, p)
    if plan is not None and row.name in plan.configs:
        return Config(**plan.configs[row.name])
    return row.configs(seen)[0]


def _format(layout: str) -> torch.memory_format:
    return torch.channels_last_3d if layout == "nhwc" else torch.contiguous_format


def _room(t: Tensor, layout: str) -> Tensor:
    """Room for `t` [N, C, D, H, W] in `layout`: `t` itself where it lies so."""
    if t.is_contiguous(memory_format=_format(layout)):
        return t
    return torch.empty_like(t, memory_format=_format(layout))


def run(
    row: Row,
    p: Problem,
    operands: Mapping[str, Tensor | None],
    activation: str = "none",
    config: Config | None = None,
) -> None:
    """Runs the row on operands by name, of one to three spatial axes.

    Activations and indices, "out" among them, are of any dense strides; a vector of one number per channel is
    taken to the type of the sums.
    """
    _, seen = ask(row, p)
    _, order = p.squeezed()
    given: dict[str, Tensor] = {}
    written: list[tuple[Tensor, Tensor]] = []
    wide = torch.float64 if p.dtype == "f64" else torch.float32
    for each in families.named(row.family).operands[row.direction]:
        t = operands.get(each.name)
        if t is None:
            continue
        if each.kind == "channels":
            given[each.name] = t.to(wide).contiguous()
            continue
        t = given[each.name] = lifted(t)
        if each.kind == "weight":
            given[each.name] = t.permute(0, 1, *(2 + axis for axis in order))
        else:
            layout = seen.layout(each.side)
            if each.written:
                given[each.name] = _room(t, layout)
                written.append((t, given[each.name]))
            else:
                given[each.name] = t.contiguous(memory_format=_format(layout))
    args = Args(**given, activation=activation)
    row.run(seen, args, config or config_for(row, p, seen))
    for target, room in written:
        if room is not target:
            target.copy_(room)


def run_forward(
    row: Row,
    p: Problem,
    source: Tensor,
    w: Tensor,
    out: Tensor,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
    config: Config | None = None,
) -> None:
    """Convolution's fprop or dgrad into `out`; `source` is x or dy."""
    operands = {
        ("x" if row.direction == "fprop" else "dy"): source,
        "w": w,
        "out": out,
        "scale": scale,
        "shift": shift,
        "residual": residual,
    }
    run(row, p, operands, activation, config)


def run_wgrad(
    row: Row, p: Problem, x: Tensor, dy: Tensor, out: Tensor, config: Config | None = None
) -> None:
    """Convolution's wgrad into `out`, a weight of any strides."""
    run(row, p, {"x": x, "dy": dy, "out": out}, config=config)
