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
    tensors = workloads.tensors(work.problem)
    peer = peers.field(work.task, regime, [])[0]
    call = peer.make(tensors, work.task)
    assert call is not None
    with peer.scope():
        numerics = run.numerics_of(run.kernels_of(call, work.task))
        gate.check(work.name, tensors, work.task, call, gate.wanted(tensors, work.task), numerics)
        benchmark(call)
    benchmark.extra_info["gflops"] = work.flops / benchmark.stats["median"] * 1e-9
