"""The engines: each gives the right layer where it is installed, and says why not where it is not."""

from __future__ import annotations

import gc
import math
import shutil
from typing import Any

import pytest
import torch

from fastconv import cli
from fastconv.bench import conv, gate, networks, peers, run, timing, workloads
from fastconv.problem import ConvProblem

LAYERS = [
    "n1_c8_h9w7_k16_r3s3_st2_pd1_dl1_g1",
    "n1_c8_h9w9_k8_r3s3_st1_pd2_dl2_g8",
    "n1_c8_h8w8_k16_r1s1_st1_pd0_dl1_g2",
    "n2_c4_h6w6_k8_r3s3_st1_pd1_dl1_g1",
]
INSTALLED = [name for name, engine in peers.ENGINES.items() if engine.why_not() is None]


def work(text: str, task: workloads.Task = "fprop") -> workloads.Workload:
    return workloads.Workload("a", "a.layer", ConvProblem.decode(text), 1, task)


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("text", LAYERS)
def test_an_engine_is_right_call_after_call(name: str, text: str) -> None:
    """Also once nothing but the entry knows the operands."""
    operands = conv.PART.operands(ConvProblem.decode(text))
    want = gate.wanted(conv.PART, operands, "fprop")["fprop"]
    peer = peers.field(conv.PART, "fprop", "packed", [name])[-1]
    prepared = peer.make(operands, "fprop")
    if isinstance(prepared, str):
        assert (name, prepared) == ("ncnn", "batch 1 alone") and operands.problem.N == 2
        return
    read, entry = prepared.read, peer.entry(prepared)
    del prepared
    gc.collect()
    for _ in range(3):
        with entry.scope():
            assert gate.error(read(entry.call()), want) < 1e-5


def test_the_compiled_layer_is_frozen() -> None:
    """Its weight is a constant that was packed for oneDNN, so that changing it changes nothing."""
    if peers.COMPILE not in INSTALLED or not torch.backends.mkldnn.is_available():
        pytest.skip("nothing compiles here")
    operands = conv.PART.operands(ConvProblem.decode(LAYERS[0]))
    module, x = conv.module(operands)
    prepared = peers.ENGINES[peers.COMPILE].load().prepare(module, x)
    with torch.inference_mode():
        before = prepared.result().clone()
        for parameter in module.parameters():
            parameter.zero_()
        assert torch.equal(prepared.result(), before)


def test_a_row_names_the_best_of_all_and_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who had no part, with the reason."""
    quick = timing.Effort(2, 0, 0.0005, 0.1, attempts=1)
    monkeypatch.setattr(timing, "QUICK", quick)
    settings = run.Settings(["a"], 1, quick=True)
    row = run.run_one(work(LAYERS[3]), settings, INSTALLED, None)
    assert row["best_of_all_us"] == min(row["peers_us"].values())
    own = ("torch channels_last", "torch contiguous", "oneDNN prepacked", peers.COMPILE)
    assert row["best_peer_us"] == min(us for name, us in row["peers_us"].items() if name in own)
    assert math.isclose(row["ratio_all"], row["best_of_all_us"] / row["us_p50"])
    assert row["ratio_all"] <= row["ratio"]
    assert row["left_out"] == ({"ncnn": "batch 1 alone"} if "ncnn" in INSTALLED else {})
    row = run.run_one(work(LAYERS[0], "dgrad"), settings, INSTALLED, None)
    assert set(row["peers_us"]) == set(own[:2])


def test_an_engine_that_fails_or_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = timing.Effort(1, 0, 0, 0.1, attempts=1)
    monkeypatch.setattr(timing, "QUICK", quick)
    settings = run.Settings(["a"], 1, quick=True)

    class Wrong:
        @staticmethod
        def prepare(layer: Any) -> peers.Prepared:
            return peers.Prepared(lambda: torch.zeros(layer.output))

    class Fails:
        @staticmethod
        def prepare(layer: Any) -> peers.Prepared:
            raise RuntimeError("no such luck")

    loaded = iter([Wrong, Fails])
    monkeypatch.setattr(peers.Engine, "load", lambda self: next(loaded))
    row = run.run_one(work(LAYERS[0]), settings, ["onnxruntime", "openvino"], None)
    assert "WrongAnswerError: it is wrong by 1.0e+00" in row["left_out"]["onnxruntime"]
    assert row["left_out"]["openvino"] == "RuntimeError: no such luck"
    assert set(row["peers_us"]) == {"torch channels_last", "torch contiguous", "oneDNN prepacked"}


def test_who_takes_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [name for name, why in peers.take_part(["all"]).items() if why is None] == INSTALLED
    assert None not in peers.take_part(["none"]).values()
    with pytest.raises(ValueError, match=r"peers has 'tvm'; it must be a list of torch.compile, "):
        peers.take_part(["tvm"])
    gone = peers.Engine("no_such_package", "x", "fastconv.bench.peer_ncnn")
    monkeypatch.setitem(peers.ENGINES, "ncnn", gone)
    assert peers.take_part(["all"])["ncnn"] == "it is not installed: pip install no_such_package"
    assert cli.main(["bench", "--peers", "ncnn"]) == 2
    assert "peers has 'ncnn', but it is not installed" in capsys.readouterr().err


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    reason = peers.take_part(["all"])[peers.COMPILE]
    assert reason is not None and reason.startswith("it needs a C++ compiler, and ")
    with pytest.raises(ImportError, match="needs a C\\+\\+ compiler"):
        peers.take_part([peers.COMPILE])


def test_networks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A small network by every way but the compiler's, which takes half a minute."""
    from fastconv import models

    def small(layers: Any = torch.nn, seed: int | None = None) -> torch.nn.Module:
        torch.manual_seed(0)
        return models.ResNet(layers, (1,), 10).eval()

    monkeypatch.setattr(models, "resnet18", small)
    monkeypatch.setattr(networks, "QUICK", timing.Effort(1, 0, 0, 0.1, attempts=1))
    engines = [name for name in INSTALLED if name != peers.COMPILE]
    before = torch.get_num_threads()
    words = ["bench", "--networks", "resnet18", "--quick", "--threads", "1"]
    try:
        assert cli.main([*words, "--peers", ",".join(engines) or "none"]) == 0
    finally:
        torch.set_num_threads(before)
    out = capsys.readouterr().out
    ways = ["fastconv convert", "fastconv enable", "torch channels_last", "torch contiguous"]
    for name in (*ways, *(name for name in engines if name != "ncnn")):
        assert f"\n{name} " in out, out
    assert "torch's best" in out
    if "ncnn" in engines:
        assert "without ncnn: it takes single layers alone" in out
    assert cli.main(["bench", "--networks", "vgg11"]) == 2
    assert "network is 'vgg11'; it must be one of resnet18" in capsys.readouterr().err
