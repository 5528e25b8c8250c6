"""The main job: a quick benchmark runs, checks before it times, and writes what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from fastconv import cli
from fastconv.bench import gate, report, timing, workloads
from fastconv.bench import run as bench
from fastconv.problem import ConvProblem


def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Puts a small set in place of the quick one."""
    from fastconv.testing import shapes

    monkeypatch.setattr(workloads, "read_set", lambda name: shapes.parse("\n".join(lines)))


@pytest.mark.parametrize("regime", ["packed", "unpacked"])
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
    monkeypatch.setattr(timing, "QUICK", timing.Effort(2, 0.0, 0.0005, 0.1))
    file = tmp_path / "out" / "result.json"
    words = [
        "bench",
        "--quick",
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
        assert any(re.match(goal.pattern, work.name) for goal in report.GOALS), work.name


def test_batch_replaces_and_merges() -> None:
    works = workloads.workloads(["depthwise"], batch=4)
    assert len(works) == 9
    assert {work.problem.N for work in works} == {4}


def test_the_gate_refuses_a_wrong_answer() -> None:
    problem = ConvProblem(N=1, C=8, H=6, W=6, K=8, R=3, S=3, pad_h=1, pad_w=1)
    tensors = workloads.tensors(problem)
    want = gate.wanted(tensors, "fprop")
    right = want["fprop"].float()
    assert gate.check("x", tensors, "fprop", lambda: right, want, {"fprop": "exact"}) < 1e-6
    wrong = right.clone()
    wrong[0, 1, 2, 3] += 1e-3
    with pytest.raises(gate.WrongAnswerError, match=r"first \(0, 1, 2, 3\)"):
        gate.check("x", tensors, "fprop", lambda: wrong, want, {"fprop": "exact"})


def test_geometric_mean_and_losses() -> None:
    rows = [{"ratio": 2.0, "layer": "a"}, {"ratio": 0.5, "layer": "b"}]
    s = report.summary(rows)
    assert math.isclose(s.mean, 1.0)
    assert (s.losses, s.worst, s.worst_layer) == (1, 0.5, "b")
