"""Autocast: each weight is cast once within a scope, as torch casts it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import fastconv
from fastconv.ops.autocast import cast_weight


def layer(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return getattr(fastconv.nn, kind)(8, 8, 3, padding=1)


def casts(call) -> int:
    """How many tensors of a weight's extents are made in bfloat16."""
    with torch.profiler.profile(record_shapes=True) as profile:
        call()
    return sum(
        event.count
        for event in profile.key_averages(group_by_input_shape=True)
        if event.key == "aten::_to_copy" and len(event.input_shapes[0]) > 2
        and event.input_shapes[0][:2] == [8, 8]
    )  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d"])
def test_a_weight_is_cast_once_within_a_scope(kind: str, grad: bool, training: bool) -> None:
    module = layer(kind).train(training)
    x = torch.randn(2, 8, *(5,) * int(kind[-2]))

    def calls() -> None:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype=torch.bfloat16):
            for _ in range(3):
                module(x)

    calls()
    assert casts(calls) == 1


def test_gradients_add_up_over_the_calls_of_a_scope() -> None:
    ours, x = layer("Conv2d"), torch.randn(2, 8, 5, 5)
    theirs = torch.nn.Conv2d(8, 8, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    for module in (ours, theirs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = module(x) + module(2 * x)
            with torch.no_grad():
                module(x)
            out = out + module(3 * x)
        out.float().square().mean().backward()
        assert module.weight.grad.dtype == torch.float32
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0.02, atol=0.02)


def test_another_scope_casts_anew() -> None:
    module = layer("Conv2d")
    x = torch.randn(2, 8, 5, 5)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = module(x)
            assert_close(out, F.conv2d(x, module.weight, module.bias, padding=1))
        module.weight.data.mul_(-2)


def test_what_torch_does_not_keep() -> None:
    weight = torch.randn(4, 4, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kept = cast_weight(weight, torch.bfloat16)
        assert kept.dtype == torch.bfloat16 and kept.requires_grad
        assert cast_weight(weight, torch.bfloat16).data_ptr() == kept.data_ptr()
        for other in (weight * 2, weight.detach(), weight[:2], weight.double(), weight.reshape(-1)):
            want = torch.float64 if other.dtype == torch.float64 else torch.bfloat16
            assert cast_weight(other, torch.bfloat16).dtype == want
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        first, second = (cast_weight(weight, torch.bfloat16) for _ in range(2))
        assert first.data_ptr() != second.data_ptr()


class Ops(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_nothing_but_the_convolution_is_shown_to_a_mode() -> None:
    module = layer("Conv2d")
    with Ops() as mode, torch.autocast("cpu", dtype=torch.bfloat16):
        module(torch.randn(2, 8, 5, 5))
    assert [op for op in mode.seen if "conv" in op] == ["fastconv.conv.default"]
