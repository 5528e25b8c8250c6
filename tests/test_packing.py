"""Packed weights: made once, used while the weight is unchanged, never stale."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import fastconv
from fastconv import _native
from fastconv.nn import Conv2d
from fastconv.nn.conv import PackCache
from fastconv.ops.conv import geometry_id
from fastconv.ops.formulas import Geometry

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


def fused_step(layer: Conv2d) -> None:
    """A fused optimizer does not raise the version counter."""
    layer.weight.requires_grad_()
    layer.weight.grad = torch.randn_like(layer.weight)
    torch.optim.Adam([layer.weight], lr=0.5, fused=True).step()
    layer.weight.requires_grad_(False)


def through_numpy(layer: Conv2d) -> None:
    layer.weight.numpy()[3, 5, 1, 2] += 4


def one_element(layer: Conv2d) -> None:
    layer.weight.data[15, 15, 2, 2] += 4


def two_signs(layer: Conv2d) -> None:
    layer.weight.data[0, 0, 0, 0].neg_()
    layer.weight.data[8, 0, 0, 0].neg_()


def exchange_of_filters(layer: Conv2d) -> None:
    layer.weight.data[:2] = layer.weight.data[:2].flip(0).clone()


def under_inference_mode(layer: Conv2d) -> None:
    with torch.inference_mode():
        layer.weight.data.mul_(3)


def shared_memory(layer: Conv2d) -> None:
    layer.weight.share_memory_()
    other = torch.empty(0).set_(layer.weight.untyped_storage())
    other.mul_(2)


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
    fused_step,
    through_numpy,
    one_element,
    two_signs,
    exchange_of_filters,
    under_inference_mode,
    shared_memory,
    lambda layer: layer.weight.data.add_(1),
    lambda layer: layer.weight.data.copy_(torch.randn(16, 16, 3, 3)),
    lambda layer: setattr(layer.weight, "data", layer.weight.data + 1),
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


@pytest.mark.parametrize("channels", [(1, 1), (7, 5), (65, 65), (190, 160)])
def test_every_element_counts(channels: tuple[int, int]) -> None:
    """Of weights that are no multiple of what a fingerprint takes at once, one of them by threads."""
    layer = Conv2d(channels[1], channels[0], 3).eval().requires_grad_(False)
    with torch.no_grad():
        layer.bias.zero_()
    x = torch.ones(1, channels[1], 3, 3)
    elements = layer.weight.numpy().reshape(channels[0], -1)
    layer(x)
    places = {0, 1, elements.size // 2, elements.size - 1, *range(31, elements.size, 9973)}
    for place in places:
        k = place // elements.shape[1]
        before = float(layer(x).flatten()[k])
        elements[k, place % elements.shape[1]] += 1
        assert float(layer(x).flatten()[k]) == pytest.approx(before + 1, abs=1e-3)


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


def test_memory_given_back_and_taken_again() -> None:
    """The same address, sizes and version, other numbers."""
    x = torch.randn(1, 16, 8, 8)
    layer = Conv2d(16, 16, 3, padding=1).eval().requires_grad_(False)
    memory = torch.randn(2, 16, 16, 3, 3)
    for kernel in KERNELS:
        with fastconv.use(kernel):
            for values in (torch.randn(16, 16, 3, 3), torch.randn(16, 16, 3, 3)):
                memory.numpy()[0] = values.numpy()
                layer.weight = torch.nn.Parameter(memory[0].detach(), False)
                check(layer, x)


def test_two_contents_in_turn_take_no_more_memory() -> None:
    layer, x = layer_and_input()
    first, second = layer.weight.detach().clone(), torch.randn(16, 16, 3, 3)
    with fastconv.use(KERNELS[0]):
        check(layer, x)
        assert layer._pack_cache is not None
        held = layer._pack_cache.bytes
        for _ in range(3):
            for content in (second, first):
                layer.weight.data.copy_(content)
                check(layer, x)
                assert layer._pack_cache.bytes == held
        assert layer._pack_cache.packings == 7


def other_groups(layer: Conv2d) -> torch.Tensor:
    layer.groups = 4
    return torch.randn(2, 64, 14, 14)


ATTRIBUTES = {
    "groups": other_groups,
    "stride": lambda layer: setattr(layer, "stride", (2, 1)),
    "padding": lambda layer: setattr(layer, "padding", (0, 2)),
    "dilation": lambda layer: setattr(layer, "dilation", (1, 2)),
    "filter": lambda layer: setattr(layer.weight, "data", torch.randn(16, 16, 1, 5)),
    "outputs": lambda layer: setattr(layer.weight, "data", torch.randn(24, 16, 3, 3)),
    "inputs": lambda layer: setattr(layer.weight, "data", torch.randn(16, 32, 3, 3)),
    "dtype": lambda layer: layer.double(),
    "bfloat16": lambda layer: layer.bfloat16(),
    "memory format": lambda layer: layer.to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_a_packing_depends_on_is_in_its_key(name, frozen) -> None:
    """Each attribute of a living layer is changed and changed back, on every kernel that takes it."""
    for kernel in [*KERNELS, ""]:
        layer = Conv2d(16, 16, 3, padding=1, bias=False).eval().requires_grad_(False)
        cache = PackCache()

        def serve(x: torch.Tensor, layer: Conv2d = layer, cache: PackCache = cache) -> None:
            w = layer.weight
            geometry = Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)
            try:
                out = ops._conv_packed(
                    x, w, None, geometry_id(geometry), cache.id, w._version if frozen else -1
                )
            except RuntimeError as error:
                assert "does not take" in str(error)  # the named kernel, what was changed
                return
            expected = F.conv2d(x.double(), w.double(), None, *geometry)
            bound = 0.05 if x.dtype == torch.bfloat16 else 1e-5
            torch.testing.assert_close(
                out.double(), expected, rtol=0, atol=bound * float(expected.abs().max())
            )

        before = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        w = layer.weight.data
        with fastconv.use(*filter(None, [kernel])):
            x = torch.randn(2, 16, 14, 14)
            serve(x)
            other = ATTRIBUTES[name](layer)
            if not isinstance(other, torch.Tensor):
                other = torch.randn(2, layer.weight.shape[1] * layer.groups, 14, 14)
            other = other.to(layer.weight.dtype)
            serve(other)
            serve(other)
            layer.groups, layer.weight.data = 1, w
            for attribute, value in before.items():
                setattr(layer, attribute, value)
            serve(x)


def dgrad_kernels() -> list[str]:
    weight, names, index = torch.ones(16, 16, 3, 3), [], 0
    while (row := _native.lib.fastconv_kernel_name(index)) is not None:
        index += 1
        if b"_dgrad_" not in row:
            continue
        for stride in ((1, 1), (2, 2)):
            try:
                packed = ops.conv_pack(
                    weight, (1, 16, 8, 8), True, stride, *ONE[1:], direction="dgrad",
                    kernel_name=row.decode(),
                )  # fmt: skip
            except RuntimeError:
                continue
            if packed.numel() and row.decode() not in names:
                names.append(row.decode())
    return names


@pytest.mark.parametrize("kernel", ["", *dgrad_kernels()])
def test_transposed_convolutions_pack_too(kernel) -> None:
    """A dgrad's packing follows from stride, padding and dilation: one cache, one weight, all of them."""
    torch.manual_seed(0)
    w = torch.randn(16, 16, 3, 3)
    x = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    cache = PackCache()
    served = 0
    with fastconv.use(*filter(None, [kernel])):
        for _ in range(2):
            for stride in ((1, 1), (2, 2), (2, 1), (3, 3)):
                for padding in ((0, 0), (1, 1), (2, 1)):
                    for dilation in ((1, 1), (2, 1), (3, 3)):
                        geometry = Geometry(stride, padding, dilation, 1)
                        number = geometry_id(geometry, (0, 0))
                        try:
                            out = ops._conv_packed(x, w, None, number, cache.id, -1)
                        except RuntimeError as error:
                            assert "does not take" in str(error)
                            continue
                        served += 1
                        assert_same(
                            out, F.conv_transpose2d(x, w, None, stride, padding, 0, 1, dilation)
                        )
    assert served
    assert cache.packings <= served // 2


