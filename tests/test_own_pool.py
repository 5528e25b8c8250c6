"""Pools that torch does not have: stochastic pooling and LeNet's sub-sampling."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import Tensor

import fastconv
import fastconv.functional as ours
from fastconv.ops import own_pool
from fastconv.policy import last_kernel

ops = torch.ops.fastconv
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def activations(
    sizes: tuple[int, ...], dtype: torch.dtype = torch.float32, last: bool = False
) -> Tensor:
    """Behind a ReLU: a third of them 0."""
    x = (torch.rand(sizes, generator=seeded(1), dtype=torch.float64) * 1.5 - 0.5).relu().to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def windows(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """[N, C, P, Q, inputs of a window], padding as 0."""
    x = F.pad(x, (padding,) * 4)
    return x.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_a_sample_is_what_the_number_names(dtype: torch.dtype, last: bool) -> None:
    x = activations((2, 19, 9, 8), dtype, last).requires_grad_()
    given = {"kernel_size": 3, "stride": 2, "padding": 1}
    y = ours.stochastic_pool2d(x, **given, generator=seeded())
    assert str(last_kernel("fprop", "pool")).startswith(
        "pool_fprop_ref" if dtype == torch.float64 else "pool_fprop_direct_nhwc"
    )
    wide = dtype if dtype == torch.float64 else torch.float32
    uniform = torch.rand(y.shape, generator=seeded(), dtype=wide)
    inputs = windows(x.detach().to(wide), 3, 2, 1)
    sums = inputs.cumsum(-1)
    place = ((sums <= uniform[..., None] * sums[..., -1:]) & (sums < sums[..., -1:])).sum(-1)
    want = inputs.gather(-1, place[..., None]).squeeze(-1).to(dtype)
    assert torch.equal(y, want)
    assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    # The gradient goes to the input that was drawn, and to no other.
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    numbers = windows(torch.arange(1.0, 73.0).reshape(1, 1, 9, 8), 3, 2, 1).long() - 1
    index = numbers.expand(inputs.shape).gather(-1, place[..., None]).squeeze(-1)
    first = (numbers >= 0).int().argmax(-1, keepdim=True)
    index = torch.where(sums[..., -1] > 0, index, numbers.gather(-1, first).squeeze(-1))
    want_dx = torch.zeros(2, 19, 72).scatter_add_(
        2, index.flatten(2), torch.ones_like(index.flatten(2)).float()
    )
    assert torch.equal(dx.float().flatten(2), want_dx)


def chi_square(counts: Tensor, shares: Tensor) -> float:
    draws = counts.sum()
    seen = shares > 0
    assert counts[~seen].sum() == 0
    return float(((counts - draws * shares)[seen] ** 2 / (draws * shares[seen])).sum())


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_shares_of_many_draws(last: bool) -> None:
    """Of 20000 draws of one window the inputs have their shares, and overlapping windows are drawn
    each for itself. The bounds are those that chance passes once in 10000 times.
    """
    draws = 20000
    image = torch.tensor([[1.0, 2.0, 3.0, 0.0], [4.0, 5.0, 6.0, 7.5], [0.5, 0.0, 8.0, 9.0]])
    x = image.repeat(draws, 1, 1, 1)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = ours.stochastic_pool2d(x, 3, 1, generator=seeded(3))[:, 0, 0]
    left, right = image[:, :3].flatten(), image[:, 1:].flatten()
    joint = torch.zeros(len(left), len(right))
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            joint[i, j] = ((y[:, 0] == a) & (y[:, 1] == b)).sum()
    assert joint.sum() == draws
    shares = [each / each.sum() for each in (left, right)]
    assert chi_square(joint.sum(1), shares[0]) < 31.8  # 8 inputs that can be drawn
    assert chi_square(joint.sum(0), shares[1]) < 29.9  # 7
    # Independent: the joint shares are the products.
    assert chi_square(joint.flatten(), (shares[0][:, None] * shares[1]).flatten()) < 103.0


def test_reproducible_by_the_generator() -> None:
    x = activations((2, 8, 12, 12))
    one = ours.stochastic_pool2d(x, 2, generator=seeded(5))
    assert torch.equal(one, ours.stochastic_pool2d(x, 2, generator=seeded(5)))
    assert not torch.equal(one, ours.stochastic_pool2d(x, 2, generator=seeded(6)))
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, ours.stochastic_pool2d(last, 2, generator=seeded(5)))
    with fastconv.use("pool_fprop_ref"):
        assert torch.equal(one, ours.stochastic_pool2d(x, 2, generator=seeded(5)))
    layer = fastconv.nn.StochasticPool2d(2).train()
    torch.manual_seed(7)
    first = layer(x)
    torch.manual_seed(7)
    assert torch.equal(first, layer(x))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_expectation(dtype: torch.dtype) -> None:
    x = activations((2, 5, 9, 8), dtype)
    x[0, 0] = 0
    y = fastconv.nn.StochasticPool2d(3, 2, 1).eval()(x)
    inputs = windows(x.double(), 3, 2, 1)
    want = inputs.square().sum(-1) / inputs.sum(-1).clamp(min=1e-300)
    assert_close(y, want.to(dtype))
    assert (y[0, 0] == 0).all() and y.dtype == dtype


def test_windows_of_zeros_and_padding() -> None:
    x = torch.zeros(1, 9, 5, 5)
    assert (ours.stochastic_pool2d(x, 3, 2, 1) == 0).all()
    x[0, :, 4, 4] = 2  # alone in its windows: padding is never drawn
    y = ours.stochastic_pool2d(x, 3, 2, 1)
    assert (y[0, :, 2, 2] == 2).all() and y.sum() == 18


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, -math.inf])
def test_activations_by_which_nothing_can_be_drawn(value: float) -> None:
    x = activations((1, 9, 4, 4))
    x[0, 3, 1, 1] = value
    for training in (True, False):
        with pytest.raises(ValueError, match=f"input has {value}; stochastic pooling draws by"):
            ours.stochastic_pool2d(x, 2, training=training)
    # Where nobody looks: the negative count as 0, what is no number gives NaN.
    for kernel in ("", "pool_fprop_ref"):
        y, index = ops.stochastic_pool(
            x, torch.full((1, 9, 2, 2), 0.5), [2, 2], [2, 2], [0, 0], "i64", kernel
        )
        if value == -0.5:
            assert torch.isfinite(y).all() and (y >= 0).all() and not (index == 5)[0, 3].any()
        else:
            assert torch.isnan(y).sum() == (0 if value == -math.inf else 1)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"kernel_size": 0}, ValueError, "kernel_size is 0; it must be at least 1"),
    ({"kernel_size": 2.0}, TypeError, "kernel_size is 2.0; it must be an integer or two"),
    ({"kernel_size": (2, 2, 2)}, TypeError, "kernel_size is"),
    ({"kernel_size": 7}, ValueError, "kernel_size is 7; input with sizes .* is smaller"),
    ({"stride": 0}, ValueError, "stride is 0"),
    ({"input": torch.zeros(4, 4)}, ValueError, "input has sizes"),
    ({"input": torch.zeros(1, 3, 4, 4, dtype=torch.int32)}, TypeError, "input has dtype torch.int32"),
    ({"input": 3}, TypeError, "input is a int"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "match"), BAD, ids=[match for _, _, match in BAD])
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    given: dict[str, Any] = {"input": torch.zeros(1, 3, 6, 6), "kernel_size": 2} | change
    with pytest.raises(error, match=match):
        ours.stochastic_pool2d(**given)
    with pytest.raises(error, match=match):
        ours.sub_sample2d(given.pop("input"), torch.ones(3), torch.ones(3), **given)


def test_bad_arguments_of_one_alone() -> None:
    x = torch.zeros(1, 3, 6, 6)
    with pytest.raises(ValueError, match="padding is 2; it must be at most half of kernel_size 2"):
        ours.stochastic_pool2d(x, 2, padding=2)
    with pytest.raises(
        ValueError, match=r"weight has sizes \(2,\); an input with sizes .* needs \(3,\)"
    ):
        ours.sub_sample2d(x, torch.ones(2), torch.ones(3), 2)
    with pytest.raises(
        TypeError,
        match=r"bias has dtype torch.float16; an input of torch.float32 needs a tensor of torch.float32",
    ):
        ours.sub_sample2d(x, torch.ones(3), torch.ones(3).half(), 2)
    with pytest.raises(ValueError, match="channels is 0"):
        fastconv.nn.SubSample2d(0)
    with pytest.raises(RuntimeError, match="sub_sample takes weight and bias"):
        ops.sub_sample(x, torch.ones(2), torch.ones(3), [2, 2], [2, 2])
    with pytest.raises(RuntimeError, match="stochastic_pool takes uniform of the output's sizes"):
        ops.stochastic_pool(x, torch.ones(1, 3, 3, 2), [2, 2], [2, 2], [0, 0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_sub_sampling(dtype: torch.dtype, last: bool) -> None:
    layer = fastconv.nn.SubSample2d(19, 3, 2, dtype=dtype)
    x = torch.randn(2, 19, 9, 8, generator=seeded()).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    assert_close(layer(x), F.avg_pool2d(x, 3, 2))  # as it begins
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, 19))
        layer.bias.copy_(torch.linspace(1, -1, 19))
    x.requires_grad_()
    y = layer(x)
    row = "ref" if dtype == torch.float64 else "direct_nhwc" if last else "direct_nchw"
    assert str(last_kernel("fprop", "pool")).startswith(f"pool_fprop_{row}")
    assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    sums = windows(x.double(), 3, 2, 0).sum(-1)
    weight, bias = (t.detach().double().requires_grad_() for t in (layer.weight, layer.bias))
    want = sums * weight[:, None, None] + bias[:, None, None]
    assert_close(y, want.to(dtype))
    dy = torch.randn(y.shape, generator=seeded()).to(dtype)
    have = torch.autograd.grad(y, (x, layer.weight, layer.bias), dy)
    wanted = torch.autograd.grad(want, (x, weight, bias), dy.double())
    for mine, other in zip(have, wanted, strict=True):
        assert mine.dtype == dtype
        bound = {torch.bfloat16: 0.05, torch.float16: 0.01}.get(dtype, 1e-4)
        scale = float(other.abs().max())
        torch.testing.assert_close(mine.double(), other.double(), rtol=bound, atol=bound * scale)


def sub(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ours.sub_sample2d(x, weight, bias, (3, 2), (2, 1))


def test_derivatives() -> None:
    given = tuple(
        torch.randn(sizes, generator=seeded(), dtype=torch.float64, requires_grad=True)
        for sizes in ((2, 3, 6, 5), (3,), (3,))
    )
    torch.autograd.gradcheck(sub, given, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(sub, given)
    x = (torch.rand(2, 3, 6, 5, generator=seeded(), dtype=torch.float64) + 0.1).requires_grad_()

    def mean(t: Tensor) -> Tensor:
        return ours.stochastic_pool2d(t, 3, 2, 1, training=False)

    torch.autograd.gradcheck(mean, x, check_forward_ad=True)
    torch.autograd.gradgradcheck(mean, x)
    # By the same numbers a small step draws the same inputs, none being near a border.
    uniform = torch.rand(2, 3, 3, 3, generator=seeded(2), dtype=torch.float64)

    def drawn(t: Tensor) -> Tensor:
        return own_pool.sample(t, uniform, [3, 3], [2, 2], [1, 1], "u8")

    torch.autograd.gradcheck(drawn, x, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(drawn, x)


def test_transforms() -> None:
    batch = activations((4, 2, 3, 6, 5))
    weight, bias = torch.randn(4, 3), torch.randn(4, 3)
    want = torch.stack([sub(*each) for each in zip(batch, weight, bias, strict=True)])
    assert_close(torch.func.vmap(sub)(batch, weight, bias), want)
    mean = torch.func.vmap(lambda t: ours.stochastic_pool2d(t, 2, training=False))(batch)
    assert_close(
        mean, ours.stochastic_pool2d(batch.flatten(0, 1), 2, training=False).unflatten(0, (4, 2))
    )
    draw = torch.func.vmap(lambda t: ours.stochastic_pool2d(t, 2), randomness="different")
    torch.manual_seed(0)
    y = draw(batch)
    found = windows(batch.flatten(0, 1), 2, 2, 0).unflatten(0, (4, 2)) == y[..., None]
    assert found.any(-1).all()


def test_in_its_own_words() -> None:
    """What runs without the native library says the same."""
    x, uniform = activations((2, 5, 9, 8)), torch.rand(2, 5, 5, 4, generator=seeded())
    x[1, 2] = 0
    x[1, 3, 2, 2] = float("nan")
    given = (x, uniform, [3, 3], [2, 2], [1, 1])
    want = own_pool._stochastic_of_torch(*given)
    for kernel in ("", "pool_fprop_ref"):
        have = ops.stochastic_pool(*given, "i64", kernel)
        for mine, other in zip(have, want, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)
    given = (x.nan_to_num(), torch.randn(5), torch.randn(5), [3, 2], [2, 1])
    assert_close(own_pool._sub_sample_of_torch(*given), ops.sub_sample(*given))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_the_ops_tell_torch_the_truth(last: bool) -> None:
    x = activations((2, 8, 6, 5), last=last).requires_grad_()
    uniform = torch.rand(2, 8, 3, 2)
    for index in ("i64", "u8"):
        torch.library.opcheck(
            ops.stochastic_pool.default, (x, uniform, [2, 2], [2, 2], [0, 0], index),
            test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
        )  # fmt: skip
    given = (
        x,
        torch.randn(8, requires_grad=True),
        torch.randn(8, requires_grad=True),
        [2, 2],
        [2, 2],
    )
    torch.library.opcheck(ops.sub_sample.default, given)


def test_compiled_and_exported() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), fastconv.nn.StochasticPool2d(2),
        fastconv.nn.SubSample2d(6), torch.nn.Sigmoid(),
    )  # fmt: skip
    x = torch.randn(2, 3, 14, 14)
    want = model.eval()(x)
    assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), want)
    graph = torch.export.export(model, (x,))
    assert "fastconv.sub_sample.default" in str(graph.graph)
    assert_close(graph.module()(x), want)
    assert_close(torch.jit.trace(model, x)(x), want)
    torch.manual_seed(0)
    compiled = torch.compile(model.train(), backend="aot_eager", fullgraph=True, dynamic=True)
    compiled(x).sum().backward()
    assert compiled(torch.randn(3, 3, 18, 16)).shape == (3, 6, 4, 3)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert set(model.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert "SubSample2d(6, kernel_size=2, stride=2)" in str(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model(x)).all()
