"""Packed weights: made once, used while the weight is unchanged, never stale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import fastconv
from fastconv import _native
from fastconv.nn import Conv2d

ops = torch.ops.fastconv
ONE = ((1, 1), (1, 1), (1, 1), 1)


def packing_kernels() -> list[str]:
    """The fprop rows of this machine that pack a 3x3 weight."""
    assert _native.lib is not None
    weight, names, index = torch.ones(16, 16, 3, 3), [], 0
    while (row := _native.lib.fastconv_kernel_name(index)) is not None:
        index += 1
        if b"_fprop_" not in row:
            continue
        try:
            packed = ops.conv_pack(weight, (1, 16, 8, 8), True, *ONE, kernel_name=row.decode())
        except RuntimeError:  # the row does not take the problem, or not this machine
            continue
        if packed.numel():
            names.append(row.decode())
    return names


KERNELS = packing_kernels()


def layer_and_input() -> tuple[Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    layer = Conv2d(16, 16, 3, padding=1).eval().requires_grad_(False)
    return layer, torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)


def assert_same(out: torch.Tensor, expected: torch.Tensor) -> None:
    """A stale pack is wrong in the first digit; F(4x4) errs in the sixth of the largest output."""
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def check(layer: Conv2d, x: torch.Tensor) -> None:
    assert_same(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))


def set_data(layer: Conv2d) -> None:
    layer.weight.data = torch.randn(16, 16, 3, 3)


def set_data_twice(layer: Conv2d) -> None:
    layer.weight.data = torch.empty(0)
    layer.weight.data = torch.randn(16, 16, 3, 3)


def step(layer: Conv2d) -> None:
    layer.weight.requires_grad_()
    layer.weight.grad = torch.randn_like(layer.weight)
    torch.optim.SGD([layer.weight], lr=1.0).step()
    layer.weight.requires_grad_(False)


def there_and_back(layer: Conv2d) -> None:
    layer.double().float()


def other_strides(layer: Conv2d) -> None:
    layer.weight.data = layer.weight.data.transpose(0, 1)


CHANGES: list[Callable[[Conv2d], object]] = [
    lambda layer: layer.weight.mul_(2),
    lambda layer: layer.weight.copy_(torch.randn(16, 16, 3, 3)),
    lambda layer: layer.weight[0].zero_(),
    lambda layer: layer.load_state_dict(Conv2d(16, 16, 3, padding=1).state_dict()),
    lambda layer: layer.load_state_dict(Conv2d(16, 16, 3, padding=1).state_dict(), assign=True),
    lambda layer: setattr(layer, "weight", torch.nn.Parameter(torch.randn(16, 16, 3, 3), False)),
    lambda layer: layer.to(memory_format=torch.channels_last),
    lambda layer: layer.reset_parameters(),
    lambda layer: torch._foreach_mul_([layer.weight], 3.0),
    there_and_back,
    set_data,
    set_data_twice,
    other_strides,
    step,
]


@pytest.mark.parametrize("change", CHANGES)
def test_never_stale(change) -> None:
    layer, x = layer_and_input()
    for kernel in [*KERNELS, "conv_fprop_ref"]:
        with fastconv.use(kernel):
            check(layer, x)
            check(layer, x)
            change(layer)
            check(layer, x)
            for _ in range(3):  # addresses that the allocator may give out again
                layer.weight = torch.nn.Parameter(torch.randn(16, 16, 3, 3), False)
                check(layer, x)


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_once_for_every_image_size(kernel) -> None:
    layer, x = layer_and_input()
    with fastconv.use(kernel):
        for size in (8, 8, 12, 9):
            check(
                layer, torch.randn(2, 16, size, size).contiguous(memory_format=torch.channels_last)
            )
        assert layer._pack_cache is not None
        assert layer._pack_cache.packings == 1
        assert layer._pack_cache.bytes > layer.weight.numel()
        layer.weight.add_(1)
        check(layer, x)
        assert layer._pack_cache.packings == 2
        layer.train()
        assert layer._pack_cache is None


def test_a_layer_that_asks_for_gradients_packs_nothing() -> None:
    layer, x = layer_and_input()
    layer.requires_grad_()
    layer(x).sum().backward()
    assert layer._pack_cache is None or layer._pack_cache.packings == 0
    assert layer.weight.grad is not None


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_tensor_of_the_op(kernel) -> None:
    layer, x = layer_and_input()
    packed = ops.conv_pack(layer.weight, x.shape, True, *ONE, kernel_name=kernel)
    out = ops.conv(x, layer.weight, layer.bias, *ONE, packed=packed)
    assert fastconv.last_kernel("fprop") == kernel
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    assert_same(out, expected)
    # What was packed for other extents, or is no packed weight at all, is not read.
    other = torch.randn(8, 16, 3, 3)
    for junk in (packed, torch.zeros(1000, dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8)):
        out = ops.conv(x, other, None, *ONE, packed=junk)
        assert_same(out, F.conv2d(x, other, padding=1))
