"""``fastconv tune``: plans for layer sets, and the table of what was measured for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from fastconv import _cuda, _triton, families, tune
from fastconv.bench import machine, tables, workloads
from fastconv.bench.workloads import Workload
from fastconv.problem import Direction
from fastconv.problem_text import Problem

Clock = Callable[[Callable[[], object]], float]


def jobs(
    sets: list[str], batch: int | None, dtype: str, directions: list[Direction]
) -> list[tuple[Direction, Workload]]:
    """What is measured, the most wanted first; a problem that several sets share comes once."""
    found: dict[tuple[Direction, Problem], Workload] = {}
    for direction in directions:
        for work in workloads.workloads(sets, batch, dtype, direction):
            found.setdefault((direction, work.problem), work)
    every = [(direction, work) for (direction, _), work in found.items()]
    return sorted(every, key=lambda job: families.of(job[1].problem).place(job[1].problem))


def _row(direction: Direction, work: Workload, clock: dict[str, Clock]) -> dict[str, Any]:
    """What was measured of a problem, or why nothing was."""
    row: dict[str, Any] = {
        "set": work.set_name,
        "layer": work.name,
        "problem": work.problem.encode(),
        "direction": direction,
    }
    try:
        plan = tune.measure(direction, work.problem, **clock)
    except Exception as error:  # the others are still to be measured
        failure = f"{type(error).__name__}: {error}"
        return row | {"failure": failure, "microseconds": {}, "configs": {}, "faults": {}}
    return row | {
        "failure": None,
        "microseconds": plan.microseconds,
        "configs": plan.configs,
        "faults": plan.faults,
    }


def _head() -> dict[str, Any]:
    return {
        "schema": 2,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreter",
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "allow_tf32": _cuda.allows_tf32(),
        "commit": machine.commit(),
    }


def run(
    sets: list[str],
    batch: int | None,
    dtype: str,
    directions: list[Direction],
    seconds: Clock | None = None,
    limit: float | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measures every kernel on the layers of the sets, and keeps the plans.

    A problem that fails is a row that says so.

    Args:
        seconds: the clock of `tune.measure`; None takes the GPU's.
        limit: no problem is begun after so many seconds.
        keep: given the result so far after each problem.

    Raises:
        ValueError: where Triton's kernels do not run.
    """
    reason = _triton.why_not()
    if reason is not None:
        raise ValueError(f"tune needs a GPU that Triton's kernels run on, but {reason}")
    clock = {} if seconds is None else {"seconds": seconds}
    waiting = jobs(sets, batch, dtype, directions)
    result = _head() | {"stopped": None, "left": len(waiting), "rows": []}
    begin = time.monotonic()
    for direction, work in waiting:
        if limit is not None and time.monotonic() - begin >= limit:
            result["stopped"] = f"after {limit:g} s"
            break
        row = _row(direction, work, clock)
        result["rows"].append(row)
        result["left"] -= 1
        if row["failure"] and _cuda.is_lost():
            result["stopped"] = "the GPU answers this process no more"
            break
        keep(result)
    keep(result)
    return result


def is_whole(result: dict[str, Any]) -> bool:
    """Whether no problem failed, and no kernel."""
    return not any(row["failure"] or row["faults"] for row in result["rows"])


def _best(row: dict[str, Any]) -> tuple[str, float]:
    """The fastest kernel of ours, and how often faster than torch's it is; 0 where one of them has
    no time.
    """
    ours = {name: time for name, time in row["microseconds"].items() if name != tune.TORCH}
    if not ours:
        return "none", 0.0
    name = min(ours, key=ours.__getitem__)
    return name, row["microseconds"].get(tune.TORCH, 0.0) / ours[name]


def _cells(row: dict[str, Any]) -> list[list[str]]:
    """A row of the table, and one for each kernel that failed."""
    named = [row["layer"], row["direction"]]
    if row["failure"]:
        return [[*named, f"FAILED: {row['failure']}", "", ""]]
    name, ratio = _best(row)
    torchs = row["microseconds"].get(tune.TORCH, float("nan"))
    faults = [
        ["", "", f"{kernel} FAILED: {text}", "", ""] for kernel, text in row["faults"].items()
    ]
    return [[*named, name, f"{torchs:.1f}", f"{ratio:.2f}"], *faults]


def render(result: dict[str, Any]) -> tables.Blocks:
    """A line a layer: the fastest kernel of ours, torch's microseconds, and the ratio to them."""
    head = f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}"
    cells = [line for row in result["rows"] for line in _cells(row)]
    header = ["layer", "", "fastest of ours", "torch µs", "ratio"]
    lines = []
    ratios = [ratio for ratio in (_best(row)[1] for row in result["rows"]) if ratio > 0]
    if ratios:
        losses = sum(ratio < 1 for ratio in ratios)
        mean = statistics.geometric_mean(ratios)
        lines.append(f"geometric mean {mean:.2f} x torch; {losses} of {len(ratios)} slower")
    if missing := len(result["rows"]) - len(ratios):
        lines.append(f"{missing} of {len(result['rows'])} without a ratio")
    if result["stopped"]:
        lines.append(f"stopped: {result['stopped']}, {result['left']} problems left")
    return [head, tables.table(header, cells, left=3), "\n".join(lines)]
