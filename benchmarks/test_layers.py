"""The quick layers for pytest-benchmark: ``pytest benchmarks --benchmark-compare`` watches a
change.

The figures to publish come from ``fastconv bench``, which interleaves the peers.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.bench import gate, peers, run, workloads

WORKS = workloads.workloads(["quick"])


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
@pytest.mark.parametrize("regime", peers.REGIMES)
def test_layer(benchmark: Any, work: workloads.Workload, regime: peers.Regime) -> None:
    part = work.part
    operands = part.operands(work.problem, 0)
    peer = peers.field(part, work.task, regime, [])[0]
    prepared = peer.make(operands, work.task)
    assert not isinstance(prepared, str)
    with peer.scope():
        numerics = run.numerics_of(run.kernels_of(prepared, part, work.task))
        result = gate.parts(part, prepared.result(), work.task)
        want = gate.wanted(part, operands, work.task)
        gate.check(work.name, part, work.problem, result, want, numerics)
        benchmark(prepared.call)
    benchmark.extra_info["gflops"] = work.flops / benchmark.stats["median"] * 1e-9
