"""fastconv.convert."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
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


def every_kind() -> nn.ModuleDict:
    return nn.ModuleDict(
        {f"{kind}{axes}d": getattr(nn, f"{kind}{axes}d")(2, 4, 3)
         for kind in ("Conv", "ConvTranspose") for axes in (1, 2, 3)}
    )  # fmt: skip


def test_swaps_in_place_and_reports() -> None:
    net = model().eval()
    x = torch.randn(2, 3, 8, 8)
    expected, state, first = net(x), net.state_dict(), net[0]
    parameters = list(net.parameters())
    calls: list[int] = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    report = fastconv.convert(net)
    assert report.swapped == ["0", "2.0", "4"]
    assert set(report.left) == {"3"}
    assert "Own" in report.left["3"]
    assert "3 layers swapped, 1 left" in str(report)
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


def test_every_kind_there_and_back() -> None:
    net = every_kind()
    kinds = [type(layer) for layer in net.values()]
    held = [dict(layer.__dict__) for layer in net.values()]
    assert fastconv.convert(net).swapped == list(net)
    for name, layer in net.items():
        assert type(layer) is getattr(fastconv.nn, name)
        layer.eval()(torch.randn(1, 2, *(4,) * int(name[-2])))
        layer.train()
    report = fastconv.revert(net)
    assert report.swapped == list(net) and not report.left
    assert [type(layer) for layer in net.values()] == kinds
    assert [dict(layer.__dict__) for layer in net.values()] == held
    assert not fastconv.revert(net).swapped
    assert fastconv.convert(net).swapped == list(net)


def test_revert_of_one_that_was_made_ours() -> None:
    layer = fastconv.nn.ConvTranspose2d(2, 3, 3, stride=2).eval()
    x = torch.randn(1, 2, 5, 5)
    with torch.no_grad():
        want = layer(x, [12, 12])
        assert fastconv.revert(layer).swapped == [""]
        assert type(layer) is nn.ConvTranspose2d
        assert_close(layer(x, [12, 12]), want)


def test_what_is_left_says_why() -> None:
    net = nn.Sequential(
        nn.LazyConv2d(4, 3), torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    )
    left = fastconv.convert(net).left
    assert "call the model once" in left["0"]
    assert "ParametrizedConv2d" in left["1"]


def test_an_upscaling_network_is_ours_throughout() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ConvTranspose2d(16, 3, 4, 2, 1)).eval()
    x = torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        want = net(x)
        assert not fastconv.convert(net).left
        for _ in range(2):
            with fastconv.use("conv_fprop_ref", "conv_dgrad_ref"):
                assert_close(net(x), want)
                assert fastconv.last_kernel("fprop") == "conv_fprop_ref"
                assert fastconv.last_kernel("dgrad") == "conv_dgrad_ref"


@pytest.mark.parametrize("model", [3, None, [nn.ReLU()], nn.Conv2d], ids=repr)
def test_what_is_no_model_is_named(model: object) -> None:
    calls = (
        fastconv.convert,
        fastconv.revert,
        fastconv.freeze,
        fastconv.unfreeze,
        fastconv.explain,
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"it must be a torch\.nn\.Module"):
            call(model)


def test_freeze() -> None:
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, 2))
    assert fastconv.freeze(net) == []  # none of ours
    fastconv.convert(net)
    with pytest.raises(ValueError, match="eval"):
        fastconv.freeze(net)
    net.eval()
    assert fastconv.freeze(net) == ["0", "2"]
    layer = net[0]
    cache = layer._pack_cache
    assert cache is not None and cache.frozen
    x = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(3):
            assert_close(net(x), F.conv_transpose2d(
                F.conv2d(x, layer.weight, layer.bias, padding=1).relu(), net[2].weight, net[2].bias, 2
            ))  # fmt: skip
        # What is seen all the same, and stays frozen.
        for change in (
            lambda: net.load_state_dict(
                {k: torch.randn_like(v) for k, v in net.state_dict().items()}
            ),
            lambda: net.load_state_dict(
                {k: torch.randn_like(v) for k, v in net.state_dict().items()}, assign=True
            ),
            lambda: net.double().float(),
        ):
            change()
            assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
            assert layer._pack_cache is not None and layer._pack_cache.frozen
        copied = copy.deepcopy(net)
        assert copied[0]._pack_cache is None  # the promise is not the copy's
        fastconv.unfreeze(net)
        layer.weight.mul_(2)
        assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
        assert layer._pack_cache is not None and not layer._pack_cache.frozen
        fastconv.freeze(net)
        net.train().eval()
        assert layer._pack_cache is None
        layer.weight.data.add_(1)
        assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
