"""``fastconv bench --device cuda``: layers beside torch's cuDNN, warm and cold, by CUDA's events."""

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

#: More than the last cache of any GPU: zeroed before a cold call.
FLUSH_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Effort:
    """Samples of each kind, and the calls of one warm sample."""

    rounds: int = 15
    calls: int = 20


QUICK = Effort(rounds=5, calls=10)


def _timed(body: Callable[[], None], before: Callable[[], object] | None = None) -> float:
    """Seconds of the GPU between two events around ``body``."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    if before is not None:
        before()
    start.record()
    body()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def measure(calls: dict[str, Call], ours: str, effort: Effort) -> dict[str, dict[str, float]]:
    """Median seconds of a call, ``warm`` and ``cold``, everyone in every round in turn; ``ours``
    runs under ``fastconv.enabled()``.
    """
    buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    samples: dict[str, dict[str, list[float]]] = {name: {"warm": [], "cold": []} for name in calls}
    names = list(calls)
    for number in range(effort.rounds + 1):  # the first warms up: cuDNN searches in it
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            call = calls[name]

            def many(call: Call = call) -> None:
                for _ in range(effort.calls):
                    call()

            with fastconv.enabled(name == ours):
                call()
                warm = _timed(many) / effort.calls
                cold = _timed(lambda call=call: call(), buffer.zero_)  # type: ignore[misc]
            if number:
                samples[name]["warm"].append(warm)
                samples[name]["cold"].append(cold)
    return {
        name: {kind: statistics.median(values) for kind, values in kinds.items()}
        for name, kinds in samples.items()
    }


def run_one(work: Workload, effort: Effort) -> dict[str, Any]:
    """Gate and timing of one layer.

    Raises:
        gate.WrongAnswerError: where fastconv's result is outside its tolerance.
        ValueError: for a step, whose backward runs in a thread that tells no kernel.
    """
    if work.task == "step":
        raise ValueError("direction is 'step'; on cuda it must be fprop, dgrad or wgrad")
    here = workloads.tensors(work.problem)
    on_gpu = workloads.Tensors(here.problem, here.x.cuda(), here.w.cuda(), here.dy.cuda())
    last = on_gpu.to(torch.channels_last)
    calls = {
        "fastconv": aten_call(last, work.task),
        "torch channels_last": aten_call(last, work.task),
        "torch contiguous": aten_call(on_gpu, work.task),
    }
    want = gate.wanted(on_gpu, work.task)
    with fastconv.enabled():
        calls["fastconv"]()
        kernel = last_kernel(work.task)
        if kernel is not None:
            numerics = registry.find(kernel).numerics
        else:
            numerics = "tf32" if work.problem.dtype == "f32" and _cuda.allows_tf32() else "exact"
        error = gate.check(
            "fastconv", on_gpu, work.task, calls["fastconv"], want, {work.task: numerics}
        )
    seconds = measure(calls, "fastconv", effort)
    row: dict[str, Any] = {
        "set": work.set_name,
        "layer": work.name,
        "problem": work.problem.encode(),
        "task": work.task,
        "kernel": kernel or "torch",
        "error": error,
    }
    for kind in ("warm", "cold"):
        ours = seconds["fastconv"][kind]
        best = min(value[kind] for name, value in seconds.items() if name != "fastconv")
        row[f"{kind}_us"] = {name: value[kind] * 1e6 for name, value in seconds.items()}
        row[f"{kind}_ratio"] = best / ours
        row[f"{kind}_tflops"] = work.flops / ours * 1e-12
    return row


def run(
    sets: list[str], batch: int | None, dtype: str, task: workloads.Task | None, quick: bool
) -> dict[str, Any]:
    """Measures the layers on the current GPU with ``cudnn.benchmark`` on.

    Raises:
        ValueError: where there is no GPU or no kernel for it.
    """
    reason = _cuda.why_not() or (None if _native.has_cuda else _triton.why_not())
    if reason is not None:
        raise ValueError(f"device is 'cuda', but {reason}")
    works = workloads.workloads(sets, batch, dtype, task)
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        rows = [run_one(work, QUICK if quick else Effort()) for work in works]
    finally:
        torch.backends.cudnn.benchmark = before
    return {
        "schema": 1,
        "device": torch.cuda.get_device_name(),
        "capability": _cuda.capability(),
        "allow_tf32": _cuda.allows_tf32(),
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "commit": machine.commit(),
        "rows": rows,
    }


def render(result: dict[str, Any]) -> str:
    """A line a layer: microseconds warm and cold, and how often faster than torch's better format."""
    precision = "TF32 allowed" if result["allow_tf32"] else "TF32 off"
    lines = [
        f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}, {precision}",
        f"{'layer':<28} {'warm us':>9} {'x torch':>7} {'cold us':>9} {'x torch':>7}  kernel",
    ]
    for row in result["rows"]:
        numbers = [
            f"{row[f'{kind}_us']['fastconv']:>9.1f} {row[f'{kind}_ratio']:>7.2f}"
            for kind in ("warm", "cold")
        ]
        lines.append(f"{row['layer']:<28.28} {' '.join(numbers)}  {row['kernel']}")
    ratios = [row["warm_ratio"] for row in result["rows"]]
    if ratios:
        losses = sum(ratio < 1 for ratio in ratios)
        mean = statistics.geometric_mean(ratios)
        lines.append(f"geometric mean {mean:.2f} x torch warm; {losses} of {len(ratios)} slower")
    return "\n".join(lines)
