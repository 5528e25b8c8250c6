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
from fastconv.bench import gate, machine, workloads
from fastconv.bench.peers import Call, aten_call
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
    """Median seconds of a call, ``warm`` and ``cold``, everyone in every round in turn; ``ours``
    runs under ``fastconv.enabled()``, and ``flush`` before a cold call.
    """
    samples: dict[str, dict[str, list[float]]] = {name: {"warm": [], "cold": []} for name in field}
    names = list(field)
    for number in range(effort.rounds + 1):  # the first warms up
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
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


def _gate(t: workloads.Tensors, task: Direction, call: Call) -> tuple[str | None, float]:
    """The kernel that runs ``call`` under ``fastconv.enabled()``, None for torch's, and its error.

    Raises:
        gate.WrongAnswerError: where the result is outside its tolerance.
    """
    want = gate.wanted(t, task)
    with fastconv.enabled():
        call()
        kernel = last_kernel(task)
        if kernel is not None:
            numerics = registry.find(kernel).numerics
        else:
            numerics = "tf32" if t.problem.dtype == "f32" and _cuda.allows_tf32() else "exact"
        return kernel, gate.check(kernel or "torch", t, task, call, want, {task: numerics})


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
    here = workloads.tensors(work.problem)
    on_gpu = workloads.Tensors(here.problem, here.x.cuda(), here.w.cuda(), here.dy.cuda())
    last = on_gpu.to(torch.channels_last)
    calls = {
        "fastconv": aten_call(last, work.task),
        "torch channels_last": aten_call(last, work.task),
        "torch contiguous": aten_call(on_gpu, work.task),
    }
    kernel, error = _gate(on_gpu, work.task, calls["fastconv"])
    field, timing = prepare(calls, "fastconv", effort)
    buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    seconds = measure(field, "fastconv", effort, buffer.zero_)
    row = _named(work) | {"kernel": kernel or "torch", "error": error, "timing": timing}
    for kind in ("warm", "cold"):
        ours = seconds["fastconv"][kind]
        best = min(value[kind] for name, value in seconds.items() if name != "fastconv")
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


def _line(row: dict[str, Any]) -> str:
    if row["failure"]:
        return f"{row['layer']:<28.28} FAILED: {row['failure']}"
    numbers = [
        f"{row[f'{kind}_us']['fastconv']:>9.1f} {row[f'{kind}_ratio']:>7.2f}"
        for kind in ("warm", "cold")
    ]
    note = "" if row["timing"] == "graphs" else "  (calls, not graphs)"
    return f"{row['layer']:<28.28} {' '.join(numbers)}  {row['kernel']}{note}"


def render(result: dict[str, Any]) -> str:
    """A line a layer: microseconds warm and cold, and how often faster than torch's better format."""
    precision = "TF32 allowed" if result["allow_tf32"] else "TF32 off"
    lines = [
        f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}, {precision}",
        f"{'layer':<28} {'warm us':>9} {'x torch':>7} {'cold us':>9} {'x torch':>7}  kernel",
        *map(_line, result["rows"]),
    ]
    ratios = [row["warm_ratio"] for row in result["rows"] if not row["failure"]]
    if ratios:
        losses = sum(ratio < 1 for ratio in ratios)
        mean = statistics.geometric_mean(ratios)
        lines.append(f"geometric mean {mean:.2f} x torch warm; {losses} of {len(ratios)} slower")
    if failed := len(result["rows"]) - len(ratios):
        lines.append(f"{failed} of {len(result['rows'])} failed")
    if result["stopped"]:
        lines.append(f"stopped: {result['stopped']}, {result['left']} layers left")
    return "\n".join(lines)
