"""Who watches a call, and what each watcher gets to see of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fastconv
from fastconv.ops.watch import FUNCTION, OP, SHORT, TORCH, way_of

X, W, B = torch.randn(2, 4, 6, 6), torch.randn(4, 4, 3, 3), torch.randn(4)
FUNCTIONS = ["conv2d", "conv_transpose2d"]


@pytest.fixture(autouse=True)
def known_geometry() -> None:
    for name in FUNCTIONS:
        getattr(fastconv.functional, name)(X, W, B)


class Seen(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.functions: list[object] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.append(str(func))
        return func(*args, **(kwargs or {}))


class OnlyConv(torch.Tensor):
    """Knows torch's convolutions, and raises for whatever else it is asked."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in (F.conv2d, F.conv_transpose2d):
            raise TypeError(f"asked for {func}")
        plain = [a.as_subclass(torch.Tensor) if type(a) is cls else a for a in args]
        kwargs = {
            k: v.as_subclass(torch.Tensor) if type(v) is cls else v for k, v in kwargs.items()
        }
        with torch._C.DisableTorchFunctionSubclass():
            return func(*plain, **kwargs)


def test_ways() -> None:
    assert way_of(X, W) == way_of(X, W, B) == way_of(nn.Parameter(X), nn.Parameter(W)) == SHORT
    assert way_of(X, "weight") == way_of(None, W) == TORCH
    special = X.as_subclass(OnlyConv)
    assert way_of(special, W) == way_of(X, special) == way_of(X, W, special) == TORCH
    with Dispatched():
        assert way_of(X, W, B) == OP
        assert torch.func.vmap(lambda x: torch.tensor(way_of(x, W)))(X).eq(FUNCTION).all()
    with forward_ad.dual_level():
        assert way_of(X, W) == FUNCTION
    with Seen():
        assert way_of(X, W) == TORCH
    with torch.device("cpu"):
        assert way_of(X, W) == SHORT
        with Seen():
            assert way_of(X, W) == TORCH
    with torch._subclasses.FakeTensorMode() as mode:
        assert way_of(mode.from_tensor(X), mode.from_tensor(W)) == OP


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_subclass_is_asked_for_torchs_function_alone(name: str, place: int) -> None:
    given = [X, W, B]
    want = getattr(F, name)(*given)
    given[place] = given[place].as_subclass(OnlyConv)
    assert_close(getattr(fastconv.functional, name)(*given), want)
    layer = (nn.ConvTranspose2d if "transpose" in name else nn.Conv2d)(4, 4, 3)
    layer.weight, layer.bias = nn.Parameter(W), nn.Parameter(B)
    fastconv.convert(layer.eval())
    for state in (layer, layer.train()):
        if place == 0:
            assert_close(state(given[0]), want)
        else:
            names = {1: "weight", 2: "bias"}
            swapped = {names[place]: given[place]}
            assert_close(torch.func.functional_call(state, swapped, (X,)), want)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_mode_sees_torchs_function(name: str) -> None:
    with Seen() as seen:
        out = getattr(fastconv.functional, name)(X, W, B)
    assert seen.functions == [getattr(F, name)]
    assert_close(out, getattr(F, name)(X, W, B))


def test_a_default_device_is_no_watcher() -> None:
    with torch.device("cpu"), fastconv.use("conv_fprop_ref"):
        fastconv.functional.conv2d(X, W)
        assert fastconv.last_kernel("fprop") == "conv_fprop_ref"


def test_a_dispatch_mode_sees_our_op() -> None:
    with Dispatched() as seen:
        fastconv.functional.conv2d(X, W, B)
        fastconv.functional.conv_transpose2d(X, W, B)
        torch.func.vmap(lambda x: fastconv.functional.conv2d(x, W))(X[:, None])
    assert [op for op in seen.ops if "fastconv" in op] == [
        "fastconv.conv.default",
        "fastconv.conv_dgrad.default",
        "fastconv.conv.default",
    ]


class Net(nn.Module):
    def __init__(self, axes: int) -> None:
        super().__init__()
        torch.manual_seed(axes)
        self.conv = getattr(nn, f"Conv{axes}d")(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x).flatten(2).mean(2))


@pytest.mark.parametrize("frozen", [(), ("conv.weight",), ("conv.bias",)], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_per_sample_gradients(axes: int, training: bool, frozen: tuple[str, ...]) -> None:
    x = torch.randn(5, 3, *(4,) * axes)
    found = []
    for convert in (False, True):
        net = Net(axes).train(training)
        if convert:
            assert fastconv.convert(net).swapped == ["conv"]
            net(x)
        for name in frozen:
            net.get_parameter(name).requires_grad_(False)
        call_for_per_sample_grads(net)(x).square().sum().backward()
        found.append({n: p.grad_sample for n, p in net.named_parameters() if p.requires_grad})
    for name, want in found[0].items():
        assert want.shape[0] == 5
        assert_close(found[1][name], want)
