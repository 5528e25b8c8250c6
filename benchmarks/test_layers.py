"""The quick layers for pytest-benchmark: ``pytest benchmarks --benchmark-compare`` watches a
change.

The figures to publish come from ``fastconv bench``, which interleaves the peers.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.bench import gate, peers, run, workloads
from fastconv.registry import find

WORKS = workloads.workloads(["quick"])


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
@pytest.mark.parametrize("regime", peers.REGIMES)
def test_layer(benchmark: Any, work: workloads.Workload, regime: peers.Regime) -> None:
    tensors = workloads.tensors(work.problem)
    peer = peers.field(work.task, regime, [])[0]
    kernels = run.kernels_of(work.problem, work.task, regime)
    numerics = {each: find(name).numerics if name else "exact" for each, name in kernels.items()}
    call = peer.make(tensors, work.task)
    assert call is not None
    with peer.scope():
        gate.check(work.name, tensors, work.task, call, gate.wanted(tensors, work.task), numerics)
        benchmark(call)
    benchmark.extra_info["gflops"] = work.flops / benchmark.stats["median"] * 1e-9
