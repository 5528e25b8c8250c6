"""ResNet-18: torchvision's parameters and names, the same network on either namespace."""

from __future__ import annotations

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
    plain, ours = resnet18(classes=10, seed=0), resnet18(fastconv.nn, classes=10, seed=1)
    ours.load_state_dict(plain.state_dict())
    plain, ours = (m.to(memory_format=memory_format) for m in (plain, ours))
    x = torch.randn(2, 3, 64, 64).to(memory_format=memory_format)
    outputs = []
    for model in (plain, ours):
        y = model(x)
        y.square().mean().backward()
        outputs.append((y.detach(), model.conv1.weight.grad, model.layer4[1].conv2.weight.grad))
    for want, have in zip(*outputs, strict=True):
        assert have.shape == want.shape
        error = (have - want).abs().max() / want.abs().max()
        assert error < 1e-3
