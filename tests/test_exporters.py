"""Converted models under tracers, exporters and FX: they take them as they take torch's."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import nn

import fastconv

KINDS = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


def network() -> nn.Sequential:
    """Every kind of padding, a batch norm to fuse, a transposed layer; nothing that changes sizes by
    the data.
    """
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 6, (3, 1), stride=2, padding=(1, 0), padding_mode="reflect"),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
    )


def converted() -> nn.Sequential:
    """In eval mode, after a call: every geometry is known, every weight packed."""
    model = network().eval()
    fastconv.convert(model)
    with torch.no_grad():
        model(torch.randn(1, 3, 8, 8))
    return model


def one_layer(kind: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layer = getattr(fastconv.nn, kind)(4, 6, 3, padding=1).eval()
    x = torch.randn(2, 4, *(6,) * int(kind[-2]))
    with torch.no_grad():
        layer(x)
    return layer, x


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_layer_holds_torchs_convolution(kind: str, grad: bool) -> None:
    layer, x = one_layer(kind)
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(layer, x)
    assert "aten::_convolution" in str(traced.inlined_graph)
    assert "fastconv::" not in str(traced.inlined_graph)
    other = torch.randn(3, 4, *(s + 1 for s in x.shape[2:]))
    assert_close(traced(other), layer(other))
    with torch.no_grad():
        layer.weight.mul_(2)  # the trace shares it
    assert_close(traced(other), layer(other))
    traced(other).square().sum().backward()
    got, layer.weight.grad = layer.weight.grad, None
    layer(other).square().sum().backward()
    assert_close(got, layer.weight.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_functions() -> None:
    x, w, b = torch.randn(1, 4, 6, 6), torch.randn(4, 4, 3, 3), torch.randn(4)
    for call in (fastconv.functional.conv2d, fastconv.functional.conv_transpose2d):
        call(x, w, b)
        traced = torch.jit.trace(call, (x, w, b))
        assert "aten::_convolution" in str(traced.graph)
        y, v = torch.randn(2, 4, 5, 9), torch.randn(4, 4, 3, 3)
        assert_close(traced(y, v, b), call(y, v, b))


READ = """
import sys, torch
path, x, y = sys.argv[1:]
torch.testing.assert_close(torch.jit.load(path)(torch.load(x)), torch.load(y), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.parametrize(
    "how", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(1, 3, 8, 8))]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saved_and_read_by_a_process_without_fastconv(how: Callable, tmp_path: Path) -> None:
    model = converted()
    x = torch.randn(2, 3, 8, 8)
    paths = [str(tmp_path / name) for name in ("m.pt", "x.pt", "y.pt")]
    torch.jit.save(how(model), paths[0])
    with torch.no_grad():
        torch.save(x, paths[1])
        torch.save(model(x), paths[2])
    run = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script(kind: str) -> None:
    layer, x = one_layer(kind)
    model = nn.Sequential(layer)
    scripted = torch.jit.script(model)
    assert model[0] is layer and type(layer) is getattr(fastconv.nn, kind)
    assert_close(scripted(x), model(x))
    scripted(x).square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_takes_output_sizes_and_padding_modes() -> None:
    torch.manual_seed(0)
    up = fastconv.nn.ConvTranspose2d(4, 3, 3, stride=2)
    x = torch.randn(1, 4, 5, 5)
    assert_close(torch.jit.script(up)(x, [12, 11]), up(x, [12, 11]))
    circular = fastconv.nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular")
    assert_close(torch.jit.script(circular)(x), circular(x))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_onnx(dynamo: bool, tmp_path: Path) -> None:
    model = converted()
    x = torch.randn(2, 3, 8, 8)
    path = str(tmp_path / "m.onnx")
    torch.onnx.export(model, (torch.randn(2, 3, 8, 8),), path, dynamo=dynamo, input_names=["x"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    with torch.no_grad():
        assert_close(torch.from_numpy(y), model(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_onnx_of_every_layer_by_dynamo(kind: str, tmp_path: Path) -> None:
    layer, x = one_layer(kind)
    path = str(tmp_path / "m.onnx")
    torch.onnx.export(layer, (x,), path, dynamo=True, input_names=["x"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    assert_close(torch.from_numpy(y), layer(x).detach())


def test_onnx_of_an_exported_program(tmp_path: Path) -> None:
    layer, x = one_layer("Conv2d")
    path = str(tmp_path / "m.onnx")
    torch.onnx.export(torch.export.export(layer, (x,)), (x,), path, dynamo=True, input_names=["x"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    assert_close(torch.from_numpy(y), layer(x).detach())


@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
def test_export_keeps_our_op(kind: str) -> None:
    layer, x = one_layer(kind)
    program = torch.export.export(layer, (x,)).run_decompositions()
    names = {str(node.target) for node in program.graph.nodes}
    assert ("fastconv.conv_dgrad.default" if "T" in kind else "fastconv.conv.default") in names
    assert not any(name.startswith("aten.convolution") for name in names)
    assert_close(program.module()(x), layer(x))


def test_fx_takes_layers_for_leaves() -> None:
    model = converted()
    twins = [model, copy.deepcopy(model), copy.copy(model)]
    for twin in twins:
        graph = torch.fx.symbolic_trace(twin).graph
        assert [node.op for node in graph.nodes].count("call_module") == 6
    alone = fastconv.nn.Conv2d(3, 3, 1)
    graph = torch.fx.symbolic_trace(nn.Sequential(alone)).graph
    assert [node.op for node in graph.nodes].count("call_module") == 1


class Own(fastconv.nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def test_fx_looks_into_others_subclasses() -> None:
    own = Own(3, 3, 1).eval()
    x = torch.randn(1, 3, 4, 4)
    for _ in range(2):  # before the geometry is known, and after
        traced = torch.fx.symbolic_trace(nn.Sequential(own))
        assert F.conv2d in {node.target for node in traced.graph.nodes}
        with torch.no_grad():
            assert_close(traced(x), own(x))


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d", "conv_transpose2d"])
def test_fx_records_torchs_function(name: str) -> None:
    ours, theirs = getattr(fastconv.functional, name), getattr(F, name)
    axes = int(name[-2])
    x, w = torch.randn(1, 4, *(5,) * axes), torch.randn(4, 4, *(3,) * axes)

    def call(x: torch.Tensor) -> torch.Tensor:
        return ours(x, w, None, 2, 1)

    for _ in range(2):
        traced = torch.fx.symbolic_trace(call)
        assert theirs in {node.target for node in traced.graph.nodes}
        assert_close(traced(x), call(x))


def test_fuse_and_quantization_take_converted_models() -> None:
    from torch.ao import quantization
    from torch.ao.quantization import quantize_fx
    from torch.fx.experimental import optimization

    model = converted()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert_close(optimization.fuse(model)(x), model(x))
        prepared = copy.deepcopy(model)
        prepared.qconfig = quantization.get_default_qconfig("qnnpack")
        quantization.prepare(prepared, inplace=True)
        assert_close(prepared(x), model(x))
        mapping = quantization.get_default_qconfig_mapping("qnnpack")
        with_fx = quantize_fx.prepare_fx(copy.deepcopy(model), mapping, (x,))
        assert_close(with_fx(x), model(x))
        fused = nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
        assert_close(fused(x), model[1](model[0](x)))


def test_whole_modules_are_saved(tmp_path: Path) -> None:
    model = converted()
    x = torch.randn(2, 3, 8, 8)
    torch.save(model, tmp_path / "m.pt")
    read = torch.load(tmp_path / "m.pt", weights_only=False)
    with torch.no_grad():
        assert_close(read(x), model(x))
    assert type(read[0]) is fastconv.nn.Conv2d
    assert [node.op for node in torch.fx.symbolic_trace(read).graph.nodes].count("call_module") == 6
