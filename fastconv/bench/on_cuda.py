"""``fastconv bench --device cuda``: layers beside torch's cuDNN, warm and cold, by CUDA's events.

What stands between two events is a graph of captured calls, so that the host's part is not counted.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import torch

import fastconv
from fastconv import _cuda, _native, _triton, registry
from fastconv.bench import gate, machine, tables, timing, workloads
from fastconv.bench.part import Operands, Part
from fastconv.bench.peers import OURS, Prepared
from fastconv.bench.timing import Call
from fastconv.bench.workloads import Workload
from fastconv.policy import last_kernel
from fastconv.problem import Direction

#: More than the last cache of any GPU: zeroed before a cold call.
FLUSH_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Effort:
    """Samples of each kind, and the calls of one warm sample."""

    rounds: int = 15
    calls: int = 20


QUICK = Effort(rounds=5, calls=10)


def _timed(body: Callable[[], object], before: Callable[[], object] | None = None) -> float:
    """Seconds of the GPU between two events around ``body``."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    if before is not None:
        before()
    start.record()
    body()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


@dataclasses.dataclass(frozen=True)
class Timed:
    """One who takes part: the work of one call, and of the calls of a warm sample."""

    one: Callable[[], object]
    many: Callable[[], object]


def _queued(call: Call, effort: Effort) -> Timed:
    """Calls from Python: where they take longer than the GPU's work, they are what is timed."""

    def many() -> None:
        for _ in range(effort.calls):
            call()

    return Timed(call, many)


def prepare(calls: dict[str, Call], ours: str, effort: Effort) -> tuple[dict[str, Timed], str]:
    """What is timed of each, and how: ``graphs``, or ``calls`` and the reason, for all alike."""
    queued = {name: _queued(call, effort) for name, call in calls.items()}
    graphs = {}
    for name, work in queued.items():
        try:
            with fastconv.enabled(name == ours):
                work.one()  # cuDNN searches in it
                graphs[name] = Timed(_cuda.captured(work.one), _cuda.captured(work.many))
        except Exception as error:
            if _cuda.is_lost():
                raise
            return queued, f"calls: no graph of {name}: {error}"
    return graphs, "graphs"


