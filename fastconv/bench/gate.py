"""Right before fast: a layer is timed only after its result was compared with float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fastconv.bench.peers import Call, aten_call
from fastconv.bench.workloads import Task, Tensors
from fastconv.problem import Direction
from fastconv.testing import tolerance


class WrongAnswerError(Exception):
    """A result is outside its tolerance: no time is reported for it."""


def parts(
    result: torch.Tensor | tuple[torch.Tensor, ...], task: Task
) -> dict[Direction, torch.Tensor]:
    """A call's result by direction."""
    if task == "step":
        y, dx, dw = result
        return {"fprop": y, "dgrad": dx, "wgrad": dw}
    assert isinstance(result, torch.Tensor)
    return {task: result}


def wanted(t: Tensors, task: Task) -> dict[Direction, torch.Tensor]:
    """The same numbers in float64, by PyTorch."""
    wide = Tensors(t.problem, t.x.double(), t.w.double(), t.dy.double())
    return {each: result.detach() for each, result in parts(aten_call(wide, task)(), task).items()}


def error(have: torch.Tensor, want: torch.Tensor) -> float:
    """Largest error over the largest value."""
    return float((have.detach().double() - want).abs().max() / want.abs().max().clamp_min(1e-300))


def check(
    name: str, t: Tensors, task: Task, call: Call, want: Mapping[Direction, torch.Tensor],
    numerics: Mapping[Direction, str],
) -> float:  # fmt: skip
    """The largest relative error of the call's results.

    Args:
        numerics: the class of the kernel that runs each direction.

    Raises:
        WrongAnswerError: naming direction, element and both numbers.
    """
    worst = 0.0
    for direction, have in parts(call(), task).items():
        expected = want[direction]
        bound = tolerance.real(t.problem, direction, numerics[direction])
        wrong = bound.outside(have, expected)
        if wrong.any():
            index = tuple(wrong.nonzero()[0].tolist())
            raise WrongAnswerError(
                f"{name}: {direction} of {t.problem} is wrong in {int(wrong.sum())} of {wrong.numel()} elements, "
                f"first {index}: {have[index]:.9g}, not {expected[index]:.9g}"
            )
        worst = max(worst, error(have, expected))
    return worst
