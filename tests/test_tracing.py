"""torch.jit.trace and the exporters under `enable()`: they see torch's convolutions, not constants."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

import fastconv
from fastconv import _native


@pytest.fixture(autouse=True)
def on() -> Iterator[None]:
    fastconv.enable()
    yield
    fastconv.disable()


class Residual(torch.nn.Module):
    """x + conv(x), which hides a convolution that is a constant of the traced graph."""

    def __init__(self, conv: torch.nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


LAYERS = {
    "1d": (torch.nn.Conv1d(8, 8, 3, padding=1), (1, 8, 14)),
    "2d": (torch.nn.Conv2d(64, 64, 3, padding=1), (1, 64, 14, 14)),
    "3d": (torch.nn.Conv3d(4, 4, 3, padding=1), (1, 4, 5, 6, 7)),
    "grouped": (torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 9, 9)),
    "transposed 1d": (torch.nn.ConvTranspose1d(8, 8, 3, padding=1), (1, 8, 14)),
    "transposed 2d": (torch.nn.ConvTranspose2d(8, 8, 3, padding=1), (1, 8, 14, 14)),
    "transposed 3d": (torch.nn.ConvTranspose3d(4, 4, 3, padding=1), (1, 4, 5, 6, 7)),
}


def convolutions(graph: torch.Graph) -> int:
    return sum("convolution" in node.kind() for node in graph.nodes())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
def test_the_traced_graph_computes_the_convolution(name, grad) -> None:
    layer, sizes = LAYERS[name]
    module = Residual(layer).eval()
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(module, torch.randn(sizes))
        assert convolutions(traced.inlined_graph) == 1
        other = torch.randn(sizes)
        expected = module(other)
        torch.testing.assert_close(traced(other), expected, rtol=1e-4, atol=1e-4)
        if grad:
            layer.zero_grad()
            traced(other).square().sum().backward()
            mine = [p.grad.clone() for p in layer.parameters()]
            layer.zero_grad()
            expected.square().sum().backward()
            for a, p in zip(mine, layer.parameters(), strict=True):
                torch.testing.assert_close(a, p.grad, rtol=1e-3, atol=1e-3)


def test_other_threads_run_on_fastconv_while_one_traces() -> None:
    def call(x: torch.Tensor) -> torch.Tensor:
        out = F.conv2d(x, torch.ones(4, 3, 3, 3))
        seen.append(fastconv.last_kernel("fprop"))
        return out

    seen: list[str | None] = []
    torch.jit.trace(call, torch.randn(2, 3, 6, 6), check_trace=False)
    assert seen == [None]
    call(torch.randn(2, 3, 6, 6))
    assert seen[1] is not None


def test_onnx_by_tracing_has_a_convolution() -> None:
    onnx = pytest.importorskip("onnx")
    module = Residual(torch.nn.Conv2d(4, 4, 3, padding=1)).eval()
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(module, (torch.randn(1, 4, 6, 6),), file, dynamo=False)
    kinds = [node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node]
    assert sorted(kinds) == ["Add", "Conv"]


def test_what_torchscript_reaches() -> None:
    """A scripted function calls aten::conv2d, which comes by fastconv; a traced graph holds
    aten::_convolution, which torch's kernels implement below the place where fastconv is.
    """

    def call(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(x, w)

    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    scripted, traced = torch.jit.script(call), torch.jit.trace(call, (x, w))
    scripted(x, w)
    assert fastconv.last_kernel("fprop") is not None
    assert _native.lib is not None
    _native.lib.fastconv_note_kernel(0, -1)
    traced(x, w)
    assert fastconv.last_kernel("fprop") is None
