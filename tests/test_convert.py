"""fastconv.convert."""

from __future__ import annotations

import torch
from helpers_torch import assert_close
from torch import nn

import fastconv


class Own(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU()),
        Own(4, 4, 1),
        nn.ConvTranspose2d(4, 2, 2),
    )


def test_swaps_in_place_and_reports() -> None:
    net = model().eval()
    x = torch.randn(2, 3, 8, 8)
    expected, state, first = net(x), net.state_dict(), net[0]
    parameters = list(net.parameters())
    calls: list[int] = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    report = fastconv.convert(net)
    assert report.swapped == ["0", "2.0"]
    assert set(report.left) == {"3", "4"}
    assert "Own" in report.left["3"] and "enable()" in report.left["4"]
    assert "2 layers swapped, 2 left" in str(report)
    assert net[0] is first and isinstance(first, fastconv.nn.Conv2d)
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    assert list(net.state_dict()) == list(state)
    assert_close(net(x), expected)
    with torch.no_grad():
        assert_close(net(x), expected)
    assert len(calls) == 2
    assert fastconv.convert(net).swapped == []


def test_a_layer_alone_and_a_shared_one() -> None:
    layer = nn.Conv2d(3, 3, 1)
    assert fastconv.convert(layer).swapped == [""]
    shared = nn.Conv2d(3, 3, 1)
    assert len(fastconv.convert(nn.Sequential(shared, shared)).swapped) == 1


def test_trains_like_the_original() -> None:
    losses = []
    for convert in (False, True):
        net = model()
        if convert:
            fastconv.convert(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        torch.manual_seed(1)
        x = torch.randn(4, 3, 8, 8)
        for _ in range(4):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    assert_close(losses[1], losses[0])