def test_packed_dgrad_of_another_padding_is_not_read() -> None:
    w = torch.randn(16, 16, 3, 3)
    dy = torch.randn(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    for kernel in dgrad_kernels():
        for stride, padding, other in (((2, 2), (1, 1), (0, 0)), ((1, 1), (1, 1), (0, 0))):
            size = [1, 16] + [7 * s - 2 * other[0] + 3 for s in stride]
            made_for = [1, 16] + [7 * s - 2 * padding[0] + 3 for s in stride]
            try:
                packed = ops.conv_pack(
                    w, made_for, True, stride, padding, (1, 1), 1, direction="dgrad",
                    kernel_name=kernel,
                )  # fmt: skip
            except RuntimeError:
                continue
            out = ops.conv_dgrad(dy, w, None, size, stride, other, (1, 1), 1, packed=packed)
            assert_same(out, F.conv_transpose2d(dy, w, None, stride, other))


def test_threads_share_a_cache() -> None:
    x, number = torch.randn(1, 16, 8, 8), geometry_id(Geometry(*ONE))
    weights = [torch.randn(16, 16, 3, 3) for _ in range(3)]
    expected = [F.conv2d(x, w, padding=1) for w in weights]
    cache, wrong = PackCache(), []

    def work(seed: int) -> None:
        with fastconv.use(KERNELS[0]):
            for i in range(200):
                which = (seed + i // 7) % 3
                out = ops._conv_packed(
                    x, weights[which], None, number, cache.id, 0 if i % 5 == 0 else -1
                )
                if not torch.allclose(out, expected[which], atol=1e-3):
                    wrong.append(which)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


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