def measure(
    field: dict[str, Timed], ours: str, effort: Effort, flush: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """Median seconds of a call, ``warm`` and ``cold``, everyone in every round, in orders that
    `timing.orders` draws; ``ours`` runs under ``fastconv.enabled()``, and ``flush`` before a cold call.
    """
    samples: dict[str, dict[str, list[float]]] = {name: {"warm": [], "cold": []} for name in field}
    names = list(field)
    drawn = timing.orders(len(names))
    for number in range(effort.rounds + 1):  # the first warms up
        for name in (names[place] for place in next(drawn)):
            work = field[name]
            with fastconv.enabled(name == ours):
                work.one()
                warm = _timed(work.many) / effort.calls
                cold = _timed(work.one, flush)
            if number:
                samples[name]["warm"].append(warm)
                samples[name]["cold"].append(cold)
    return {
        name: {kind: statistics.median(values) for kind, values in kinds.items()}
        for name, kinds in samples.items()
    }


def _gate(
    part: Part, operands: Operands, task: Direction, prepared: Prepared
) -> tuple[str | None, float]:
    """The kernel that runs a call under ``fastconv.enabled()``, None for torch's, and its error.

    Raises:
        gate.WrongAnswerError: where the result is outside its tolerance.
    """
    want = gate.wanted(part, operands, task)
    with fastconv.enabled():
        prepared.call()
        kernel = last_kernel(task, part.name)
        if kernel is not None:
            numerics = registry.find(kernel).numerics
        else:
            is_tf32 = operands.problem.dtype == "f32" and _cuda.allows_tf32()
            numerics = "tf32" if is_tf32 else "exact"
        result = gate.parts(part, prepared.result(), task)
    name = kernel or "torch"
    return kernel, gate.check(name, part, operands.problem, result, want, {task: numerics})


def _named(work: Workload) -> dict[str, Any]:
    """What every row begins with."""
    return {
        "set": work.set_name,
        "layer": work.name,
        "problem": work.problem.encode(),
        "task": work.task,
    }


def run_one(work: Workload, effort: Effort) -> dict[str, Any]:
    """Gate and timing of one layer.

    Raises:
        gate.WrongAnswerError: where fastconv's result is outside its tolerance.
    """
    assert work.task != "step"
    part = work.part
    on_gpu = part.operands(work.problem, 0).map(torch.Tensor.cuda)
    last = on_gpu.to(torch.channels_last)
    prepared = {
        OURS: part.torch_call(on_gpu if work.problem.x_layout == "nchw" else last, work.task),
        "torch channels_last": part.torch_call(last, work.task),
        "torch contiguous": part.torch_call(on_gpu, work.task),
    }
    kernel, error = _gate(part, on_gpu, work.task, prepared[OURS])
    calls = {name: each.call for name, each in prepared.items()}
    field, how = prepare(calls, OURS, effort)
    buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    seconds = measure(field, OURS, effort, buffer.zero_)
    row = _named(work) | {"kernel": kernel or "torch", "error": error, "timing": how}
    for kind in ("warm", "cold"):
        ours = seconds[OURS][kind]
        best = min(value[kind] for name, value in seconds.items() if name != OURS)
        row[f"{kind}_us"] = {name: value[kind] * 1e6 for name, value in seconds.items()}
        row[f"{kind}_ratio"] = best / ours
        row[f"{kind}_tflops"] = work.flops / ours * 1e-12
    return row | {"failure": None}


def _row(work: Workload, effort: Effort) -> dict[str, Any]:
    """`run_one`, or a row that says why there is nothing."""
    try:
        return run_one(work, effort)
    except Exception as error:  # the others are still to be measured
        return _named(work) | {"failure": f"{type(error).__name__}: {error}"}


def _head() -> dict[str, Any]:
    return {
        "schema": 2,
        "device": torch.cuda.get_device_name(),
        "capability": _cuda.capability(),
        "allow_tf32": _cuda.allows_tf32(),
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "commit": machine.commit(),
    }


def run(
    sets: list[str],
    batch: int | None,
    dtype: str,
    task: workloads.Task,
    quick: bool,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measures the layers on the current GPU with ``cudnn.benchmark`` on.

    A layer that is wrong or does not run is a row that says so.

    Args:
        keep: given the result so far after each layer.

    Raises:
        ValueError: where there is no GPU or no kernel for it; for a step, whose backward runs in a
            thread that tells no kernel.
    """
    reason = _cuda.why_not() or (None if _native.has_cuda else _triton.why_not())
    if reason is not None:
        raise ValueError(f"device is 'cuda', but {reason}")
    if task == "step":
        raise ValueError("direction is 'step'; on cuda it must be fprop, dgrad or wgrad")
    waiting = workloads.workloads(sets, batch, dtype, task)
    result = _head() | {"stopped": None, "left": len(waiting), "rows": []}
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        for work in waiting:
            row = _row(work, QUICK if quick else Effort())
            result["rows"].append(row)
            result["left"] -= 1
            if row["failure"] and _cuda.is_lost():
                result["stopped"] = "the GPU answers this process no more"
            keep(result)
            if result["stopped"]:
                break
    finally:
        torch.backends.cudnn.benchmark = before
    return result


def is_whole(result: dict[str, Any]) -> bool:
    """Whether every layer was measured."""
    return not result["left"] and not any(row["failure"] for row in result["rows"])


def _cells(row: dict[str, Any]) -> list[str]:
    if row["failure"]:
        return [row["layer"], f"FAILED: {row['failure']}", *("",) * 4]
    numbers = []
    for kind in ("warm", "cold"):
        numbers += [f"{row[f'{kind}_us'][OURS]:.1f}", f"{row[f'{kind}_ratio']:.2f}"]
    note = "" if row["timing"] == "graphs" else " (calls, not graphs)"
    return [row["layer"], row["kernel"] + note, *numbers]


def render(result: dict[str, Any]) -> tables.Blocks:
    """A line a layer: microseconds warm and cold, and how often faster than torch's better format."""
    precision = "TF32 allowed" if result["allow_tf32"] else "TF32 off"
    head = f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}, {precision}"
    header = ["layer", "kernel", "warm µs", "x torch", "cold µs", "x torch"]
    body = tables.table(header, map(_cells, result["rows"]), left=2)
    lines = []
    ratios = [row["warm_ratio"] for row in result["rows"] if not row["failure"]]
    if ratios:
        losses = sum(ratio < 1 for ratio in ratios)
        mean = statistics.geometric_mean(ratios)
        lines.append(f"geometric mean {mean:.2f} x torch warm; {losses} of {len(ratios)} slower")
    if failed := len(result["rows"]) - len(ratios):
        lines.append(f"{failed} of {len(result['rows'])} failed")
    if result["stopped"]:
        lines.append(f"stopped: {result['stopped']}, {result['left']} layers left")
    return [head, body, "\n".join(lines)]
