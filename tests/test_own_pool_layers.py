"""Layers that torch does not have, where torch's own are seen: by TorchScript, FX and meta tensors; and
the arguments that they refuse.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers_torch import assert_close
from torch import Tensor

import fastconv
import fastconv.functional as ours


def run(f: Any, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return f(x)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_scripted_traced_and_recorded(training: bool) -> None:
    """As the other layers are, without a word from the tracer, for other sizes than it saw."""
    model = torch.nn.Sequential(
        fastconv.nn.Conv2d(4, 6, 3), torch.nn.ReLU(), fastconv.nn.StochasticPool2d((3, 2), 2, 1),
        fastconv.nn.SubSample2d(6, 2),
    ).train(training)  # fmt: skip
    x, other = (
        torch.randn(2, 4, n, 14, generator=torch.Generator().manual_seed(1)) for n in (18, 15)
    )
    recorded = torch.fx.symbolic_trace(model)
    assert [node.op for node in recorded.graph.nodes].count("call_module") == 4
    scripted = torch.jit.script(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, x, check_trace=False)
    for again in (recorded, scripted, traced):
        model.zero_grad()
        want = run(model, other)
        want.square().sum().backward()
        gradients = [p.grad for p in model.parameters()]
        model.zero_grad()
        have = run(again, other)
        have.square().sum().backward()
        assert_close(have, want)
        named = dict(again.named_parameters())
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert_close(named[name].grad, gradient)
    assert_close(run(scripted, x[0]), run(model, x[0]))


class Functions(torch.nn.Module):
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ours.sub_sample2d(ours.stochastic_pool2d(x, 2, training=False), weight, bias, 2)


def test_functions_are_nodes_of_fx() -> None:
    graph = torch.fx.symbolic_trace(Functions())
    targets = [node.target for node in graph.graph.nodes]
    assert ours.stochastic_pool2d in targets and ours.sub_sample2d in targets
    given = torch.rand(2, 3, 8, 9), torch.randn(3), torch.randn(3)
    assert_close(graph(*given), Functions()(*given))


@pytest.mark.parametrize("training", [False, True])
def test_meta_tensors(training: bool) -> None:
    x = torch.empty(2, 3, 9, 8, device="meta")
    y = ours.stochastic_pool2d(x, 3, 2, 1, training=training)
    assert y.is_meta and y.shape == (2, 3, 5, 4)
    assert fastconv.nn.SubSample2d(3, device="meta")(x).shape == (2, 3, 4, 4)


IMAGE = torch.ones(1, 2, 4, 4)
ONE, DOUBLE = torch.ones(2), torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fastconv.nn.SubSample2d(4, "2"), TypeError, "kernel_size is '2'"),
        (lambda: fastconv.nn.SubSample2d(4, 2, 0), ValueError, "stride is 0"),
        (lambda: fastconv.nn.StochasticPool2d("2"), TypeError, "kernel_size is '2'"),
        (lambda: fastconv.nn.StochasticPool2d(-2), ValueError, "kernel_size is -2"),
        (lambda: fastconv.nn.StochasticPool2d(2, padding=2), ValueError, "padding is 2"),
        (
            lambda: ours.sub_sample2d(IMAGE, DOUBLE, DOUBLE, 2),
            TypeError,
            r"weight has dtype torch.float64; an input of torch.float32 needs a tensor of torch.float32$",
        ),
        (lambda: ours.sub_sample2d(IMAGE, ONE, None, 2), TypeError, "bias is None; an input of"),
        (lambda: ours.stochastic_pool2d(IMAGE, 2, training="no"), TypeError, "training is 'no'"),
        (lambda: ours.stochastic_pool2d(IMAGE, 2, generator=3), TypeError, "generator is 3"),
    ],
)
def test_errors_name_argument_and_value(
    call: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()
