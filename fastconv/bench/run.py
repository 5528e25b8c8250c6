"""One run: for each layer the gate, then the timing of everyone who takes part."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from fastconv import registry
from fastconv.bench import gate, machine, peers, tables, timing, workloads
from fastconv.bench.part import Operands, Part, Task
from fastconv.bench.workloads import Workload
from fastconv.policy import last_kernel

SCHEMA = 2
#: Of the largest value, what an engine's results may be wrong by: some use Winograd with larger
#: tiles than ours may, and that alone does not leave them out.
ENGINE_BOUND = 1e-3


@dataclasses.dataclass(frozen=True)
class Settings:
    """What ``fastconv bench`` was asked for."""

    sets: list[str]
    threads: int
    batch: int | None = None
    dtype: str = "f32"
    task: Task | None = None
    regime: peers.Regime = "packed"
    peers: list[str] = dataclasses.field(default_factory=lambda: [peers.ALL])
    quick: bool = False

    @property
    def effort(self) -> timing.Effort:
        return timing.QUICK if self.quick else timing.Effort()


def kernels_of(
    prepared: peers.Prepared, part: Part, task: Task
) -> dict[str, str | None]:  # fmt: skip
    """The kernel that ran each direction of a call; None where torch's own did."""
    prepared.call()
    return {each: last_kernel(each, part.name) for each in part.directions_of(task)}


def numerics_of(kernels: dict[str, str | None]) -> dict[str, str]:
    """The class of each kernel; torch's are plain sums."""
    return {
        each: registry.find(name).numerics if name else "exact" for each, name in kernels.items()
    }


@dataclasses.dataclass
class Contest:
    """Those who take part in one layer; what goes wrong with a peer is noted, not raised.

    Attributes:
        kernels: ours, by direction.
        errors: largest error over the largest value, by peer.
        left_out: why a peer takes no part.
    """

    part: Part
    operands: Operands
    task: Task
    entries: list[timing.Entry] = dataclasses.field(default_factory=list)
    kernels: dict[str, str | None] = dataclasses.field(default_factory=dict)
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def enter(self, peer: peers.Peer, want: dict[str, torch.Tensor]) -> None:
        """Lets a peer take part.

        Raises:
            gate.WrongAnswerError: where fastconv's result is outside its tolerance.
        """
        try:
            prepared = peer.make(self.operands, self.task)
        except Exception as error:
            if peer.name == peers.OURS:
                raise
            prepared = f"{type(error).__name__}: {error}"
        if isinstance(prepared, str):
            self.left_out[peer.name] = prepared
            return
        with peer.scope():
            if peer.name == peers.OURS:
                self.kernels = kernels_of(prepared, self.part, self.task)
                self.errors[peer.name] = self._check(peer, prepared, want)
            else:
                try:
                    self.errors[peer.name] = self._error(peer, prepared, want)
                except Exception as error:  # such as a compiler's: the others are still measured
                    self.left_out[peer.name] = f"{type(error).__name__}: {error}"
                    return
        self.entries.append(peer.entry(prepared))

    def _check(
        self, peer: peers.Peer, prepared: peers.Prepared, want: dict[str, torch.Tensor]
    ) -> float:
        result = gate.parts(self.part, prepared.result(), self.task)
        numerics = numerics_of(self.kernels)
        return gate.check(peer.name, self.part, self.operands.problem, result, want, numerics)

    def _error(
        self, peer: peers.Peer, prepared: peers.Prepared, want: dict[str, torch.Tensor]
    ) -> float:
        """The peer's error: torch's own as it is, an engine's within `ENGINE_BOUND`.

        Raises:
            gate.WrongAnswerError: for an engine outside of it.
        """
        result = gate.parts(self.part, prepared.result(), self.task)
        error = max(gate.error(have, want[each]) for each, have in result.items())
        if peer.name in peers.ENGINES and not error <= ENGINE_BOUND:
            raise gate.WrongAnswerError(f"it is wrong by {error:.1e} of the largest value")
        return error


def run_one(
    work: Workload, settings: Settings, engines: list[str], peak: float | None
) -> dict[str, Any]:
    """Gate and timing of one layer, as a row of the result.

    Raises:
        gate.WrongAnswerError: where fastconv's result is outside its tolerance.
    """
    part, regime = work.part, settings.regime
    contest = Contest(part, part.operands(work.problem, 0), work.task)
    want = gate.wanted(part, contest.operands, work.task)
    for peer in peers.field(part, work.task, regime, engines):
        contest.enter(peer, want)
    quality = timing.measure(contest.entries, settings.effort)
    ours, *rest = contest.entries
    by_time = sorted(rest, key=lambda entry: entry.median)
    torchs = next(entry for entry in by_time if entry.runtime == "torch")
    fastest = by_time[0]
    gflops = work.flops / ours.median * 1e-9
    others = [value for name, value in contest.errors.items() if name != ours.name]
    return {
        "family": part.name,
        "set": work.set_name,
        "layer": work.name,
        "count": work.count,
        "problem": work.problem.encode(),
        "task": work.task,
        "regime": regime if work.task == "fprop" else "unpacked",
        "kernel": "+".join(kernel or "torch" for kernel in contest.kernels.values()),
        "us_p50": ours.median * 1e6,
        "us_p20": ours.percentile(20) * 1e6,
        "us_p80": ours.percentile(80) * 1e6,
        "gflops": gflops,
        "percent_of_peak": 100 * gflops / peak if peak else None,
        "best_peer": torchs.name,
        "best_peer_us": torchs.median * 1e6,
        "ratio": torchs.median / ours.median,
        "best_of_all": fastest.name,
        "best_of_all_us": fastest.median * 1e6,
        "ratio_all": fastest.median / ours.median,
        "peers_us": {entry.name: entry.median * 1e6 for entry in rest},
        "left_out": contest.left_out,
        "errors": contest.errors,
        "error": contest.errors[ours.name],
        "torch_error": min(others, default=None),
        "foreign_cores": round(quality.foreign_cores, 3),
        "spread": round(quality.spread, 3),
        "attempts": quality.attempts,
        "in_doubt": quality.doubt > 1,
    }


def run(settings: Settings) -> dict[str, Any]:
    """Measures everything that was asked for; progress goes to stderr.

    Returns:
        What ``--json`` writes: machine, versions, commit, settings, engines, and a row for each
        layer. A problem that several sets share is measured once.
    """
    engines = peers.take_part(settings.peers)
    torch.set_num_threads(settings.threads)
    keeps_memory = timing.keep_freed_memory()
    works = workloads.workloads(settings.sets, settings.batch, settings.dtype, settings.task)
    peak = machine.peak(settings.threads)
    measured: dict[tuple[Any, str], dict[str, Any]] = {}
    rows = []
    present = [name for name, reason in engines.items() if reason is None]
    with tables.progress(len(works)) as step:
        for work in works:
            step(work.name)
            key = (work.problem, work.task)
            if key not in measured:
                measured[key] = run_one(work, settings, present, peak)
            named = {"set": work.set_name, "layer": work.name, "count": work.count}
            rows.append(measured[key] | named)
    return {
        "schema": SCHEMA,
        "machine": machine.facts() | {"threads": settings.threads, "fma_peak_gflops": peak},
        "versions": machine.versions()
        | {name: peers.ENGINES[name].version for name in present if name != peers.COMPILE},
        "commit": machine.commit(),
        "settings": dataclasses.asdict(settings),
        "engines_left_out": {name: reason for name, reason in engines.items() if reason},
        "freed_memory_kept": keeps_memory,
        "rows": rows,
    }
