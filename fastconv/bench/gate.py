"""Right before fast: a layer is timed only after its result was compared with float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fastconv.bench.part import Operands, Part, Task


class WrongAnswerError(Exception):
    """A result is outside its tolerance: no time is reported for it."""


def parts(part: Part, result: Any, task: Task) -> dict[str, torch.Tensor]:
    """A call's result by direction."""
    results = result if task == "step" else (result,)
    return dict(zip(part.directions_of(task), results, strict=True))


def wanted(part: Part, operands: Operands, task: Task) -> dict[str, torch.Tensor]:
    """The same numbers in float64, by PyTorch."""
    result = part.torch_call(operands.map(torch.Tensor.double), task).result()
    return {each: t.detach() for each, t in parts(part, result, task).items()}


def error(have: torch.Tensor, want: torch.Tensor) -> float:
    """Largest error over the largest value."""
    return float((have.detach().double() - want).abs().max() / want.abs().max().clamp_min(1e-300))


def check(
    name: str, part: Part, problem: Any, result: Mapping[str, torch.Tensor],
    want: Mapping[str, torch.Tensor], numerics: Mapping[str, str],
) -> float:  # fmt: skip
    """The largest relative error of a result.

    Args:
        numerics: the class of the kernel that ran each direction.

    Raises:
        WrongAnswerError: naming direction, element and both numbers.
    """
    worst = 0.0
    for direction, have in result.items():
        expected = want[direction]
        wrong = part.bound(problem, direction, numerics[direction]).outside(have, expected)
        if wrong.any():
            index = tuple(wrong.nonzero()[0].tolist())
            raise WrongAnswerError(
                f"{name}: {direction} of {problem} is wrong in {int(wrong.sum())} of {wrong.numel()} elements, "
                f"first {index}: {have[index]:.9g}, not {expected[index]:.9g}"
            )
        worst = max(worst, error(have, expected))
    return worst
