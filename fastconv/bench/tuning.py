"""``fastconv tune``: plans for layer sets, and the table of what was measured for them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastconv import _triton, tune
from fastconv.bench import machine, workloads
from fastconv.problem import Direction


def run(
    sets: list[str],
    batch: int | None,
    dtype: str,
    directions: list[Direction],
    seconds: Callable[[Callable[[], Tensor]], float] | None = None,
) -> dict[str, Any]:
    """Measures every kernel on the layers of the sets, and keeps the plans.

    Args:
        seconds: the clock of `tune.measure`; None takes the GPU's.

    Raises:
        ValueError: where Triton's kernels do not run.
    """
    reason = _triton.why_not()
    if reason is not None:
        raise ValueError(f"tune needs a GPU that Triton's kernels run on, but {reason}")
    rows = []
    for direction in directions:
        for work in workloads.workloads(sets, batch, dtype, direction):
            clock = {} if seconds is None else {"seconds": seconds}
            plan = tune.measure(direction, work.problem, **clock)
            rows.append(
                {
                    "set": work.set_name,
                    "layer": work.name,
                    "problem": work.problem.encode(),
                    "direction": direction,
                    "microseconds": plan.microseconds,
                    "configs": plan.configs,
                }
            )
    return {
        "schema": 1,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreter",
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "commit": machine.commit(),
        "rows": rows,
    }


def _best(row: dict[str, Any]) -> tuple[str, float]:
    """The fastest kernel of ours, and how often faster than torch's it is."""
    ours = {name: time for name, time in row["microseconds"].items() if name != tune.TORCH}
    if not ours:
        return "none", 0.0
    name = min(ours, key=ours.__getitem__)
    return name, row["microseconds"][tune.TORCH] / ours[name]


def render(result: dict[str, Any]) -> str:
    """A line a layer: torch's microseconds, the ratio to them, and the fastest kernel of ours."""
    lines = [
        f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}",
        f"{'layer':<28} {'':<6} {'torch us':>9} {'ratio':>6}  fastest of ours",
    ]
    ratios = []
    for row in result["rows"]:
        name, ratio = _best(row)
        ratios.append(ratio)
        lines.append(
            f"{row['layer']:<28.28} {row['direction']:<6} "
            f"{row['microseconds'][tune.TORCH]:>9.1f} {ratio:>6.2f}  {name}"
        )
    if all(ratio > 0 for ratio in ratios) and ratios:
        losses = sum(ratio < 1 for ratio in ratios)
        mean = statistics.geometric_mean(ratios)
        lines.append(f"geometric mean {mean:.2f} x torch; {losses} of {len(ratios)} slower")
    return "\n".join(lines)
