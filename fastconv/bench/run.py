"""One run: for each layer the gate, then the timing of everyone who takes part."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TextIO

import torch

from fastconv import registry
from fastconv.bench import gate, machine, peers, timing, workloads
from fastconv.bench.workloads import Workload
from fastconv.policy import last_kernel
from fastconv.problem import DIRECTIONS, ConvProblem, Direction

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What ``fastconv bench`` was asked for."""

    sets: list[str]
    threads: int
    batch: int | None = None
    dtype: str = "f32"
    task: workloads.Task | None = None
    regime: peers.Regime = "packed"
    peers: list[str] = dataclasses.field(default_factory=list)
    quick: bool = False


class Progress:
    """A bar on stderr: on a terminal one line that is rewritten, elsewhere a line for each tenth."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._done, self._stream = total, 0, stream

    def step(self, name: str) -> None:
        """One more is done; ``name`` comes next."""
        done, total = self._done, self._total
        self._done += 1
        if self._stream.isatty():
            filled = 30 * done // max(total, 1)
            self._stream.write(f"\r[{'#' * filled:<30}] {done}/{total} {name:<34.34}")
        elif done * 10 // max(total, 1) != (done - 1) * 10 // max(total, 1):
            self._stream.write(f"{done}/{total} {name}\n")
        self._stream.flush()

    def close(self) -> None:
        if self._stream.isatty():
            self._stream.write("\r" + " " * 79 + "\r")
            self._stream.flush()


def kernels_of(call: peers.Call, task: workloads.Task) -> dict[Direction, str | None]:
    """The kernel that ran each direction of a call; None where torch's own did."""
    call()
    directions: list[Direction] = list(DIRECTIONS) if task == "step" else [task]
    return {each: last_kernel(each) for each in directions}


def numerics_of(kernels: dict[Direction, str | None]) -> dict[Direction, str]:
    """The class of each kernel; torch's are plain sums."""
    return {
        each: registry.find(name).numerics if name else "exact" for each, name in kernels.items()
    }


def run_one(
    work: Workload, settings: Settings, peak: float | None, effort: timing.Effort
) -> dict[str, Any]:
    """Gate and timing of one layer, as a row of the result.

    Raises:
        gate.WrongAnswerError: where fastconv's result is outside its tolerance.
    """
    tensors = workloads.tensors(work.problem)
    field = peers.field(work.task, settings.regime, peers.others(settings.peers))
    kernels: dict[Direction, str | None] = {}
    want = gate.wanted(tensors, work.task)
    entries, errors = [], {}
    for peer in field:
        call = peer.make(tensors, work.task)
        if call is None:
            continue
        with peer.scope():
            if peer is field[0]:
                kernels = kernels_of(call, work.task)
                numerics = numerics_of(kernels)
                errors[peer.name] = gate.check(peer.name, tensors, work.task, call, want, numerics)
            elif peer.runtime == "torch":
                result = gate.parts(call(), work.task)
                errors[peer.name] = max(
                    gate.error(have, want[each]) for each, have in result.items()
                )
        entries.append(timing.Entry(peer, call))
    foreign = timing.measure(entries, effort)
    ours, rest = entries[0], entries[1:]
    best = min(
        (entry for entry in rest if entry.peer.runtime == "torch"), key=lambda entry: entry.median
    )
    gflops = work.flops / ours.median * 1e-9
    return {
        "set": work.set_name,
        "layer": work.name,
        "count": work.count,
        "problem": work.problem.encode(),
        "task": work.task,
        "regime": settings.regime if work.task == "fprop" else "unpacked",
        "kernel": "+".join(kernel or "torch" for kernel in kernels.values()),
        "us_p50": ours.median * 1e6,
        "us_p20": ours.percentile(20) * 1e6,
        "us_p80": ours.percentile(80) * 1e6,
        "gflops": gflops,
        "percent_of_peak": 100 * gflops / peak if peak else None,
        "best_peer": best.peer.name,
        "best_peer_us": best.median * 1e6,
        "ratio": best.median / ours.median,
        "peers_us": {entry.peer.name: entry.median * 1e6 for entry in rest},
        "error": errors.get(ours.peer.name),
        "torch_error": min(
            (value for name, value in errors.items() if name != ours.peer.name), default=None
        ),
        "foreign_cores": round(foreign, 3),
    }


def run(settings: Settings, stream: TextIO | None = None) -> dict[str, Any]:
    """Measures everything that was asked for.

    Returns:
        What ``--json`` writes: machine, versions, commit, settings, and a row for each layer. A
        problem that several
        sets share is measured once.
    """
    torch.set_num_threads(settings.threads)
    keeps_memory = timing.keep_freed_memory()
    effort = timing.QUICK if settings.quick else timing.Effort()
    works = workloads.workloads(settings.sets, settings.batch, settings.dtype, settings.task)
    peak = machine.peak(settings.threads)
    progress = Progress(len(works), stream or sys.stderr)
    measured: dict[tuple[ConvProblem, str], dict[str, Any]] = {}
    rows = []
    for work in works:
        progress.step(work.name)
        key = (work.problem, work.task)
        if key not in measured:
            measured[key] = run_one(work, settings, peak, effort)
        rows.append(measured[key] | {"set": work.set_name, "layer": work.name, "count": work.count})
    progress.close()
    return {
        "schema": SCHEMA,
        "machine": machine.facts() | {"threads": settings.threads, "fma_peak_gflops": peak},
        "versions": machine.versions(settings.peers),
        "commit": machine.commit(),
        "settings": dataclasses.asdict(settings),
        "freed_memory_kept": keeps_memory,
        "rows": rows,
    }
