"""The main job: a quick benchmark runs, checks before it times, and writes what it says."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastconv import _cuda, cli
from fastconv.bench import conv, gate, on_cuda, report, timing, workloads
from fastconv.bench import run as bench
from fastconv.problem import ConvProblem


def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Puts a small set in place of the quick one."""
    from fastconv.testing import shapes

    monkeypatch.setattr(workloads, "read_set", lambda name: shapes.parse("\n".join(lines)))


@pytest.mark.parametrize("regime", ["packed", "compared", "unpacked"])
@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad", "step"])
def test_quick(
    direction: str,
    regime: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    layers(
        tmp_path,
        monkeypatch,
        "a.3x3*2 n1_c16_h14w14_k16_r3s3_st1_pd1_dl1_g1",
        "a.dw n1_c16_h14w14_k16_r3s3_st1_pd1_dl1_g16",
    )
    monkeypatch.setattr(timing, "QUICK", timing.Effort(2, 0.0, 0.0005, 0.1, attempts=1))
    file = tmp_path / "out" / "result.json"
    words = [
        "bench",
        "--quick",
        "--peers",
        "none",
        "--direction",
        direction,
        "--regime",
        regime,
        "--threads",
        "1",
        "--batch",
        "2",
    ]
    before = torch.get_num_threads()
    try:
        assert cli.main([*words, "--json", str(file)]) == 0
    finally:
        torch.set_num_threads(before)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["schema"] == bench.SCHEMA
    assert result["versions"]["torch"] == torch.__version__
    assert result["machine"]["threads"] == 1
    assert [row["count"] for row in result["rows"]] == [2, 1]
    for row in result["rows"]:
        problem = ConvProblem.decode(row["problem"])
        assert problem.N == 2
        assert row["us_p20"] <= row["us_p50"] <= row["us_p80"]
        assert math.isclose(row["ratio"], row["best_peer_us"] / row["us_p50"])
        assert row["best_peer_us"] == min(row["peers_us"].values())
        assert (row["best_of_all"], row["ratio_all"]) == (row["best_peer"], row["ratio"])
        assert row["attempts"] == 1
        assert row["error"] < 1e-4
        assert row["task"] == direction
    out = capsys.readouterr().out
    assert "geometric mean" in out
    assert "a.3x3 *2" in out


def test_sets_are_whole() -> None:
    """The networks' convolutions, counted."""
    for name, count in (
        ("resnet18", 20),
        ("resnet50", 53),
        ("vgg16", 13),
        ("mobilenetv2", 52),
        ("resnext50", 53),
    ):
        assert sum(case.count for case in workloads.read_set(name)) == count
    for name in workloads.set_names():
        for case in workloads.read_set(name):
            assert case.problem.encode() == str(case.problem)
    assert len(workloads.workloads(["all"])) > 100


def test_goals_cover_the_figure_sets() -> None:
    import re

    for work in workloads.workloads(["figures"]):
        assert any(re.match(goal.pattern, work.name) for goal in workloads.goals()), work.name


def test_batch_replaces_and_merges() -> None:
    works = workloads.workloads(["depthwise"], batch=4)
    assert len(works) == 9
    assert {work.problem.N for work in works} == {4}


def test_the_gate_refuses_a_wrong_answer() -> None:
    problem = ConvProblem(N=1, C=8, H=6, W=6, K=8, R=3, S=3, pad_h=1, pad_w=1)
    want = gate.wanted(conv.PART, conv.PART.operands(problem), "fprop")
    right = want["fprop"].float()

    def check(result: torch.Tensor) -> float:
        return gate.check(
            "x", conv.PART, problem, {"fprop": result}, want, {"fprop": "exact"}
        )  # fmt: skip

    assert check(right) < 1e-6
    wrong = right.clone()
    wrong[0, 1, 2, 3] += 1e-3
    with pytest.raises(gate.WrongAnswerError, match=r"first \(0, 1, 2, 3\)"):
        check(wrong)
    wrong[0, 1, 2, 3] = math.nan
    with pytest.raises(gate.WrongAnswerError, match=r"wrong in 1 of 288 elements.*: nan, not"):
        check(wrong)


def test_geometric_mean_and_losses() -> None:
    rows = [{"ratio": 2.0, "layer": "a"}, {"ratio": 0.5, "layer": "b"}]
    s = report.summary(rows)
    assert math.isclose(s.mean, 1.0)
    assert (s.losses, s.worst, s.worst_layer) == (1, 0.5, "b")
    more = [row | {"ratio_all": 0.25} for row in rows]
    assert report.summary(more, "ratio_all").losses == 2


class FakeGpu:
    """What `on_cuda` asks of a GPU: graphs, events, and whether it is still there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ticks, self.replayed = itertools.count(1), 0
        self.lost = self.capturing = False
        monkeypatch.setattr(_cuda, "why_not", lambda: None)
        monkeypatch.setattr(_cuda, "is_lost", lambda: self.lost)
        monkeypatch.setattr(_cuda, "captured", self.captured)
        monkeypatch.setattr(on_cuda._native, "has_cuda", True)
        monkeypatch.setattr(on_cuda, "_head", lambda: dict.fromkeys(("device", "torch", "cudnn")))
        monkeypatch.setattr(on_cuda, "_timed", self.timed)
        monkeypatch.setattr(on_cuda.fastconv, "enabled", lambda on: contextlib.nullcontext())

    def captured(self, body: Callable[[], object]) -> Callable[[], None]:
        def replay() -> None:
            self.replayed += 1

        self.capturing = True
        try:
            body()
        finally:
            self.capturing = False
        return replay

    def timed(
        self, body: Callable[[], object], before: Callable[[], object] | None = None
    ) -> float:
        body()
        return float(next(self.ticks))


def test_graphs_are_timed_where_all_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, called = FakeGpu(monkeypatch), 0
    monkeypatch.setattr(timing, "orders", lambda count: itertools.cycle([[0, 1], [1, 0]]))
    effort = on_cuda.Effort(rounds=2, calls=4)

    def call() -> None:
        nonlocal called
        called += 1

    field, how = on_cuda.prepare({"a": call, "b": call}, "a", effort)
    assert how == "graphs"
    assert called == 2 * (1 + 1 + 4)
    seconds = on_cuda.measure(field, "a", effort, lambda: None)
    assert called == 12 and gpu.replayed == 2 * 3 * 3
    # Rounds of (1 2 3 4), (5 6 7 8) b first, (9 10 11 12); the first is not counted.
    assert seconds == {"a": {"warm": 8 / 4, "cold": 9.0}, "b": {"warm": 8 / 4, "cold": 9.0}}


def test_calls_are_timed_where_one_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, called = FakeGpu(monkeypatch), {"a": 0, "b": 0}

    def call(name: str) -> None:
        called[name] += 1
        if name == "b" and gpu.capturing:
            raise RuntimeError("not permitted while capturing")

    effort = on_cuda.Effort(rounds=1, calls=4)
    calls = {"a": lambda: call("a"), "b": lambda: call("b")}
    field, how = on_cuda.prepare(calls, "a", effort)
    assert how == "calls: no graph of b: not permitted while capturing"
    called.update(a=0, b=0)
    on_cuda.measure(field, "a", effort, lambda: None)
    assert gpu.replayed == 0
    assert called == {"a": 2 * (1 + 4 + 1), "b": 2 * (1 + 4 + 1)}
    gpu.lost = True
    with pytest.raises(RuntimeError, match="not permitted"):
        on_cuda.prepare(calls, "a", effort)


def test_bench_on_cuda_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every state of the file is whole, and has what was measured so far."""
    gpu, kept = FakeGpu(monkeypatch), []
    problem = "n1_c{}_h4w4_k8_r1s1_st1_pd0_dl1_g1".format
    layers(tmp_path, monkeypatch, f"a.1 {problem(1)}", f"a.2 {problem(2)}", f"a.3 {problem(3)}")
    file = tmp_path / "bench.json"

    def run_one(work: workloads.Workload, effort: on_cuda.Effort) -> dict[str, object]:
        assert torch.backends.cudnn.benchmark
        if file.exists():
            kept.append(len(json.loads(file.read_text(encoding="utf-8"))["rows"]))
        if work.problem.C == 2:
            raise gate.WrongAnswerError("ours is wrong in 1 of 9")
        us = {"fastconv": 2.0}
        numbers = {"warm_us": us, "cold_us": us, "warm_ratio": 3.0, "cold_ratio": 3.0}
        named = {"layer": work.name, "kernel": "k", "timing": "graphs", "failure": None}
        return named | numbers

    monkeypatch.setattr(on_cuda, "run_one", run_one)
    monkeypatch.setattr(
        on_cuda, "_head", lambda: dict.fromkeys(("device", "torch", "cudnn", "allow_tf32"))
    )
    words = ["bench", "--device", "cuda", "--json", str(file)]
    assert cli.main(words) == 1
    assert kept == [1, 2]
    assert not torch.backends.cudnn.benchmark
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    failure = "WrongAnswerError: ours is wrong in 1 of 9"
    assert [row["failure"] for row in rows] == [None, failure, None]
    out = capsys.readouterr().out
    assert f"FAILED: {failure}" in out
    assert "geometric mean 3.00 x torch warm; 0 of 2 slower\n1 of 3 failed" in out
    gpu.lost = True
    assert cli.main(words) == 1
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (len(result["rows"]), result["left"]) == (2, 1)
    assert "the GPU answers this process no more, 1 layers left" in capsys.readouterr().out
    assert cli.main([*words, "--direction", "step"]) == 2
    layers(tmp_path, monkeypatch, f"a.1 {problem(1)}")
    assert cli.main(words) == 0


@pytest.mark.parametrize("direction", ["fprop", "dgrad", "step"])
def test_a_family_is_measured_by_its_record(
    direction: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its layers go through the gate and the clock."""
    layers(tmp_path, monkeypatch, "a.pool n1_c16_h14w14_r3s3_st2_pd1_avg")
    monkeypatch.setattr(timing, "QUICK", timing.Effort(2, 0.0, 0.0005, 0.1, attempts=1))
    file = tmp_path / "result.json"
    words = ["bench", "--quick", "--peers", "none", "--threads", "1", "--direction", direction]
    before = torch.get_num_threads()
    try:
        assert cli.main([*words, "--json", str(file)]) == 0
    finally:
        torch.set_num_threads(before)
    (row,) = json.loads(file.read_text(encoding="utf-8"))["rows"]
    kernels = row["kernel"].split("+")
    assert len(kernels) == (2 if direction == "step" else 1)
    assert all(name.startswith("pool_") or name == "torch" for name in kernels)
    assert row["error"] < 1e-5
    assert set(row["peers_us"]) == {"torch channels_last", "torch contiguous"}


def test_every_set_is_of_a_family() -> None:
    grouped = {name for names in workloads.groups().values() for name in names}
    assert grouped | {"quick"} == set(workloads.set_names())
