"""ResNet-18: torchvision's parameters and names, the same network on either namespace."""

from __future__ import annotations

import types

import pytest
import torch

import fastconv
from fastconv.models import resnet18


def test_parameters_and_names() -> None:
    model = resnet18()
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    names = list(model.state_dict())
    assert len(names) == 122
    assert names[0] == "conv1.weight"
    assert "layer2.0.downsample.0.weight" in names
    assert names[-2:] == ["fc.weight", "fc.bias"]


def test_a_seed_gives_the_same_weights_and_leaves_the_generator() -> None:
    state = torch.random.get_rng_state()
    first, second = resnet18(seed=3), resnet18(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layers_are_exchangeable(memory_format: torch.memory_format) -> None:
    """A training step on either namespace, each against float64: eighteen layers of Winograd may add up to a few times
    what torch's own sums lose.
    """
    x = torch.randn(2, 3, 64, 64).to(memory_format=memory_format)

    def step(layers: types.ModuleType, dtype: torch.dtype) -> list[torch.Tensor]:
        model = resnet18(layers, classes=10, seed=0).to(dtype).to(memory_format=memory_format)
        y = model(x.to(dtype))
        y.square().mean().backward()
        weights = (model.conv1.weight, model.layer4[1].conv2.weight)
        return [y.detach().double(), *(weight.grad.double() for weight in weights)]

    truth, plain = step(torch.nn, torch.float64), step(torch.nn, torch.float32)
    for want, theirs, ours in zip(truth, plain, step(fastconv.nn, torch.float32), strict=True):
        assert ours.shape == want.shape
        assert (ours - want).abs().max() <= 5 * (theirs - want).abs().max()
